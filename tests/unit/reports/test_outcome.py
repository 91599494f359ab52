"""The outcome of a run for programs, which keeps to its schema whatever the records say."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given

from crossfarm.cli import schemas
from crossfarm.reports.outcome import outcome_json
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord, JobRecord, Record
from tests.unit.reports.records import BAD, GOOD, LOST, any_records, check, job, run_record, whole_run

VALIDATOR = jsonschema.Draft202012Validator(schemas.schema("outcome"))
END = EndRecord(exit_code=0, seconds=1.0)


def test_a_run_is_one_object_with_cells_failures_and_reports() -> None:
    found = json.loads(outcome_json(overview(whole_run()), 1, {"junit.xml": "out/junit.xml"}))
    VALIDATOR.validate(found)
    assert (found["outcome"], found["exit_code"], found["run"], found["seconds"]) == ("failed", 1, "r1", 61.0)
    assert found["counts"] == {"passed": 1, "failed": 1, "error": 1, "skipped": 1}
    assert found["jobs"] == {"hit": 1, "run": 4, "failed": 1, "cancelled": 1, "skipped": 1}
    bad = next(cell for cell in found["cells"] if cell["id"] == BAD)
    assert bad["checks"]["accuracy.output.y"] == {
        "status": "failed",
        "value": "NaN",
        "limit": 1e-4,
        "unit": "scale",
        "message": "3 are NaN",
    }
    assert bad["measurements"]["latency.p50"] == {
        "value": 98.7e6,
        "unit": "ns",
        "board": "local",
        "timing": "emulated",
    }
    assert [failure["job"] for failure in found["failures"]] == [f"compile:{LOST}"]
    assert found["reports"] == {"junit.xml": "out/junit.xml"}


@pytest.mark.parametrize(
    ("records", "outcome"),
    [
        ([run_record(), job("check", GOOD), check(GOOD, "accuracy.output.y", "passed"), END], "passed"),
        ([run_record(cells=(GOOD,)), job("compile", GOOD), END], "unchecked"),
        ([run_record(cells=()), END], "unchecked"),
        ([run_record(cells=(GOOD,)), job("compile", GOOD)], "interrupted"),
        ([job("compile", GOOD, "failed", fault="infrastructure"), END], "error"),
        ([job("compile", GOOD, "failed", fault="product")], "failed"),
        ([JobRecord(job="prepare:a", stage="prepare", state="failed", seconds=1.0, fault="product"), END], "failed"),
        ([JobRecord(job="fetch:a", stage="fetch", state="failed", seconds=1.0, fault="infrastructure"), END], "error"),
    ],
)
def test_one_word_says_what_became_of_it(records: list[Record], outcome: str) -> None:
    assert json.loads(outcome_json(overview(records), 0, {}))["outcome"] == outcome


@given(any_records)
def test_any_records_keep_to_the_schema(records: list[Record]) -> None:
    VALIDATOR.validate(json.loads(outcome_json(overview(records), 0, {})))
