"""Cores in Verilog with the real tools: NNgen makes them, Verilator and Icarus Verilog run them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from crossfarm.backends.rtl.backend import RtlCode, compile
from crossfarm.backends.rtl.sizes import resources
from crossfarm.backends.rtl.verilated import build_simulator
from crossfarm.boards.simulators import rtl
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport
from crossfarm.bundles.calibration import write_calibration
from crossfarm.bundles.rtl import ENVIRONMENT, RTL, RtlCore
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError
from crossfarm.results import CheckRecord, MeasurementRecord, Provenance
from crossfarm.stages.check.accelerators import is_simulator_right, simulated_outputs, simulator_records
from crossfarm.util.paths import HOME
from tests.unit.backends.rtl import networks

pytestmark = pytest.mark.integration

CELL = Cell(model="m", target="rtl_int8", variant="float32")
DIGITS = HOME / "models" / "digits_cnn"
CASES = 4
MULTIPLIER = """
module dut(input CLK, input [15:0] a, input [15:0] b, input [7:0] c, output [31:0] product, output reg [7:0] kept);
  assign product = a * b;
  always @(posedge CLK) kept <= c ^ kept;
endmodule
"""
Array = np.ndarray[Any, Any]


def _skip_without(*tools: str) -> None:
    if (why := ENVIRONMENT.missing()) is not None:
        pytest.skip(why)
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; ./inv setup --pipeline accelerators")


def _compile(folder: Path, model: onnx.ModelProto, inputs: Array, *, width: int = 8, **changes: Any) -> Path:
    """Compile a model with one input `x`; returns the artifact."""
    onnx.save(model, folder / "model.onnx")
    (folder / "calibration").mkdir()
    write_calibration(folder / "calibration", [{model.graph.input[0].name: tensor} for tensor in inputs])
    output = folder / "output"
    output.mkdir()
    code = RtlCode.model_validate({"width": width, "parallelism": 1, "megahertz": 100, **changes})
    compile(cell=CELL, model=folder / "model.onnx", code=code, output=output, calibration=folder / "calibration")
    return output


def _both(made: Path, inputs: Array) -> tuple[tuple[int, ...], dict[str, Array], dict[str, Array]]:
    """Return cycles and answers of the core, and the answers of the functional model."""
    core = RtlCore.read(made / RTL)
    (tensor,) = core.inputs
    integers = {tensor.name: tensor.to_integers(inputs, width=core.width)}
    cycles, found = rtl.run_core(made, core, integers, cases=len(inputs), timeout=600)
    return cycles, found, rtl.evaluate(made, core, integers, timeout=600)


def digits() -> tuple[Array, Array]:
    """Return the held-out digits, as the network takes them, and what they are."""
    rows = np.loadtxt(DIGITS / "held_out.csv", delimiter=",", dtype=np.int64)
    return (rows[:, :-1] / 16).astype(np.float32).reshape(-1, 1, 1, 8, 8), rows[:, -1]


def calibration() -> Array:
    """Return the digits that were kept to calibrate from."""
    rows = np.loadtxt(DIGITS / "calibration.csv", delimiter=",", dtype=np.int64)
    return (rows[:, :-1] / 16).astype(np.float32).reshape(-1, 1, 1, 8, 8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the digits CNN as a core of 8 bits."""
    _skip_without("verilator", "g++", "make")
    return _compile(tmp_path_factory.mktemp("digits"), onnx.load(DIGITS / "digits_cnn.onnx"), calibration())


def test_the_digits_cnn_answers_as_its_functional_model_in_every_image_and_knows_the_digits(made: Path) -> None:
    images, labels = digits()
    cycles, found, answers = _both(made, images[:CASES])
    assert np.array_equal(found["logits"], answers["logits"])
    assert len(cycles) == CASES
    assert 1000 < min(cycles) <= max(cycles) < min(cycles) + 100
    core = RtlCore.read(made / RTL)
    every = {"image": core.inputs[0].to_integers(images, width=8)}
    said = rtl.evaluate(made, core, every, timeout=600)["logits"].reshape(len(images), -1).argmax(1)
    assert np.mean(said == labels) > 0.96


def test_icarus_verilog_counts_the_same_cycles_as_verilator(made: Path) -> None:
    _skip_without("iverilog")
    report = AcceleratorReport.read(made / ACCELERATOR)
    told = next(re.search(r"on one calibration input, in ([\d,]+) cycles", note) for note in report.notes)
    assert told is not None, report.notes
    cycles, _, _ = _both(made, digits()[0][:1])
    assert int(told[1].replace(",", "")) == cycles[0]


def test_yosys_estimates_what_a_core_takes_of_a_device(tmp_path: Path) -> None:
    _skip_without("yosys")
    (tmp_path / "dut.v").write_text(MULTIPLIER)
    counts, note = resources(tmp_path, seconds=300)
    found = {item.name: item.value for item in counts}
    assert (found["ff"], found["dsp"], found["bram"]) == (8, 1, 0), note
    assert found["lut"] > 0
    assert "as yosys maps it" in note
    counts, note = resources(tmp_path, seconds=0)
    assert {item.name: item.value for item in counts if item.name in ("ff", "dsp", "bram")} == {
        **{"ff": 8, "dsp": 1, "bram": 0},
    }
    assert "counted from registers" in note


def test_the_digits_cnn_has_an_estimate_of_its_size(made: Path) -> None:
    _skip_without("yosys")
    report = AcceleratorReport.read(made / ACCELERATOR)
    sizes = {item.name: item.value for item in report.quantities}
    assert sizes["dsp"] >= 9 and sizes["bram"] >= 1 and sizes["lut"] > 1000 and sizes["ff"] > 1000, report.notes


def test_a_core_that_is_wrong_on_purpose_turns_the_gate_red(made: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(made, wrong)
    verilog = (wrong / "dut.v").read_text()
    spoilt, count = spoil(verilog)
    assert count > 0
    (wrong / "dut.v").write_text(spoilt)
    (wrong / "simulator").unlink()
    build_simulator(wrong, cell=CELL)
    _, found, answers = _both(wrong, digits()[0][:1])
    outputs = simulated_outputs(found, answers)
    assert not is_simulator_right(outputs)
    row, *_ = simulator_records(
        outputs,
        check=lambda **fields: CheckRecord(cell=CELL.id, **fields),
        measurement=lambda name, value, unit: MeasurementRecord(
            cell=CELL.id, name=name, value=value, unit=unit, provenance=Provenance(board="local", timing="simulated")
        ),
    )
    assert isinstance(row, CheckRecord)
    assert (row.name, row.status) == ("simulator.equal", "failed")
    assert "its cycles are not valid and not shown" in row.message


def spoil(verilog: str) -> tuple[str, int]:
    """Return a core whose products are one too large, and how many there were."""
    return re.subn(r"^(\s*assign _mul = _a \* _b);$", r"\1 + 1;", verilog, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("width", "changes"),
    [(16, {}), (8, {"parallelism": 4}), *((width, {"bus": bus}) for width in (8, 16) for bus in (64, 128))],
)
def test_other_widths_parallelisms_and_buses_are_right_too(tmp_path: Path, width: int, changes: dict[str, int]) -> None:
    _skip_without("verilator", "g++", "make")
    images, _ = digits()
    made = _compile(tmp_path, onnx.load(DIGITS / "digits_cnn.onnx"), images[:32], width=width, **changes)
    _, found, answers = _both(made, images[:2])
    assert np.array_equal(found["logits"], answers["logits"])


def test_a_net_with_residuals_is_right_with_16_bits(tmp_path: Path) -> None:
    _skip_without("verilator", "g++", "make")
    inputs = np.random.default_rng(1).normal(size=(16, *networks.SHAPE)).astype(np.float32)
    model = networks.residual()
    made = _compile(tmp_path, model, inputs, width=16)
    _, found, answers = _both(made, inputs[:2])
    assert np.array_equal(found["y"], answers["y"])
    reals = RtlCore.read(made / RTL).outputs[0].to_reals(answers["y"])
    expected = _by_onnx_runtime(model, inputs[:2])
    assert np.max(np.abs(reals - expected)) < 0.02 * np.max(np.abs(expected))


@pytest.mark.parametrize("model", [networks.dense(turned=False), networks.convolution(pads=[1, 1, 1, 1])])
def test_what_it_answers_is_near_to_the_real_numbers(model: onnx.ModelProto, tmp_path: Path) -> None:
    _skip_without("verilator", "g++", "make")
    inputs = np.random.default_rng(1).normal(size=(16, *networks.SHAPE)).astype(np.float32)
    made = _compile(tmp_path, model, inputs, width=16)
    _, found, answers = _both(made, inputs[:2])
    assert np.array_equal(found["y"], answers["y"])
    reals = RtlCore.read(made / RTL).outputs[0].to_reals(answers["y"])
    expected = _by_onnx_runtime(model, inputs[:2])
    assert np.max(np.abs(reals - expected)) < 0.02 * np.max(np.abs(expected))


def test_a_core_that_does_not_end_within_its_cycles_is_stopped(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    core = RtlCore.read(copy / RTL).model_copy(update={"most_cycles": 500})
    integers = {"image": core.inputs[0].to_integers(digits()[0][:1], width=8)}
    with pytest.raises(Exception, match="did not end within 500 cycles"):
        rtl.run_core(copy, core, integers, cases=1, timeout=60)


def test_what_nngen_itself_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    _skip_without("verilator", "g++", "make")
    inputs = np.zeros((4, 1, 2, 3), np.float32)
    nodes = [onnx.helper.make_node("GlobalAveragePool", ["x"], ["y"], name="pool")]
    with pytest.raises(ModelError, match="NNgen makes no core of it: "):
        _compile(tmp_path, networks.network(nodes, {}, shape=[1, 2, 3]), inputs)


def _by_onnx_runtime(model: onnx.ModelProto, inputs: Array) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, {"x": tensor})[0] for tensor in inputs])
