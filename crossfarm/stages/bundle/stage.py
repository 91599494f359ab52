"""Stage `bundle`: has the backend make compiled code into what goes onto a board."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from crossfarm.config.base import Declared, Name
from crossfarm.config.targets import Compiler
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=1,
    scope="cell",
    sources=(
        "crossfarm/stages/bundle/",
        "crossfarm/backends/__init__.py",
        "crossfarm/backends/protocol.py",
        "crossfarm/bundles/contents.py",
        "crossfarm/bundles/manifest.py",
        "crossfarm/bundles/order.py",
        "crossfarm/bundles/compile_report.py",
    ),
    calls_c_compiler=True,
    usual_seconds=2.0,
)


class _Toolchain(Declared):
    """What of a toolchain file shapes program and library."""

    name: Name
    backend: str
    compiler: Compiler | None
    linkage: Literal["dynamic", "static"]


class _Model(Declared):
    """What of a model's entry the bundle is named by."""

    name: Name
    variant: str


def needs(subject: Subject) -> Needs:
    """Depend on the compiled model and the inputs of the reference; what is linked also on runner and C compiler."""
    model, target, variant = subject.model, subject.target, subject.variant
    if model is None or target is None or variant is None:
        raise ValueError("the stage `bundle` is about a cell")
    linked = {}
    if target.compiler is not None and not target.is_freestanding:
        linked["runner"] = ("runner", None)
        if target.compiler.kind == "zig":
            # The C library is in zig's cache, not in an artifact that is laid out; it must be there before a link.
            linked["c_library"] = ("c_library", None)
    return Needs(
        parameters={
            f"toolchain {target.name}": subject.group(
                "bundle",
                target.name,
                make=lambda: {
                    "name": target.name,
                    "backend": target.backend,
                    "compiler": target.compiler.model_dump(mode="json") if target.compiler is not None else None,
                    "linkage": target.linkage,
                },
            ),
            f"model {model.name}": subject.group(
                "bundle",
                model.name,
                variant,
                make=lambda: {"name": model.name, "variant": variant},
            ),
        },
        inputs={"compile": ("compile", None), "reference": ("reference", None), **linked},
    )


def run(job: Job) -> None:
    """Write manifest.json, inputs/K.bin and what the backend makes: of tvm program, weights.bin, model.h and libraries.

    Raises:
        ToolError: the C compiler is missing or fails.
        BundleError: the compiled model and the reference do not belong together.
    """
    from crossfarm.backends import load_backend
    from crossfarm.bundles.order import BundleOrder, Linking
    from crossfarm.config.cell import Cell
    from crossfarm.util.paths import HOME

    toolchain = _Toolchain.model_validate(job.group("toolchain"))
    model = _Model.model_validate(job.group("model"))
    linking = None
    if toolchain.compiler is not None and "runner" in job.inputs:
        linking = Linking(
            compiler=toolchain.compiler,
            static=toolchain.linkage == "static",
            objects=Path(job.inputs["runner"]),
            runner=HOME / "runner",
        )
    order = BundleOrder(
        cell=Cell(model=model.name, target=toolchain.name, variant=model.variant),
        compiled=Path(job.inputs["compile"]),
        reference=Path(job.inputs["reference"]),
        linking=linking,
        compiler=toolchain.compiler,
    )
    load_backend(toolchain.backend).bundle(order, output=Path(job.output))
