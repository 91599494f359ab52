"""Stage `compile`: makes a prepared model into code for a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossfarm.config.accelerators import QUANTISING
from crossfarm.config.base import Declared, Name
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=2,
    scope="cell",
    sources=("crossfarm/stages/compile/", "crossfarm/backends/__init__.py", "crossfarm/backends/protocol.py"),
    usual_seconds=8.0,
)


class _Toolchain(Declared):
    """What of a toolchain file shapes the object."""

    name: Name
    backend: str
    code: dict[str, Any]


class _Model(Declared):
    """What of a model's entry is written into the tables."""

    name: Name
    variant: str


def needs(subject: Subject) -> Needs:
    """Depend on the prepared or quantised model and on what code is made for, not on the C compiler.

    A backend that quantises by itself gets inputs to calibrate from. The plan adds `tuning`.
    """
    model, target, variant = subject.model, subject.target, subject.variant
    if model is None or target is None or variant is None:
        raise ValueError("the stage `compile` is about a cell")
    source = "quantize" if variant in QUANTISING and target.original(variant) is None else "prepare"
    inputs: dict[str, tuple[str, None]] = {source: (QUANTISING[variant] if source == "quantize" else source, None)}
    if target.quantises:
        inputs["calibration"] = ("calibration", None)
    return Needs(
        parameters={
            f"toolchain {target.name}": subject.group(
                "compile",
                target.name,
                make=lambda: {
                    "name": target.name,
                    "backend": target.backend,
                    "code": target.code.model_dump(mode="json"),
                },
            ),
            f"model {model.name}": subject.group(
                "compile", model.name, variant, make=lambda: {"name": model.name, "variant": variant}
            ),
        },
        inputs=inputs,
    )


def run(job: Job) -> None:
    """Write model.o, tables.c, weights.bin and compile.json.

    Raises:
        ModelError: the model holds something that cannot be compiled; the message names operator and node.
    """
    from crossfarm.backends import load_backend
    from crossfarm.config.cell import Cell

    toolchain = _Toolchain.model_validate(job.group("toolchain"))
    model = _Model.model_validate(job.group("model"))
    backend = load_backend(toolchain.backend)
    calibrated = {"calibration": Path(job.inputs["calibration"])} if "calibration" in job.inputs else {}
    backend.compile(
        cell=Cell(model=model.name, target=toolchain.name, variant=model.variant),
        model=Path(job.inputs["quantize" if "quantize" in job.inputs else "prepare"]) / "model.onnx",
        code=backend.DECLARATION.section.model_validate(toolchain.code),
        output=Path(job.output),
        tuned=next((group for name, group in job.parameters.items() if name.startswith("tuning ")), None),
        **calibrated,
    )
