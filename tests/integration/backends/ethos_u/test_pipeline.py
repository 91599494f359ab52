"""Ethos-U from models.yaml to the report, with the real Vela and LiteRT."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crossfarm.bundles.ethos_u import ENVIRONMENT
from crossfarm.results import CheckRecord, JobRecord, MeasurementRecord, read_records
from crossfarm.util.paths import HOME
from tests.tool_environments import need

pytestmark = pytest.mark.integration
KNOWN = {"ethos_u55_128": 201_523, "ethos_u65_256": 104_235, "ethos_u85_256": 99_010}
"""Cycles of resnet8 by Vela 5.2.0."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What a run of two models on all three wrote."""
    need(ENVIRONMENT)
    folder = tmp_path_factory.mktemp("ethos_u")
    command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), "pipeline"]
    command += ["--pipeline", "accelerators", "--engine", "local", "--store", str(folder / "store")]
    command += ["--out", str(folder / "out"), "--targets", ",".join(KNOWN)]
    command += ["--only", "*-resnet8-*,*-keyword_spotting-*,*-mnist_cnn-int8"]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return list(read_records(folder / "out" / "results.jsonl"))


@pytest.mark.parametrize("target", KNOWN)
def test_cycles_are_velas_and_say_that_they_are_an_estimate(target: str, records: list[object]) -> None:
    rows = {row.name: row for row in records if isinstance(row, CheckRecord) and row.cell == f"{target}-resnet8-int8"}
    assert rows["cycles"].value == KNOWN[target]
    assert rows["cycles"].note is not None and rows["cycles"].note.startswith("estimate, by Vela")
    numbers = [row for row in records if isinstance(row, MeasurementRecord) and row.cell == f"{target}-resnet8-int8"]
    latency = next(row for row in numbers if row.name == "latency.p50")
    assert latency.provenance.timing == "estimated"
    assert {"accelerator.sram", "accelerator.flash"} <= {row.name for row in numbers}


def test_answers_are_litert_s_and_hold_what_the_model_declares(records: list[object]) -> None:
    rows = {
        row.name: row for row in records if isinstance(row, CheckRecord) and row.cell == "ethos_u55_128-resnet8-int8"
    }
    assert (rows["accuracy.top1.cifar10_20"].status, rows["accuracy.argmax"].status) == ("passed", "passed")
    assert rows["accuracy.output.Identity_int8"].status == "informative"


def test_operators_that_stay_on_the_processor_are_told(records: list[object]) -> None:
    rows = {row.cell: row for row in records if isinstance(row, CheckRecord) and row.name == "accelerator"}
    message = rows["ethos_u55_128-keyword_spotting-int8"].message
    assert "on the CPU: DEQUANTIZE Identity (Unsupported opType)" in message


def test_a_model_that_came_otherwise_is_skipped_with_that_reason(records: list[object]) -> None:
    skipped = [row for row in records if isinstance(row, JobRecord) and row.state == "skipped"]
    reasons = {row.cell: row.reason for row in skipped}
    assert reasons["ethos_u55_128-mnist_cnn-int8"] == "ethos_u55_128 takes int8 models that come as tflite alone"
