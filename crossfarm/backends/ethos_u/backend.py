"""Backend ethos_u: compiles a TFLite model with Vela, and estimates cycles and memory of an Arm Ethos-U."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from crossfarm.backends.ethos_u.vela import run_vela
from crossfarm.backends.protocol import BackendDeclaration
from crossfarm.bundles.accelerator import ACCELERATOR
from crossfarm.bundles.contents import copy_bundle
from crossfarm.bundles.ethos_u import COMPILED, ENVIRONMENT, ORIGINAL
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.accelerators import AcceleratorCode, Variant
from crossfarm.config.base import Line
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError


class EthosUCode(AcceleratorCode):
    """The `code:` section of its toolchain files."""

    TAKES: ClassVar[tuple[Variant, ...]] = ("int8",)
    FORMATS: ClassVar[tuple[str, ...]] = ("tflite",)
    ORIGINALS: ClassVar[Mapping[Variant, str]] = {"int8": "tflite"}
    ROUNDS_OTHERWISE: ClassVar[bool] = True

    accelerator: Literal[
        "ethos-u55-32",
        "ethos-u55-64",
        "ethos-u55-128",
        "ethos-u55-256",
        "ethos-u65-256",
        "ethos-u65-512",
        "ethos-u85-128",
        "ethos-u85-256",
        "ethos-u85-512",
        "ethos-u85-1024",
        "ethos-u85-2048",
    ]
    """Vela's name of the core and of its multiply-accumulates a cycle."""
    system: Annotated[Line, Field(max_length=64)]
    """Section of Vela's configuration that describes memories and clock: `Ethos_U55_High_End_Embedded`."""
    memory_mode: Annotated[Line, Field(max_length=64)]
    """Section of it that says which memory holds what: `Shared_Sram`."""


DECLARATION = BackendDeclaration(
    section=EthosUCode,
    sources={
        "compile": (
            "crossfarm/backends/ethos_u/",
            "crossfarm/backends/onnx_model.py",
            "crossfarm/bundles/accelerator.py",
            "crossfarm/bundles/ethos_u.py",
            "crossfarm/util/environments.py",
            "requirements/environments/ethos_u.txt",
        ),
        "measure": (
            "crossfarm/boards/simulators/base.py",
            "crossfarm/boards/simulators/ethos_u.py",
            "crossfarm/backends/ethos_u/answers.py",
            "crossfarm/bundles/ethos_u.py",
            "requirements/environments/ethos_u.txt",
        ),
    },
    tools={"compile": ("onnx",), "measure": ("numpy",)},
    environments=(ENVIRONMENT,),
    simulator="crossfarm.boards.simulators.ethos_u",
)


def compile(*, cell: Cell, model: Path, code: EthosUCode, output: Path, tuned: Mapping[str, Any] | None = None) -> None:
    """Write vela.tflite, original.tflite, accelerator.json and compile.json; see protocol.Backend.compile.

    Raises:
        ModelError: the model did not come as TFLite, or Vela refuses it.
        ToolError: Vela is not there, or does not end.
    """
    from crossfarm.backends.onnx_model import describe, load_valid

    original = model.with_name(ORIGINAL)
    if not original.exists():
        raise ModelError(
            f"{cell.id}: Vela takes TFLite models alone, and this one came as another format; leave the cell out with "
            "`skip` in models.yaml"
        )
    report = run_vela(original, code=code, cell=cell, output=output / COMPILED)
    report.write(output / ACCELERATOR)
    shutil.copyfile(original, output / ORIGINAL)
    made = [original.read_bytes(), (output / COMPILED).read_bytes()]
    describe(load_valid(model, cell=cell), cell=cell, made=made, tools=("onnx",)).write(output / "compile.json")


def bundle(order: BundleOrder, *, output: Path) -> None:
    """Write both TFLite files, accelerator.json, the inputs and manifest.json; see protocol.Backend.bundle."""
    copy_bundle(order, files=(COMPILED, ORIGINAL, ACCELERATOR), output=output)
