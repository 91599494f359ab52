"""The digits CNN from models.yaml to the report, by the real command line; a cell that fails hinders no other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
from onnx import helper

from crossfarm.bundles.rtl import ENVIRONMENT
from crossfarm.results import CheckRecord, JobRecord, MeasurementRecord, read_records
from crossfarm.util.paths import HOME
from tests.unit.backends.rtl import networks

pytestmark = pytest.mark.integration

MODELS = """
defaults:
  licence: Apache-2.0
  variants: [float32, int8]
  preprocess: {channels: GRAY, mean: 0, scale: 0.0625}
  data: [digits]
datasets:
  - {name: digits, kind: csv, source: {file: held_out.csv}, height: 8, width: 8, limit: 64}
models:
  - name: digits_cnn
    source: {file: digits_cnn.onnx}
    inputs: [{name: image, shape: [1, 1, 8, 8], layout: NCHW}]
    decode: {kind: classify, top: 3}
    checks: {top1: 0.95}
    quantisation: {calibration: 32, checks: {top1: 0.95, agreement: 0.95}}
  - name: softmax
    source: {file: softmax.onnx}
    inputs: [{name: x, shape: [1, 1, 8, 8], layout: NCHW}]
"""
PIPELINE = "name: cores\ntargets: [rtl_int8]\nmeasure: {simulated_cases: 3}\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Run the pipeline; returns its out folder and how it ended."""
    if (why := ENVIRONMENT.missing()) is not None:
        pytest.skip(why)
    if shutil.which("verilator") is None:
        pytest.skip("verilator is not installed; ./inv setup --pipeline accelerators")
    folder = tmp_path_factory.mktemp("cores")
    for name in ("digits_cnn.onnx", "held_out.csv"):
        shutil.copyfile(HOME / "models" / "digits_cnn" / name, folder / name)
    nodes = [helper.make_node("Softmax", ["x"], ["y"], name="last")]
    onnx.save(networks.network(nodes, {}, shape=[1, 1, 8, 8]), folder / "softmax.onnx")
    (folder / "models.yaml").write_text(MODELS)
    (folder / "cores.yaml").write_text(PIPELINE)
    command = [
        *(sys.executable, "-m", "invoke", "--search-root", str(HOME), "pipeline", "--engine", "local"),
        *("--models", str(folder / "models.yaml"), "--pipeline", str(folder / "cores.yaml")),
        *("--store", str(folder / "store"), "--out", str(folder / "out")),
    ]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False, timeout=900)
    return folder / "out", done


def _checks(out: Path, cell: str) -> Mapping[str, CheckRecord]:
    records = read_records(out / "results.jsonl")
    return {record.name: record for record in records if isinstance(record, CheckRecord) and record.cell == cell}


def test_the_core_equals_its_functional_model_and_its_cycles_are_shown(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = run
    checks = _checks(out, "rtl_int8-digits_cnn-float32")
    assert "simulator.equal" in checks, done.stdout + done.stderr
    assert (checks["simulator.equal"].status, checks["simulator.equal"].cases) == ("passed", 3)
    assert "simulated, 3 cases; the whole core and its memory over AXI" in checks["cycles"].message
    numbers = {
        record.name: record.value
        for record in read_records(out / "results.jsonl")
        if isinstance(record, MeasurementRecord) and record.cell == "rtl_int8-digits_cnn-float32"
    }
    assert numbers["latency.p50"] == pytest.approx(numbers["cycles.simulated"] * 10, rel=0.01)
    assert checks["accuracy.top1.digits"].status == "passed"


def test_a_model_with_an_unsupported_operator_is_skipped_with_the_reason_and_so_are_other_variants(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = run
    jobs = [record for record in read_records(out / "results.jsonl") if isinstance(record, JobRecord)]
    assert not [job for job in jobs if job.state == "failed"]
    skipped = {job.cell: str(job.reason) for job in jobs if job.state == "skipped" and job.stage in ("", "compile")}
    assert "operator Softmax of node 'last' cannot be compiled" in skipped["rtl_int8-softmax-float32"]
    assert {job.cell: job.reason for job in jobs}["rtl_int8-digits_cnn-int8"] == "rtl_int8 takes float32 alone"
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0
