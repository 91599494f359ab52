"""A job that one board failed and another did is told as flaky, with both boards, in every report."""

from __future__ import annotations

from crossfarm.reports import junit, summary
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord
from tests.unit.reports.records import GOOD, job, parse, run_record

FLAKY = job("measure", GOOD, board="pi-2", flaky=("pi-1: it does not answer",))
SEEN = overview([run_record(cells=(GOOD,)), FLAKY, EndRecord(exit_code=0, seconds=1.0)])


def test_junit_names_both_boards_and_the_case_has_passed() -> None:
    case = next(case for case in parse(junit.render(SEEN)).iter("testcase") if case.get("name") == "measure")
    properties = {item.get("name"): item.get("value") for item in case.iter("property")}
    assert (properties["board"], properties["flaky"]) == ("pi-2", "pi-1: it does not answer")
    assert "flaky, ran well on pi-2 after pi-1: it does not answer" in (case.findtext("system-out") or "")
    assert case.find("error") is None
    assert case.find("failure") is None


def test_the_summary_has_a_section_for_it() -> None:
    section = summary.render(SEEN).partition("## Flaky\n")[2].partition("\n## ")[0]
    assert f"`measure:{GOOD}` ran well on pi-2 after pi-1: it does not answer" in section


def test_a_job_that_every_board_failed_is_wrong_and_not_flaky() -> None:
    failed = job("measure", GOOD, "failed", cause="x", fault="infrastructure", flaky=("pi-1: x",))
    assert overview([run_record(cells=(GOOD,)), failed]).flaky == ()
