"""How a number went: sparkline, rows, steps with their commits, and JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.reports.history.kept_run import KeptNumber, KeptRun
from crossfarm.reports.regression.trend import as_json, as_text, series_of, sparkline
from tests.unit.reports.kept_runs import cell, kept, latencies, latency


def _runs(*medians: float, **changes: object) -> list[KeptRun]:
    return [
        kept(
            f"r{number}",
            cell(numbers=latency(latencies(number, median=median, cv=0.002)), **changes),
            git_commit=f"{number % 10}" * 40,
            position=float(number),
        )
        for number, median in enumerate(medians)
    ]


def test_a_step_names_the_first_bad_range_of_commits() -> None:
    (series,) = series_of(_runs(*[1e6] * 6, *[1.2e6] * 5), "latency.p50")
    (step,) = series.steps
    assert series.commits(step) == f"commits {'5' * 12}..{'6' * 12}"
    assert (step.at, round(step.change, 1)) == (6, 0.2)
    assert "<- +20" in as_text([series]).splitlines()[9]


def test_without_commits_a_step_names_runs() -> None:
    runs = [kept(run.run, *run.cells, git_commit=None, position=run.position) for run in _runs(*[1e6] * 4, *[2e6] * 4)]
    (series,) = series_of(runs, "latency.p50")
    assert series.commits(series.steps[0]) == "runs r3 and r4"


def test_each_board_has_a_series_of_its_own() -> None:
    found = series_of([*_runs(1e6), *_runs(2e6, board="pi-2")], "latency.p50")
    assert [(series.board, len(series.points)) for series in found] == [("pi-1", 1), ("pi-2", 1)]


def test_a_run_that_did_not_measure_again_has_no_point() -> None:
    runs = _runs(1e6, 1e6)
    again = kept("r9", runs[0].cells[0], position=9.0)
    (series,) = series_of([*runs, again], "latency.p50")
    assert [point.run for point in series.points] == ["r0", "r1"]


def test_the_newest_run_stands_last() -> None:
    lines = as_text(series_of(_runs(1e6, 2e6), "latency.p50")).splitlines()
    assert lines[0] == "aarch64-mnist-float32 on pi-1: latency.p50, 2 runs"
    assert lines[1].strip() == "▁█"
    assert ["r0" in lines[3], "r1" in lines[4], "+100" in lines[4]] == [True] * 3


def test_time_of_an_emulator_is_labelled() -> None:
    assert " on pi-1 (emulated): " in as_text(series_of(_runs(1e6, timing="emulated"), "latency.p50"))


def test_json_holds_points_and_steps() -> None:
    runs = [
        *_runs(*[1e6] * 4, *[2e6] * 4),
        kept("odd", cell(numbers={"latency.p50": KeptNumber(name="latency.p50", value=math.nan, unit="ns")})),
    ]
    (series,) = json.loads(as_json(series_of(runs, "latency.p50")), parse_constant=pytest.fail)
    assert len(series["points"]) == 9
    assert series["points"][-1]["value"] is None
    assert series["steps"][0]["run"] == "r4"


@given(st.lists(st.floats()))
def test_a_sparkline_has_a_bar_a_value(values: list[float]) -> None:
    assert len(sparkline(values)) == len(values)


def test_a_sparkline_goes_from_the_least_to_the_greatest() -> None:
    assert sparkline([1, 2, 3, math.nan, 8]) == "▁▂▃·█"
    assert sparkline([5, 5]) == "▄▄"
