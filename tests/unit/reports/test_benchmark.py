"""Files for github-action-benchmark: judged numbers alone, in the direction in which they are judged."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given

from crossfarm.reports import benchmark
from crossfarm.reports.run_view import overview
from crossfarm.results import MeasurementRecord, Record
from tests.unit.reports.kept_runs import SILICON, records
from tests.unit.reports.records import EMULATED, any_records, number, run_record

CELL = "x86_64-mnist-float32"


def rendered(found: list[Record]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    smaller, bigger = benchmark.render(overview(found))
    return json.loads(smaller), json.loads(bigger)


def test_a_latency_names_its_board_its_spread_and_how_it_was_taken() -> None:
    smaller, bigger = rendered(records("r", CELL, samples=[1.0, 2.0, 3.0]))
    assert bigger == []
    assert smaller == [
        {
            "name": f"{CELL} latency.p50 on pi-1",
            "unit": "ns",
            "value": 2.0,
            "range": "± 1",
            "extra": "silicon, Cortex-A53, performance, 3 samples",
        },
        {"name": f"{CELL} program", "unit": "bytes", "value": 317_440.0, "extra": "silicon, Cortex-A53, performance"},
    ]


def test_a_share_of_right_answers_goes_into_the_other_file() -> None:
    found = [run_record(cells=(CELL,)), number(CELL, "accuracy.top1.digits", 0.97, "share", EMULATED)]
    smaller, bigger = rendered([*found])
    assert smaller == []
    assert [(entry["name"], entry["value"]) for entry in bigger] == [(f"{CELL} accuracy.top1.digits", 0.97)]


def test_emulated_time_and_what_is_not_finite_or_not_judged_is_left_out() -> None:
    found: list[Record] = [
        run_record(cells=(CELL,)),
        number(CELL, "latency.p50", 5.0, "ns", EMULATED),
        number(CELL, "latency.p90", 5.0, "ns", SILICON),
        number(CELL, "program", math.nan, "bytes", EMULATED),
        number(CELL, "weights", math.inf, "bytes", EMULATED),
        number(CELL, "arena", 7.0, "bytes", EMULATED),
    ]
    smaller, bigger = rendered(found)
    assert [entry["name"] for entry in smaller] == [f"{CELL} arena"]
    assert bigger == []


def test_samples_that_are_not_finite_give_no_range() -> None:
    row = MeasurementRecord(
        cell=CELL, name="latency.p50", value=1.0, unit="ns", samples=(1.0, math.inf, 2.0), provenance=SILICON
    )
    (entry,), _ = rendered([run_record(cells=(CELL,)), row])
    assert "range" not in entry


@given(any_records)
def test_any_records_give_lists_that_the_action_reads(found: list[Record]) -> None:
    for entries in rendered(found):
        for entry in entries:
            assert isinstance(entry["name"], str)
            assert math.isfinite(entry["value"])
