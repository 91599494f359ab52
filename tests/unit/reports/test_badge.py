"""The badge says what the run was, and red when something is wrong."""

from __future__ import annotations

import json

import pytest

from crossfarm.errors import StoreError
from crossfarm.reports import badge
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord, JobRecord, Record
from tests.unit.reports.kept_runs import records
from tests.unit.reports.records import check, job, run_record, whole_run

CELLS = ("x86_64-mnist-float32", "armv7-mnist-float32")
LOST = JobRecord(job="fetch:x", stage="fetch", state="failed", seconds=1.0)


def said(found: list[Record]) -> tuple[str, str]:
    shown = json.loads(badge.render(overview(found)))
    assert shown["schemaVersion"] == 1
    assert shown["label"] == "crossfarm"
    assert ("isError" in shown) == (shown["color"] == "red")
    return shown["message"], shown["color"]


@pytest.mark.parametrize(
    ("found", "message", "colour"),
    [
        (records("r", *CELLS), "2 of 2 cells passed", "brightgreen"),
        (whole_run(), "2 of 4 cells failed", "red"),
        ([*records("r", *CELLS, ends=False)], "incomplete", "orange"),
        ([*records("r", *CELLS)[:-1], LOST, EndRecord(exit_code=3, seconds=1.0)], "1 job failed", "red"),
        (
            [run_record(cells=CELLS[:1]), job("measure", CELLS[0]), EndRecord(exit_code=0, seconds=1.0)],
            "nothing was checked",
            "lightgrey",
        ),
        (
            [
                run_record(cells=CELLS[:1]),
                job("measure", CELLS[0]),
                check(CELLS[0], "accuracy.argmax", "known failure"),
                EndRecord(exit_code=0, seconds=1.0),
            ],
            "known failures only",
            "lightgrey",
        ),
    ],
)
def test_it_shows_the_outcome(found: list[Record], message: str, colour: str) -> None:
    assert said(found) == (message, colour)


def test_a_regression_makes_it_red_and_telling_it_twice_changes_nothing() -> None:
    good = badge.render(overview(records("r", *CELLS)))
    assert badge.with_regressions(good, 0) == good
    red = badge.with_regressions(good, 3)
    assert json.loads(red)["message"] == "2 of 2 cells passed, 3 regressed"
    assert json.loads(red)["color"] == "red"
    assert badge.with_regressions(red, 3) == red


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"message": "x"}'])
def test_what_is_no_badge_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match=r"\./inv report writes it again"):
        badge.with_regressions(text, 1)
