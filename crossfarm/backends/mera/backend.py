"""Backend mera: EdgeCortix MERA quantises float32 and compiles it for a DNA card, its simulator and its model.

The variant `int8` is quantised TorchScript, which MERA compiles as it is.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from crossfarm.backends.mera.card_program import write_card_program
from crossfarm.backends.mera.opset import older, require_equal
from crossfarm.backends.onnx_model import describe, value_types
from crossfarm.backends.protocol import BackendDeclaration
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport, Quantity
from crossfarm.bundles.calibration import read_calibration
from crossfarm.bundles.contents import copy_bundle
from crossfarm.bundles.mera import write_inputs
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.accelerators import AcceleratorCode, Variant
from crossfarm.config.base import Integer
from crossfarm.config.boards import Card
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, UnfitError
from crossfarm.util.mera.calls import INTERPRETER, MERA, SIMULATOR, TORCHSCRIPT, VERSION, Step, call, order_of_axes
from crossfarm.util.mera.cross_linker import write_cross_linker, zig_folder
from crossfarm.util.scratch import scratch_folder

if TYPE_CHECKING:
    from onnx import ModelProto

RUNNER = Path(__file__).with_name("runner.cpp")
IP = "IP"
"""MERA's name of the card itself."""
HOSTS: Mapping[str, str] = {"x86_64": "x86", "aarch64": "arm"}
"""Machine that a card stands in -> MERA's name of it."""
THIS_HOST = "x86"
TORCHSCRIPT_FILE = "original.pt"
"""The model as it came, as the stage `prepare` keeps it."""
DEPLOY = "deploy"
"""Folder of the artifact and of the bundle that holds one folder for each of MERA's targets."""
FOLDERS: Mapping[str, tuple[str, str]] = {
    INTERPRETER: (INTERPRETER, THIS_HOST),
    SIMULATOR: (SIMULATOR, THIS_HOST),
    **{f"{IP}-{machine}": (IP, host) for machine, host in HOSTS.items()},
}
"""Folder -> MERA's names of the target, and of the machine that runs what is not on the card."""

_QUANTISED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"}
)
_CAPTURED = re.compile(r"Captured (\d+) operators and left (\d+) uncaptured .* in (\d+) MERA regions")
_WORKERS = 2
_MOST_ANSWERED = 16
"""Inputs of the calibration to which the functional model's answers must differ; each takes it up to a second."""


class MeraCode(AcceleratorCode):
    """The `code:` section of its toolchain files."""

    TAKES: ClassVar[tuple[Variant, ...]] = ("float32", "int8")
    ORIGINALS: ClassVar[Mapping[Variant, str]] = {"int8": "torchscript"}
    QUANTISES: ClassVar[bool] = True

    platform: Literal[
        "DNAF100L0001",
        "DNAF100L0002",
        "DNAF100L0003",
        "DNAF200L0001",
        "DNAF200L0002",
        "DNAF200L0003",
        "SAKURA_1",
    ]
    """MERA's name of the architecture."""
    calibration: Annotated[Integer, Field(ge=1, le=4096)] = 128
    """Inputs from which MERA takes its ranges, at even distances among those of the model's calibration."""
    seconds: Annotated[Integer, Field(ge=10, le=24 * 3600)] = 1800
    """Processor time that MERA may take for a model; by the clock it may take eight times as long."""

    @property
    def card(self) -> Card:
        """Return the card that has this architecture."""
        return "sakura-1" if self.platform == "SAKURA_1" else "dna-f100" if "F100" in self.platform else "dna-f200"


DECLARATION = BackendDeclaration(
    section=MeraCode,
    sources={
        "compile": (
            "crossfarm/backends/mera/",
            "crossfarm/backends/onnx_model.py",
            "crossfarm/bundles/accelerator.py",
            "crossfarm/bundles/calibration.py",
            "crossfarm/bundles/compile_report.py",
            "crossfarm/bundles/mera.py",
            "crossfarm/util/mera/",
            "requirements/environments/mera.txt",
        ),
        "bundle": ("crossfarm/backends/mera/", "crossfarm/bundles/mera.py"),
        "measure": (
            "crossfarm/boards/cpu_features.py",
            "crossfarm/boards/simulators/base.py",
            "crossfarm/boards/simulators/mera.py",
            "crossfarm/bundles/mera.py",
            "crossfarm/util/mera/",
            "requirements/environments/mera.txt",
        ),
    },
    tools={"compile": ("numpy", "onnx", "onnxruntime", "ziglang"), "measure": ("numpy",)},
    groups={"check": ("cards",)},
    environments=(MERA,),
    on_this_host=True,
    simulator="crossfarm.boards.simulators.mera",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Work:
    """What the calls of one cell share.

    Attributes:
        folder: a folder for what MERA reads and writes.
        cell: for messages.
        code: the section.
        model: the file of the float32 model, or of the quantised TorchScript.
        inputs: as script.py takes them: name, dtype, shape and file of each, with the axes in MERA's order.
        cases: how many inputs there are to calibrate from.
    """

    folder: Path
    cell: Cell
    code: MeraCode
    model: Path
    inputs: list[dict[str, Any]]
    cases: int

    @property
    def is_torchscript(self) -> bool:
        """Return whether the model came quantised."""
        return self.cell.variant == TORCHSCRIPT

    @property
    def quantised(self) -> Path:
        """Return the file of the quantised model."""
        return self.model if self.is_torchscript else self.folder / "model.mera"

    @property
    def answered(self) -> int:
        """Return how many of the inputs the functional model answers."""
        return min(self.cases, _MOST_ANSWERED)

    @property
    def answers(self) -> Path:
        """Return the folder with what the functional model answers to the inputs."""
        return self.folder / "answers"


def compile(
    *,
    cell: Cell,
    model: Path,
    code: MeraCode,
    output: Path,
    tuned: Mapping[str, Any] | None = None,
    calibration: Path | None = None,
) -> None:
    """Write deploy/TARGET/ for each of MERA's targets, model.mera or model.pt, accelerator.json and compile.json.

    Args:
        cell: as in protocol.Backend.compile, and so are the others.
        model: float32, which MERA quantises; of TorchScript what it is as ONNX, with the file itself beside it.
        code: the section.
        output: an empty folder.
        tuned: nothing is searched here.
        calibration: inputs from which MERA takes its ranges.

    Raises:
        UnfitError: it is quantised and no TorchScript, or is TorchScript and not quantised, or holds what MERA has not.
        ModelError: MERA refuses it or aborts over it.
        ToolError: MERA is not here, or takes too long.
    """
    if calibration is None:
        raise ValueError("the stage `compile` hands a backend that quantises its inputs")
    is_torchscript = cell.variant == TORCHSCRIPT
    loaded = _quantised_model(model, cell=cell) if is_torchscript else _float_model(model, cell=cell)
    initialisers = {tensor.name for tensor in loaded.graph.initializer}
    ports = value_types(value for value in loaded.graph.input if value.name not in initialisers)
    stacked = read_calibration(calibration, ports=ports, at_most=code.calibration)
    source = model.with_name(TORCHSCRIPT_FILE).read_bytes() if is_torchscript else _older(loaded, stacked, cell=cell)
    with scratch_folder("mera") as scratch:
        folder = scratch / "work"
        folder.mkdir()
        inputs = []
        for number, (port, array) in enumerate(zip(ports, stacked.values(), strict=True)):
            order = order_of_axes(len(port.shape), variant=cell.variant)
            array.transpose(0, *(1 + axis for axis in order)).tofile(folder / f"calibration{number}.bin")
            file = str(folder / f"calibration{number}.bin")
            shape = [port.shape[axis] for axis in order]
            inputs.append({"name": port.name, "dtype": port.dtype, "shape": shape, "file": file})
        given = folder / ("model.pt" if is_torchscript else "model.onnx")
        given.write_bytes(source)
        write_cross_linker(folder / "programs")
        cases = len(next(iter(stacked.values())))
        work = _Work(folder=folder, cell=cell, code=code, model=given, inputs=inputs, cases=cases)
        work.answers.mkdir()
        steps = list(_steps(work, folder / DEPLOY))
        *answers, run = call(
            steps,
            cell=cell.id,
            folder=folder,
            processor_seconds=code.seconds,
            wall_seconds=8.0 * code.seconds,
            path=folder / "programs",
            reads=(zig_folder(),),
        )
        shutil.copytree(folder / DEPLOY, output / DEPLOY, copy_function=shutil.copyfile)
        _add_reference(work, run["outputs"], output / DEPLOY)
        shutil.copyfile(work.quantised, output / work.quantised.name)
    # MERA says of the graph that it is given how many operators it takes: of float32 when it quantises.
    simulator = answers[next(at for at, step in enumerate(steps) if SIMULATOR in step.doing)]
    _report(work, given=answers[0]["captured"], compiled=simulator["captured"]).write(output / ACCELERATOR)
    calibrated = [array.tobytes() for array in stacked.values()]
    made = [source, code.model_dump_json().encode(), *calibrated]
    report = describe(loaded, cell=cell, made=made, tools=("onnx",))
    report.model_copy(update={"tools": {**report.tools, "mera": VERSION}}).write(output / "compile.json")


def bundle(order: BundleOrder, *, output: Path) -> None:
    """Write deploy/TARGET/, the runner's source, program, accelerator.json, the inputs and manifest.json.

    `program` is for a machine with the card; nothing else starts it.
    """
    shutil.copytree(order.compiled / DEPLOY, output / DEPLOY)
    shutil.copyfile(RUNNER, output / DEPLOY / RUNNER.name)
    copy_bundle(order, files=(ACCELERATOR,), output=output)
    report = AcceleratorReport.read(output / ACCELERATOR)
    inputs = "inputs"
    if order.cell.variant == TORCHSCRIPT:
        inputs = f"{DEPLOY}/inputs"
        write_inputs(output, output / DEPLOY)
    write_card_program(output, card=cast(Card, report.card), inputs=inputs)


def _float_model(path: Path, *, cell: Cell) -> ModelProto:
    """Read a model that is not quantised."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    found = next((node for node in model.graph.node if node.op_type in _QUANTISED), None)
    if found is not None:
        raise UnfitError(
            f"{cell.id}: the model is quantised already (operator {found.op_type} of node "
            f"{found.name or found.output[0]!r}), and MERA takes float32 alone, which it quantises itself: others it "
            "compiles to wrong numbers without a word; give the float32 model"
        )
    return model


def _quantised_model(path: Path, *, cell: Cell) -> ModelProto:
    """Read what a quantised TorchScript is as ONNX.

    Raises:
        UnfitError: it is not quantised, or answers with a picture, whose order of axes MERA changes.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    if not any(node.op_type in _QUANTISED for node in model.graph.node):
        raise UnfitError(
            f"{cell.id}: the TorchScript is not quantised, and MERA compiles it to wrong numbers without a word; "
            "quantise it with PyTorch before it is traced, or declare it as float32, which MERA quantises itself"
        )
    for value in model.graph.output:
        if len(value.type.tensor_type.shape.dim) == 4:
            raise UnfitError(
                f"{cell.id}: output {value.name} has four axes, whose order MERA changes in TorchScript; give the "
                "float32 model, which it takes as ONNX"
            )
    return model


def _older(model: ModelProto, inputs: Mapping[str, Any], *, cell: Cell) -> bytes:
    """Return a model in an opset that MERA reads, which answers the first inputs as it did.

    Raises:
        UnfitError: that opset cannot say it.
        ModelError: it answers otherwise there.
    """
    source = older(model, cell=cell)
    require_equal(model, source, {name: array[0] for name, array in inputs.items()}, cell=cell)
    return bytes(source.SerializeToString())


def _steps(work: _Work, deploy: Path) -> Iterator[Step]:
    """Yield what MERA does with a model: it quantises, compiles for each target, and runs the functional model."""
    what = {"inputs": work.inputs, "cases": work.cases}
    if not work.is_torchscript:
        request = {"action": "quantise", "model": str(work.model), "output": str(work.quantised), **what}
        yield Step(doing="quantising", request=request)
    for name, (target, host) in FOLDERS.items():
        (deploy / name).mkdir(parents=True)
        yield Step(
            doing=f"compiling {name} of",
            request={
                "action": "deploy",
                "model": str(work.quantised),
                "project": str(work.folder / name),
                "target": target,
                "platform": work.code.platform,
                "host": host,
                "config": {"compiler_workers": _WORKERS, "sim_freq_mhz": work.code.megahertz},
                "output": str(deploy / name),
                **({"inputs": work.inputs} if work.is_torchscript else {}),
            },
        )
    yield Step(
        doing="running the functional model of",
        request={
            "action": "run",
            "deployed": str(deploy / INTERPRETER),
            "first": work.answered,
            "metrics": False,
            "output": str(work.answers),
            **what,
        },
    )


def _add_reference(work: _Work, described: Sequence[Any], deploy: Path) -> None:
    """Put an input and what the functional model answers to it beside each of the programs.

    Raises:
        ModelError: it answers the same to all inputs, so that a simulator that equals it proves nothing.
    """
    import numpy as np

    outputs = [
        np.fromfile(work.answers / f"{number}.bin", item["dtype"]).reshape(work.answered, *item["shape"])
        for number, item in enumerate(described)
    ]
    if all(np.ptp(output.astype(np.float64)) == 0 for output in outputs):
        raise ModelError(
            f"{work.cell.id}: quantised by MERA, the model answers {outputs[0].ravel()[0]:g} to all {work.answered} "
            "inputs that it was calibrated from, so that equality would prove nothing; give a model with trained "
            "weights, or more inputs (code.calibration)"
        )
    for name in FOLDERS:
        for number, item in enumerate(work.inputs):
            first = np.fromfile(item["file"], item["dtype"]).reshape(work.cases, -1)[0]
            first.tofile(deploy / name / f"input{number}.bin")
        for number, output in enumerate(outputs):
            output[0].tofile(deploy / name / f"ref_result_{number}.bin")


def _report(work: _Work, *, given: str, compiled: str) -> AcceleratorReport:
    """Return accelerator.json, of the lines in which MERA says what it takes.

    Args:
        work: the cell.
        given: of the graph that it was given, whose operators it counts.
        compiled: of the quantised graph, in which each region is one.

    Raises:
        UnfitError: MERA takes no operator of the model.
    """
    quantities: tuple[Quantity, ...] = ()
    operators, regions = _CAPTURED.search(given), _CAPTURED.search(compiled)
    if operators is not None and regions is not None:
        taken, left = int(operators[1]), int(operators[2])
        if int(regions[3]) == 0:
            raise UnfitError(
                f"{work.cell.id}: MERA leaves all {taken + left} operators to the CPU; nothing of it would run on the "
                "card"
            )
        quantities = (
            Quantity(name="operators.accelerator", value=taken, unit="count"),
            Quantity(name="operators.cpu", value=left, unit="count"),
            Quantity(name="regions", value=int(regions[3]), unit="count"),
        )
    return AcceleratorReport(
        quantities=quantities,
        notes=(
            f"quantised TorchScript, compiled by MERA {VERSION} for {work.code.platform}"
            if work.is_torchscript
            else f"quantised by MERA {VERSION} from {work.cases} inputs for {work.code.platform}",
        ),
        card=work.code.card,
        card_files=f"{IP} artefacts for {' and '.join(HOSTS)} hosts",
    )
