"""Names with control characters and markup, very long logs and very many failures, in every report and comparison."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from crossfarm.reports import html, junit, summary, terminal
from crossfarm.reports.history.database import History
from crossfarm.reports.history.kept_run import KeptRun, kept_run
from crossfarm.reports.history.place import Place
from crossfarm.reports.history.read_results import read_results
from crossfarm.reports.past import PastReader
from crossfarm.reports.regression import comparison_text, notice, trend
from crossfarm.reports.regression.comparison import compare_runs
from crossfarm.reports.run_view import Overview, overview
from crossfarm.results import EndRecord, JobRecord, Provenance, Record, to_json
from tests.unit.reports import kept_runs
from tests.unit.reports.records import GOOD, check, job, number, parse, run_record
from tests.unit.reports.test_html import HOSTILE, Page

LIMIT = 1024 * 1024
"""Bytes: GitHub's summary of a step."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]")


def compared_with_nothing(seen: Overview) -> tuple[KeptRun, KeptRun]:
    return kept_run([run_record(run="before", cells=())]), kept_run(RECORDS[id(seen)])


RECORDS: dict[int, list[Record]] = {}


def run(*records: Record) -> Overview:
    """Return a run of some records, which stay at hand."""
    whole = [run_record(run="now", cells=()), *records, EndRecord(exit_code=1, seconds=1.0)]
    seen = overview(whole)
    RECORDS[id(seen)] = whole
    return seen


def compared(form: Callable[..., str], **options: bool) -> Callable[[Overview], str]:
    return lambda seen: form(compare_runs(*compared_with_nothing(seen)), **options)


REPORTS: Mapping[str, Callable[[Overview], str]] = {
    "terminal": terminal.render,
    "summary": summary.render,
    "junit": junit.render,
    "html": html.render,
    "compare": compared(comparison_text.as_table, everything=True),
    "compare --markdown": compared(comparison_text.as_markdown, everything=True),
    "compare --json": compared(comparison_text.as_json),
    "history": lambda seen: trend.as_text(trend.series_of([compared_with_nothing(seen)[1]], "latency.p50")),
    "history --json": lambda seen: trend.as_json(trend.series_of([compared_with_nothing(seen)[1]], "latency.p50")),
    "notify": lambda seen: notice.document(seen, compare_runs(*compared_with_nothing(seen))),
}


@pytest.mark.parametrize("report", REPORTS)
def test_control_characters_and_markup_in_names_stay_text(report: str) -> None:
    board = Provenance(board=HOSTILE, timing="silicon", cpu_model=HOSTILE)
    seen = run(
        JobRecord(job=HOSTILE, stage=HOSTILE, state="failed", seconds=1.0, cause=HOSTILE, log=HOSTILE, command=HOSTILE),
        check(HOSTILE, HOSTILE, "failed", message=HOSTILE, details=(HOSTILE,), note=HOSTILE, file=HOSTILE),
        check(HOSTILE, "a", "known failure", message=HOSTILE, expected=HOSTILE),
        check(HOSTILE, "expected.b", "unexpected pass", message=HOSTILE, expected=HOSTILE),
        number(HOSTILE, "latency.p50", 1e6, "ns", board),
        number(HOSTILE, HOSTILE, 1.0, HOSTILE, board),
    )
    text = REPORTS[report](seen)
    assert text
    assert not CONTROL.search(text)
    if report == "html":
        shown = Page(text)
        assert (len(shown.of("script")), shown.of("img")) == (2, [])
    elif report == "junit":
        parse(text)
    elif report in ("summary", "compare --markdown"):
        in_words = re.sub(r"`+[^`]*`+", "", text)  # code shows all that stands in it as it is
        assert "<script" not in in_words and "<img" not in in_words
    elif report.endswith(("json", "notify")):
        json.loads(text, parse_constant=pytest.fail)


@pytest.mark.parametrize("report", REPORTS)
def test_a_log_of_ten_megabytes_does_not_fill_a_report(report: str) -> None:
    log = "x y" * 3_500_000
    seen = run(
        job("compile", GOOD, "failed", cause=log, log=log, reason=log),
        check(GOOD, "text.d", "failed", message=log, details=(log,)),
    )
    text = REPORTS[report](seen)
    limit = {"compare --json": 25, "notify": 25, "junit": 0.3}.get(report, 0.1)
    assert len(text) < limit * LIMIT


@pytest.mark.parametrize("report", REPORTS)
def test_a_thousand_failures_at_once_fit_what_servers_take(report: str) -> None:
    names = [f"armv7-model_{index:04d}-float32" for index in range(1000)]
    seen = run(
        *(
            row
            for name in names
            for row in (
                job("measure", name),
                check(name, "accuracy.output.y", "failed", message="3 elements are NaN " * 20, command="./inv x"),
                number(name, "latency.p50", float("nan"), "ns", kept_runs.SILICON),
            )
        )
    )
    text = REPORTS[report](seen)
    assert len(text.encode()) < {"summary": LIMIT, "html": 5_000_000, "compare --markdown": 65_536}.get(
        report, 8_000_000
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("report", REPORTS)
def test_numbers_that_are_not_finite_are_told_in_every_report(report: str, value: float) -> None:
    seen = run(
        job("measure", GOOD),
        check(GOOD, "accuracy.output.y", "failed", value=value, unit="scale"),
        number(GOOD, "latency.p50", value, "ns", kept_runs.SILICON),
        number(GOOD, "accuracy.top1.d", value, "share", kept_runs.SILICON),
        check(GOOD, "accuracy.top1.d", "informative", value=value, unit="share", cases=4),
    )
    text = REPORTS[report](seen)
    if report.endswith(("json", "notify")):
        json.loads(text, parse_constant=pytest.fail)
    elif not report.startswith("compare"):
        assert "not finite" in text


def test_a_record_with_a_word_of_a_newer_version_is_skipped_and_told(tmp_path: Path) -> None:
    lines = [to_json(record) for record in kept_runs.records("r1", GOOD)]
    newer = to_json(check(GOOD, "simulator.equal", "passed")).replace('"passed"', '"almost passed"')
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join([*lines[:-1], newer, lines[-1]]) + "\n")
    found = read_results(path)
    assert len(found.runs[0]) == len(lines)
    assert f"results.jsonl:{len(lines)}: skipped: not a record of a run: check.status" in found.told[0]


def history_of(path: Path) -> Place:
    place = Place(file=path)
    with History(place) as history:
        history.add(kept_run(kept_runs.records("r1", GOOD)))
    return place


def told_by_the_page(place: Place) -> str:
    now = kept_runs.records("r2", GOOD)
    text = html.render(overview(now), untold=PastReader(place, now).read(overview(now)).told)
    found = re.search(r'<p class="notice">(The runs before .*?)</p>', text)
    return found[1] if found else ""


def test_a_history_of_a_newer_version_costs_the_page_its_past_and_nothing_else(tmp_path: Path) -> None:
    place = history_of(tmp_path / "history.db")
    assert told_by_the_page(place) == ""
    with sqlite3.connect(tmp_path / "history.db") as connection:
        connection.execute("UPDATE crossfarm_history_version SET version_num = '9999'")
    connection.close()
    assert "The runs before could not be read: " in told_by_the_page(place)
    assert "newer crossfarm (revision 9999" in told_by_the_page(place)


def test_a_history_that_another_holds_costs_the_page_its_past_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = history_of(tmp_path / "history.db")
    monkeypatch.setattr("crossfarm.reports.past.BUSY_SECONDS", 0.05)
    connection = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        assert "database is locked" in told_by_the_page(place)
    finally:
        connection.close()
    assert told_by_the_page(place) == ""


def test_a_history_that_may_only_be_read_has_its_past_shown(tmp_path: Path) -> None:
    place = history_of(tmp_path / "history.db")
    (tmp_path / "history.db").chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        now = kept_runs.records("r2", GOOD, samples=kept_runs.latencies(2))
        found = PastReader(place, now).read(overview(now))
    finally:
        tmp_path.chmod(0o700)
    assert found.told == ""
    assert found.compared is not None
