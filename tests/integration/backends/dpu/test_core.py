"""The core in SystemVerilog: the same bits as the functional model, the same cycles as the analytic count."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from crossfarm.boards.simulators import dpu as simulator
from crossfarm.errors import ToolError
from crossfarm.stages.check.accelerators import is_simulator_right, simulated_outputs
from tests.integration.backends.dpu import nets
from tests.integration.backends.dpu.building import (
    RUNNER,
    Built,
    build,
    code,
    equal,
    expected,
    int8_shift,
    random_inputs,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        simulator.verilator_version() is None,
        reason="Verilator, g++ or make is not installed; apt-get install verilator g++ make",
    ),
]

MOST_OFF = 0.01


@pytest.fixture(scope="session", autouse=True)
def cores(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the cores of these tests apart, each built once."""
    simulator.CORES = tmp_path_factory.mktemp("cores")


def _net(name: str, folder: Path, program: Path, **fields: int) -> tuple[Built, object, tuple[int, ...]]:
    real, shape = nets.digits() if name == "digits" else nets.everything(mean=False)
    quantised = int8_shift(real, shape)
    return build(folder, quantised, code(**fields), program), quantised, shape


def test_the_core_is_free_of_warnings() -> None:
    sources = ["dpu_pkg.sv", "dpu_core.sv"]
    for pixels, channels in ((8, 16), (4, 10)):
        done = subprocess.run(
            [
                *("verilator", "--lint-only", "-Wall", "--top-module", "dpu_core"),
                f"-GPIXELS={pixels}",
                f"-GCHANNELS={channels}",
                *sources,
            ],
            cwd=RUNNER / "rtl",
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("parallelism", ["B512", "B800", "B4096"])
@pytest.mark.parametrize("name", ["digits", "everything"])
def test_it_gives_the_bits_of_the_functional_model_in_the_cycles_of_the_count(
    name: str, parallelism: str, tmp_path: Path, checked_program: Path
) -> None:
    made, quantised, shape = _net(name, tmp_path / "made", checked_program, parallelism=parallelism)
    inputs = random_inputs(shape, 3, seed=5)
    found = made.simulate(inputs, cases=2)
    assert found.timing == "simulated"
    equal(found.outputs, expected(quantised, inputs))
    equal(found.simulated, {name: array[:2] for name, array in found.outputs.items()})
    for cycles in found.cycles:
        assert cycles == pytest.approx(made.plan["cycles"], rel=MOST_OFF)


def test_narrow_banks_overlap_loads_and_products_and_the_count_still_holds(
    tmp_path: Path, checked_program: Path
) -> None:
    made, _, shape = _net("everything", tmp_path / "made", checked_program, bank_depth=24, bank_num=6)
    inputs = random_inputs(shape, 1, seed=5)
    found = made.simulate(inputs, cases=1)
    assert is_simulator_right(simulated_outputs(found.simulated, found.outputs))
    assert found.cycles[0] == pytest.approx(made.plan["cycles"], rel=MOST_OFF)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("if (rest > half || (rest == half && whole[0]))", "if (rest >= half)"),
        ("if (n < moved_now && m.op != SAVE)", "if (n < moved_now && m.op != SAVE && m.bank != 0)"),
        ("array_command.waits <= m_ended", "array_command.waits <= m_ended + 1"),
        ("row < signed'(a.in_rows)", "row <= signed'(a.in_rows)"),
    ],
    ids=["rounds ties up", "loses words", "does not wait", "reads beyond a tile"],
)
def test_a_core_that_is_wrong_on_purpose_does_not_equal_the_functional_model(
    right: str, wrong: str, tmp_path: Path, checked_program: Path
) -> None:
    made, _, shape = _net(
        "everything", tmp_path / "made", checked_program, parallelism="B512", bank_depth=24, bank_num=6
    )
    path = made.folder / "core" / "dpu_core.sv"
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    found = made.simulate(random_inputs(shape, 2, seed=5), cases=2)
    assert not is_simulator_right(simulated_outputs(found.simulated, found.outputs))


def test_a_core_that_verilator_refuses_is_told_with_its_words(tmp_path: Path, checked_program: Path) -> None:
    made, _, shape = _net("digits", tmp_path / "made", checked_program)
    path = made.folder / "core" / "dpu_core.sv"
    path.write_text(path.read_text().replace("endmodule", "nonsense endmodule"))
    with pytest.raises(ToolError, match=r"(?s)the core cannot be built: verilator.*syntax error.*Mend runner/dpu/rtl"):
        made.simulate(random_inputs(shape, 1), cases=1)


def test_a_core_that_was_built_for_another_array_refuses_the_command_list(
    tmp_path: Path, checked_program: Path
) -> None:
    made, _, _ = _net("digits", tmp_path / "made", checked_program)
    other, _, _ = _net("digits", tmp_path / "other", checked_program, parallelism="B512")
    parameters = {name: other.plan[name] for name in simulator._PARAMETERS}
    core = simulator.build_core(other.folder / "core", parameters)
    (commands,) = made.folder.glob("*.commands")
    constants = commands.with_suffix(".constants")
    (tmp_path / "in").write_bytes(bytes(12 * 12))
    command = [str(core), str(commands), str(constants), "1", str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "made for another array" in done.stderr


@pytest.mark.parametrize("parallelism", ["B512", "B4096"])
def test_a_mean_over_a_number_that_is_no_power_of_two_has_the_bits_of_onnx_runtime(
    parallelism: str, tmp_path: Path, checked_program: Path
) -> None:
    """The core multiplies by a float32 as IEEE 754 has it: the product is rounded to 24 bits, then to an integer."""
    real, shape = nets.everything(mean=True)
    quantised = int8_shift(real, shape)
    made = build(tmp_path / "made", quantised, code(parallelism=parallelism), checked_program)
    inputs = random_inputs(shape, 4, seed=5)
    found = made.simulate(inputs, cases=4)
    assert found.timing == "simulated"
    equal(found.outputs, expected(quantised, inputs))
    equal(found.simulated, found.outputs)
    for cycles in found.cycles:
        assert cycles == pytest.approx(made.plan["cycles"], rel=MOST_OFF)


def test_without_verilator_cells_are_estimated_with_the_reason(
    tmp_path: Path, checked_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, quantised, shape = _net("digits", tmp_path / "made", checked_program)
    which = shutil.which
    monkeypatch.setattr(simulator.shutil, "which", lambda name: None if name == "verilator" else which(name))
    board = simulator.DpuSimulator(_purpose())
    inputs = random_inputs(shape, 2)
    found = board.simulate(made.folder, {"x": np.stack([each["x"] for each in inputs])}, cases=1, timeout=60.0)
    equal(found.outputs, expected(quantised, inputs))
    assert found.timing == "estimated"
    assert "Verilator, g++ or make is not installed (apt-get install verilator g++ make)" in str(board.emulator)


def _purpose():
    from tests.integration.backends.dpu.building import PURPOSE

    return PURPOSE
