"""Stage `bundle`: links compiled code with the runner into what goes onto a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from crossfarm.config.base import Declared, Name
from crossfarm.config.targets import CommandCompiler, ZigCompiler
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=1,
    scope="cell",
    sources=(
        "crossfarm/stages/bundle/",
        "crossfarm/stages/c_library/",
        "crossfarm/backends/__init__.py",
        "crossfarm/backends/protocol.py",
        "crossfarm/bundles/make.py",
        "crossfarm/bundles/manifest.py",
        "crossfarm/bundles/order.py",
        "crossfarm/bundles/compile_report.py",
        "crossfarm/bundles/linking/",
        "runner/library/",
        "runner/program/",
        "runner/server/",
    ),
    tools=("ziglang",),
    calls_c_compiler=True,
    usual_seconds=2.0,
)


class _Toolchain(Declared):
    """What of a toolchain file shapes program and library."""

    name: Name
    backend: str
    compiler: Annotated[ZigCompiler | CommandCompiler, Field(discriminator="kind")]
    linkage: Literal["dynamic", "static"]


class _Model(Declared):
    """What of a model's entry the bundle is named by."""

    name: Name
    variant: str


def needs(subject: Subject) -> Needs:
    """Depend on the compiled model, on the inputs of the reference, on the runner and on the C compiler."""
    model, target, variant = subject.model, subject.target, subject.variant
    if model is None or target is None or variant is None:
        raise ValueError("the stage `bundle` is about a cell")
    # The C library is in zig's cache, not in an artifact that would be laid out; but it must be there before a link.
    libraries = {"c_library": ("c_library", None)} if target.compiler.kind == "zig" else {}
    return Needs(
        parameters={
            f"toolchain {target.name}": subject.group(
                "bundle",
                target.name,
                make=lambda: {
                    "name": target.name,
                    "backend": target.backend,
                    "compiler": target.compiler.model_dump(mode="json"),
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
        inputs={
            "compile": ("compile", None),
            "reference": ("reference", None),
            "runner": ("runner", None),
            **libraries,
        },
    )


def run(job: Job) -> None:
    """Write manifest.json, program, weights.bin, inputs/K.bin, model.h and the libraries.

    Raises:
        ToolError: the C compiler is missing or fails.
        BundleError: the compiled model and the reference do not belong together.
    """
    from crossfarm.backends import load_backend
    from crossfarm.bundles.linking.runner_sources import RUNNER
    from crossfarm.bundles.order import BundleOrder
    from crossfarm.config.cell import Cell

    toolchain = _Toolchain.model_validate(job.group("toolchain"))
    model = _Model.model_validate(job.group("model"))
    order = BundleOrder(
        cell=Cell(model=model.name, target=toolchain.name, variant=model.variant),
        compiler=toolchain.compiler,
        static=toolchain.linkage == "static",
        compiled=Path(job.inputs["compile"]),
        reference=Path(job.inputs["reference"]),
        objects=Path(job.inputs["runner"]),
        runner=RUNNER,
    )
    load_backend(toolchain.backend).bundle(order, output=Path(job.output))
