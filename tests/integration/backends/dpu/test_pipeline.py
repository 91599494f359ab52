"""A cell of the array goes through the whole pipeline, by the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossfarm.boards.simulators import dpu as simulator
from crossfarm.util.paths import HOME
from tests.integration.backends.dpu import nets

pytestmark = pytest.mark.integration

CELL = "dpu_zcu104-digits-int8_shift"
MODELS = """
datasets:
  - {name: squares, kind: csv, source: {file: squares.csv}, height: 12, width: 12}
models:
  - name: digits
    licence: MIT
    source: {file: digits.onnx}
    inputs: [{name: x, shape: [1, 1, 12, 12], layout: NCHW}]
    preprocess: {channels: GRAY, mean: 127.5, scale: 0.0078125}
    data: [squares]
    variants: [float32, int8_shift]
    quantisation: {calibration: 8, checks: {tolerance: 1.0e-6}}
    checks: {cycles: {dpu_zcu104: 1000000}}
"""


def _zig_cache() -> dict[str, str]:
    """Return where the clone's own runs have put the C library already, so that no test builds it again."""
    own = HOME / ".crossfarm" / "store" / "zig"
    return {"ZIG_GLOBAL_CACHE_DIR": str(own)} if own.is_dir() and "ZIG_GLOBAL_CACHE_DIR" not in os.environ else {}


def _pipeline(folder: Path, *arguments: str, out: str = "out") -> subprocess.CompletedProcess[str]:
    places = ["--models", str(folder / "models.yaml"), "--pipeline", str(folder / "trial.yaml")]
    command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), "pipeline", *places]
    done = subprocess.run(
        [*command, "--store", str(folder / "store"), "--out", str(folder / out), "--engine", "local", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=HOME,
        env={**os.environ, "CI": "true", "PYTHONPATH": str(HOME), **_zig_cache()},
        timeout=1200,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def _records(folder: Path, out: str = "out") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / out / "results.jsonl").read_text().splitlines()]


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of the cell, by name."""
    checks = [record for record in _records(folder) if record["record"] == "check"]
    return {record["name"]: record for record in checks if record["cell"] == CELL}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline has run."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "digits.onnx").write_bytes(nets.digits()[0].SerializeToString())
    generator = np.random.default_rng(0)
    rows = [[*generator.integers(0, 256, 144), number % 10] for number in range(10)]
    (folder / "squares.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    (folder / "models.yaml").write_text(MODELS)
    (folder / "trial.yaml").write_text("name: trial\ntargets: [dpu_zcu104]\nmeasure: {simulated_cases: 2}\n")
    done = _pipeline(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_outputs_equal_onnx_runtimes_and_the_partition_is_told(ran: Path) -> None:
    rows = _rows(ran)
    assert rows["accuracy.output.y"]["status"] == "passed"
    assert rows["accuracy.output.y"]["value"] == 0.0
    assert "9 of 9 operators and 130,400 of 130,400 MACs (100.0%) on" in rows["partition"]["message"]


def test_cycles_are_held_against_the_budget_and_say_what_they_are_worth(ran: Path) -> None:
    rows = _rows(ran)
    assert rows["cycles"]["status"] == "passed"
    if simulator.verilator_version() is None:
        assert "estimate, within 15 % of published figures for 13 networks" in rows["cycles"]["message"]
        pytest.skip("Verilator, g++ or make is not installed; apt-get install verilator g++ make")
    assert rows["simulator.equal"]["status"] == "passed"
    assert rows["cycles"]["note"] == "simulated"


def test_float32_is_skipped_with_the_reason(ran: Path) -> None:
    done = _pipeline(ran, "--only", "dpu_zcu104-digits-float32", out="float32")
    assert "dpu_zcu104 takes int8_shift alone" in done.stdout
    jobs = {record["job"]: record for record in _records(ran, "float32") if record["record"] == "job"}
    skipped = jobs["compile:dpu_zcu104-digits-float32"]
    assert (skipped["state"], skipped["reason"]) == ("skipped", "dpu_zcu104 takes int8_shift alone")
