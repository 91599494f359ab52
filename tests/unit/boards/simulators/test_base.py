"""Simulators: they get every case, and what they answer must be what the manifest declares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from crossfarm.boards.protocol import Purpose
from crossfarm.boards.result import RunResult
from crossfarm.boards.simulators.base import Simulated, SimulatedBoard
from crossfarm.bundles.compile_report import PortType
from crossfarm.bundles.manifest import InputFile, Manifest
from crossfarm.errors import BundleError

if TYPE_CHECKING:
    from crossfarm.boards.simulators.base import Array


class _Doubler(SimulatedBoard):
    """Answers with twice the input, as the given dtype."""

    emulator = "doubler 1"

    def __init__(self, dtype: str = "float32") -> None:
        super().__init__(Purpose(target="t", machine=("array",), emulator=None, code=None, simulated_cases=5))
        self.dtype = dtype

    def simulate(self, bundle: Path, inputs: Mapping[str, Array], *, cases: int, timeout: float) -> Simulated:
        doubled = (2 * inputs["x"]).astype(self.dtype)
        return Simulated(
            outputs={"y": doubled},
            latency_ns=(7,) * cases,
            cycles=tuple(range(100, 100 + cases)),
            contains="additions alone",
            simulated={"y": doubled[:cases] + 1},
        )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "inputs").mkdir(parents=True)
    np.arange(6, dtype=np.float32).tofile(folder / "inputs" / "0.bin")
    Manifest(
        model="m",
        target="t",
        variant="float32",
        cell="t-m-float32",
        identity="ab" * 32,
        cases=2,
        inputs=(InputFile(name="x", dtype="float32", shape=(3,), file="inputs/0.bin"),),
        outputs=(PortType(name="y", dtype="float32", shape=(3,)),),
        files=(),
        provenance={},
    ).write(folder / "manifest.json")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "output" / "outputs").mkdir(parents=True)
    return tmp_path / "output"


def test_every_case_is_answered_and_the_result_is_of_this_bundle(bundle: Path, output: Path) -> None:
    with _Doubler() as board:
        board.preflight()
        ended = board.run(board.deploy(bundle), ["--repeat", "3"], output=output, timeout=1)
    assert ended.code == 0
    assert np.fromfile(output / "outputs" / "0.bin", np.float32).tolist() == [0, 2, 4, 6, 8, 10]
    result = RunResult.model_validate_json((output / "result.json").read_bytes())
    assert (result.identity, result.cases, result.latency_ns) == ("ab" * 32, 2, (7, 7))
    assert result.arena_bytes is None


def test_a_slow_simulator_runs_no_more_cases_than_there_are_and_its_answers_stand_apart(
    bundle: Path, output: Path
) -> None:
    board = _Doubler()
    board.run(board.deploy(bundle), [], output=output, timeout=1)
    simulated = RunResult.model_validate_json((output / "result.json").read_bytes()).simulated
    assert simulated is not None
    assert (simulated.cycles, simulated.contains) == ((100, 101), "additions alone")
    assert np.fromfile(output / "simulated" / "0.bin", np.float32).tolist() == [1, 3, 5, 7, 9, 11]


def test_an_answer_of_another_type_is_refused(bundle: Path, output: Path) -> None:
    board = _Doubler("float64")
    with pytest.raises(BundleError, match=r"output y is float64 of \(2, 3\), not float32 of \(2, 3\)"):
        board.run(board.deploy(bundle), [], output=output, timeout=1)
