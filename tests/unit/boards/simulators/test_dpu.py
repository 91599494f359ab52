"""The simulator of the DPU-style array without a compiler: what it refuses, and what measurements depend on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crossfarm.boards.protocol import Purpose
from crossfarm.boards.simulators import dpu
from crossfarm.errors import BoardError, BundleError

PLAN = {
    "ports": {"x": {"dtype": "int8", "shape": [1, 2]}, "y": {"dtype": "int8", "shape": [1, 2]}},
    "parts": [{"side": "dpu", "inputs": ["x"], "outputs": ["y"], "commands": "0.commands", "constants": "0.constants"}],
    "macs": dpu.MOST_MACS + 1,
    "megahertz": 300,
    "cycles": 600,
    "contains": "everything",
}
ECHO = '#!/bin/sh\ncp "$4" "$5"\n'


def _bundle(folder: Path, script: str, **changes: object) -> Path:
    (folder / "plan.json").write_text(json.dumps({**PLAN, **changes}))
    (folder / "manifest.json").write_text(json.dumps({"outputs": [{"name": "y"}]}))
    (folder / "program").write_text(script)
    (folder / "program").chmod(0o755)
    return folder


def _board() -> dpu.DpuSimulator:
    return dpu.DpuSimulator(Purpose(target="dpu_zcu104", machine=("dpu",), emulator=None, code=None))


def _run(bundle: Path, board: dpu.DpuSimulator | None = None, *, timeout: float = 30.0):
    inputs = {"x": np.arange(6, dtype=np.int8).reshape(3, 1, 2)}
    return (board or _board()).simulate(bundle, inputs, cases=1, timeout=timeout)


def test_all_cases_are_answered_in_one_call_and_time_is_that_of_the_count(tmp_path: Path) -> None:
    board = _board()
    found = _run(_bundle(tmp_path, ECHO), board)
    assert found.outputs["y"].tolist() == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert (found.latency_ns, found.timing, found.cycles) == ((2000,), "estimated", ())
    assert "50,000,001 MACs a case, at most 50,000,000 are simulated" in str(board.emulator)


def test_what_the_program_refuses_is_the_bundles_fault_and_what_else_ends_it_the_machines(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"0\.commands: it is damaged; make the bundle again"):
        _run(_bundle(tmp_path, "#!/bin/sh\necho it is damaged\nexit 3\n"))
    with pytest.raises(BoardError, match="ended with exit code 5: no memory"):
        _run(_bundle(tmp_path, "#!/bin/sh\necho no memory\nexit 5\n"))


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="did not end within"):
        _run(_bundle(tmp_path, "#!/bin/sh\nexec sleep 600\n"), timeout=1.0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"parts": 1}', "{}"])
def test_a_damaged_plan_is_refused(content: str, tmp_path: Path) -> None:
    _bundle(tmp_path, ECHO)
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(BundleError, match=r"plan\.json cannot be used"):
        _run(tmp_path)


def test_a_part_of_the_cpu_that_onnx_runtime_refuses_is_told(tmp_path: Path) -> None:
    part = {"side": "cpu", "inputs": ["x"], "outputs": ["y"], "model": "0.onnx"}
    bundle = _bundle(tmp_path, ECHO, parts=[part])
    (bundle / "0.onnx").write_bytes(b"none")
    with pytest.raises(BundleError, match=r"0\.onnx does not run in ONNX Runtime"):
        _run(bundle)


def test_measurements_depend_on_verilator_and_nothing_is_missing_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpu.shutil, "which", lambda name: None)
    assert dpu.fingerprint() == {"simulator": dpu.VERSION, "verilator": "none"}
    assert dpu.missing() is None
