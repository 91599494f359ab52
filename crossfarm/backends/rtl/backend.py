"""Backend rtl: a core in Verilog for one model, by NNgen, and its simulator, by Verilator."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from crossfarm.backends.onnx_model import describe, read_model
from crossfarm.backends.protocol import BackendDeclaration
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport, Quantity
from crossfarm.bundles.calibration import read_calibration
from crossfarm.bundles.contents import copy_bundle
from crossfarm.bundles.order import BundleOrder
from crossfarm.bundles.rtl import CALIBRATION, ENVIRONMENT, MODEL, PARAMETERS, RTL, SIMULATOR, VERILOG, RtlCore
from crossfarm.config.accelerators import AcceleratorCode, Variant
from crossfarm.config.base import Count, Integer
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, UnfitError
from crossfarm.util.scratch import scratch_folder

if TYPE_CHECKING:
    from onnx import ModelProto

FILES = (VERILOG, PARAMETERS, RTL, MODEL, CALIBRATION, SIMULATOR)
"""What a bundle has, beside the report."""


class RtlCode(AcceleratorCode):
    """The `code:` section of its toolchain files."""

    TAKES: ClassVar[tuple[Variant, ...]] = ("float32",)
    QUANTISES: ClassVar[bool] = True

    width: Literal[8, 16]
    """Bits of weights and activations; sums, biases and scales have 32 or more."""
    parallelism: Annotated[Count, Field(le=64)] = 1
    """Input channels, and output channels, that are computed in one cycle: a power of two."""
    bus: Literal[32, 64, 128] = 32
    """Bits of the memory port."""
    most_cycles: Annotated[Count, Field(le=1_000_000_000)] = 1_000_000
    """Of one case; a net that is estimated to take more is too large for RTL simulation."""

    synthesis_seconds: Annotated[Integer, Field(ge=0, le=36_000)] = 0
    """Of processor time that yosys may take to map the core, many minutes; else LUT, FF, DSP and BRAM are counted."""

    @field_validator("parallelism")
    @classmethod
    def _is_power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"{value} is no power of two; give 1, 2, 4, 8, 16, 32 or 64")
        return value


_SHARED = (
    "crossfarm/bundles/rtl.py",
    "crossfarm/backends/rtl/nngen_script.py",
    "crossfarm/util/environments.py",
    "requirements/environments/rtl.txt",
)
DECLARATION = BackendDeclaration(
    section=RtlCode,
    sources={
        "compile": (
            "crossfarm/backends/rtl/",
            "crossfarm/backends/onnx_model.py",
            "crossfarm/bundles/accelerator.py",
            "crossfarm/bundles/calibration.py",
            "crossfarm/bundles/compile_report.py",
            *_SHARED,
        ),
        "bundle": ("crossfarm/bundles/accelerator.py", "crossfarm/bundles/rtl.py"),
        "measure": ("crossfarm/boards/simulators/base.py", "crossfarm/boards/simulators/rtl.py", *_SHARED),
    },
    tools={"compile": ("numpy", "onnx"), "measure": ("numpy",)},
    environments=(ENVIRONMENT,),
    simulator="crossfarm.boards.simulators.rtl",
)


def compile(
    *,
    cell: Cell,
    model: Path,
    code: RtlCode,
    output: Path,
    tuned: Mapping[str, Any] | None = None,
    calibration: Path | None = None,
) -> None:
    """Write the core, its simulator, accelerator.json and compile.json; see protocol.Backend.compile.

    Raises:
        UnfitError: the model is too large, or holds what a core cannot have.
        ModelError: its core is wrong, or there is nothing to calibrate from.
        BundleError: the calibration is empty, damaged, or of another model.
        ToolError: NNgen, Verilator or a C++ compiler is missing or fails.
    """
    from crossfarm.backends.rtl.generator import copy_core, generate
    from crossfarm.backends.rtl.network import OPERATORS, refuse, write_for_nngen
    from crossfarm.backends.rtl.verilated import build_simulator

    loaded = read_model(model, cell=cell, operators=OPERATORS)
    refuse(loaded, cell=cell, width=code.width)
    estimate = _small_enough(loaded, cell=cell, code=code)
    report = describe(loaded, cell=cell, made=[], tools=("onnx",))
    if calibration is None:
        raise ModelError(f"{cell.id}: a core is quantised from calibration inputs, and there are none")
    reals = read_calibration(calibration, ports=report.inputs)
    with scratch_folder("rtl") as name:
        folder = name / "work"
        folder.mkdir()
        write_for_nngen(loaded, folder / MODEL)
        core = generate(reals, cell=cell, code=code, inputs=report.inputs, outputs=report.outputs, folder=folder)
        build_simulator(folder, cell=cell)
        examined = _examine(folder, core, cell=cell, code=code, estimate=estimate)
        examined.write(output / ACCELERATOR)
        copy_core(folder, output)
        shutil.copy(folder / SIMULATOR, output / SIMULATOR)
    made = [(output / name).read_bytes() for name in (VERILOG, PARAMETERS, RTL)]
    describe(loaded, cell=cell, made=made, tools=("onnx",)).write(output / "compile.json")


def _small_enough(model: ModelProto, *, cell: Cell, code: RtlCode) -> int:
    """Return the estimated cycles of one case.

    Raises:
        UnfitError: they are too many to be simulated.
    """
    from crossfarm.backends.rtl.network import estimated_cycles

    cycles = estimated_cycles(model, width=code.width, parallelism=code.parallelism, bus=code.bus)
    if cycles > code.most_cycles:
        raise UnfitError(
            f"{cell.id}: too large for RTL simulation: about {cycles:,} cycles a case by estimate, and "
            f"code.most_cycles is {code.most_cycles:,}; raise it to have the core built all the same"
        )
    return cycles


def _examine(folder: Path, core: RtlCore, *, cell: Cell, code: RtlCode, estimate: int) -> AcceleratorReport:
    """Cross-check a core and estimate its size.

    Raises:
        ModelError: Icarus Verilog shows that the core is wrong.
    """
    import numpy as np

    from crossfarm.backends.rtl.generator import FIRST
    from crossfarm.backends.rtl.sizes import resources
    from crossfarm.backends.rtl.verilated import cross_check

    with np.load(folder / CALIBRATION) as stored:
        integers = {tensor.name: stored[str(number)][:1] for number, tensor in enumerate(core.inputs)}
    with np.load(folder / FIRST) as stored:
        expected = {tensor.name: stored[str(number)] for number, tensor in enumerate(core.outputs)}
    cycles = cross_check(folder, core, integers, expected, cell=cell)
    checked = (
        "not cross-checked: Icarus Verilog is not installed, or took too long"
        if cycles is None
        else f"Icarus Verilog answers as the functional model does, on one calibration input, in {cycles:,} cycles"
    )
    counts, note = resources(folder, seconds=code.synthesis_seconds)
    sizes = (
        Quantity(name="parameters", value=float((folder / PARAMETERS).stat().st_size), unit="bytes"),
        Quantity(name="memory", value=float(core.memory_bytes), unit="bytes"),
        Quantity(name="cycles_before", value=float(estimate), unit="cycles"),
    )
    return AcceleratorReport(quantities=(*counts, *sizes), notes=(checked, note))


def bundle(order: BundleOrder, *, output: Path) -> None:
    """Write the core, its simulator, accelerator.json, the inputs and manifest.json; see protocol.Backend.bundle."""
    copy_bundle(order, files=(*FILES, ACCELERATOR), output=output)
    (output / SIMULATOR).chmod(0o755)
