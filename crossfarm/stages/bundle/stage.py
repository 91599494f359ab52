"""Stage `bundle`: links compiled code with the runner into what goes onto a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from crossfarm.bundles.runner_sources import RUNNER_SOURCES
from crossfarm.config.base import Declared, Name
from crossfarm.config.models import Decode, Preprocess
from crossfarm.config.targets import CommandCompiler, ZigCompiler
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Needs, Scope, Subject
from crossfarm.stages.runner.stage import RUNNER

VERSION = 1
SCOPE: Scope = "cell"
SOURCES = (
    "crossfarm/backends/__init__.py",
    "crossfarm/bundles/make.py",
    "crossfarm/bundles/c_library.py",
    "crossfarm/bundles/interfaces.py",
    "crossfarm/bundles/manifest.py",
    "crossfarm/backends/protocol.py",
    "crossfarm/bundles/runner_objects.py",
    "crossfarm/bundles/runner_sources.py",
    "crossfarm/util/processes.py",
    "crossfarm/bundles/c_compiler.py",
    "crossfarm/backends/tvm/backend.py",
    "crossfarm/util/scratch.py",
    "crossfarm/stages/bundle/stage.py",
    "crossfarm/stages/c_library/stage.py",
    "crossfarm/stages/runner/stage.py",
    *(f"runner/{name}" for name in RUNNER_SOURCES),
    "runner/interfaces/example/*",
    "runner/interfaces/python/*",
)
TOOLS = ("ziglang",)


class _Toolchain(Declared):
    """What of a toolchain file shapes program and library."""

    name: Name
    backend: str
    compiler: Annotated[ZigCompiler | CommandCompiler, Field(discriminator="kind")]
    linkage: Literal["dynamic", "static"]


class _Model(Declared):
    """What of a model's entry the bundle is named by and tells its users."""

    name: Name
    variant: str
    description: str
    licence: str
    inputs: tuple[str, ...]
    preprocess: Preprocess | None
    decode: Decode | None


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
                make=lambda: {
                    **model.model_dump(mode="json", include={"name", "description", "licence", "preprocess", "decode"}),
                    "variant": variant,
                    "inputs": [item.name for item in model.inputs if item.value is None],
                },
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
    """Write manifest.json, program, weights.bin, inputs/K.bin, model.h, the libraries, example and Python module.

    Raises:
        ToolError: the C compiler is missing or fails.
        BundleError: the compiled model and the reference do not belong together.
    """
    from crossfarm.backends import load_backend
    from crossfarm.bundles.order import About, BundleOrder
    from crossfarm.config.cell import Cell

    toolchain = _Toolchain.model_validate(job.group("toolchain"))
    model = _Model.model_validate(job.group("model"))
    order = BundleOrder(
        cell=Cell(model=model.name, target=toolchain.name, variant=model.variant),
        about=About(
            description=model.description,
            licence=model.licence,
            inputs=model.inputs,
            preprocess=model.preprocess,
            decode=model.decode,
        ),
        compiler=toolchain.compiler,
        static=toolchain.linkage == "static",
        compiled=Path(job.inputs["compile"]),
        reference=Path(job.inputs["reference"]),
        objects=Path(job.inputs["runner"]),
        runner=RUNNER,
    )
    load_backend(toolchain.backend).bundle(order, output=Path(job.output))
