"""What a number is worth stands beside it in every report: its clock, its count, and whether its failure is known."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from crossfarm.reports import html, junit, summary, terminal
from crossfarm.reports.history.kept_run import KeptRun, kept_run
from crossfarm.reports.regression import comparison_text, trend
from crossfarm.reports.regression.comparison import compare_runs
from crossfarm.reports.run_view import Overview, overview
from crossfarm.reports.shown import label
from crossfarm.results import EndRecord, Provenance, Record, Timing
from tests.unit.reports.kept_runs import latencies, records
from tests.unit.reports.records import check, job, number, run_record

CELL = "armv7-mnist-int8"
NOT_SILICON: tuple[Timing, ...] = ("emulated", "simulated", "estimated")
VALUE, SHOWN = 98.7e6, "98.7 ms"
REASON = "the vendor knows (https://example.org/1)"


def run(timing: Timing, *rows: Record) -> Overview:
    """Return a run of one cell whose median is SHOWN."""
    where = Provenance(board="b", timing=timing)
    return overview(
        [
            run_record(cells=(CELL,)),
            job("measure", CELL),
            check(CELL, "latency.p50", "informative", value=VALUE, unit="ns", message=f"p50 {SHOWN} ({timing})"),
            number(CELL, "latency.p50", VALUE, "ns", where),
            *rows,
            EndRecord(exit_code=0, seconds=1.0),
        ]
    )


def page_texts(seen: Overview) -> str:
    """Return the matrix and the table of the page, and what its dialogs are built of."""
    text = html.render(seen)
    return re.sub(r"<(?!script)[^>]*>", "", text.partition("<main>")[2])


REPORTS: Mapping[str, Callable[[Overview], str]] = {
    "terminal": terminal.render,
    "summary": summary.render,
    "junit": junit.render,
    "html": page_texts,
}


@pytest.mark.parametrize("timing", NOT_SILICON)
@pytest.mark.parametrize("report", REPORTS)
def test_a_time_that_was_not_measured_on_silicon_says_so_wherever_it_stands(report: str, timing: Timing) -> None:
    text = REPORTS[report](run(timing))
    places = [match.end() for match in re.finditer(re.escape(SHOWN), text)]
    assert places
    for place in places:
        assert re.match(rf" \\?\({timing}", text[place:]), text[place - 80 : place + 40]
    assert f"{SHOWN} (" not in REPORTS[report](run("silicon")).replace(f"p50 {SHOWN} (silicon)", "")


@pytest.mark.parametrize("timing", NOT_SILICON)
def test_the_properties_of_junit_say_so_too(timing: Timing) -> None:
    text = junit.render(run(timing))
    assert f'name="latency.p50 (ns, {timing})" value="{VALUE!r}"' in text


@pytest.mark.parametrize(
    ("name", "unit", "worth"),
    [
        ("latency.p90", "ns", "emulated"),
        ("latency.cv", "share", "emulated"),
        ("load_time", "ns", "emulated"),
        ("budget.latency_p50", "ms", "emulated"),
        ("peak_rss", "bytes", "emulated"),
        ("profile.layers", "ns", "emulated"),
        ("cycles.estimated", "cycles", "estimated"),
        ("cycles.simulated", "cycles", "simulated"),
        ("program", "bytes", ""),
        ("accuracy.top1.d", "share", ""),
        ("compile_time", "s", ""),
    ],
)
def test_what_depends_on_the_clock_of_the_board_has_its_label_alone(name: str, unit: str, worth: str) -> None:
    assert label(name, unit, "emulated") == worth
    assert label(name, unit, "silicon") == (worth if name.startswith("cycles.") else "")


def kept(run_id: str, timing: Timing, *rows: Record, median: float = 1e6) -> KeptRun:
    where = Provenance(board="b", timing=timing)
    found = records(run_id, CELL, samples=latencies(len(run_id), median=median), provenance=where)
    return kept_run([*found[:-1], *rows, found[-1]])


def test_a_comparison_labels_cycles_and_counts_shares() -> None:
    where = Provenance(board="b", timing="simulated")
    both = []
    for run_id, cycles, share in (("a", 1000.0, 0.9625), ("bb", 1100.0, 0.9)):
        rows = (
            number(CELL, "cycles.simulated", cycles, "cycles", where),
            number(CELL, "accuracy.top1.d", share, "share", where),
            check(CELL, "accuracy.top1.d", "informative", value=share, unit="share", cases=400),
        )
        both.append(kept(run_id, "simulated", *rows))
    compared = compare_runs(*both)
    for text in (
        comparison_text.as_table(compared, everything=True),
        comparison_text.as_markdown(compared, everything=True),
    ):
        assert "1100 cycles (simulated)" in text and "1000 cycles (simulated)" in text
        assert "96.2 % (385/400)" in text and "90.0 % (360/400)" in text
    rows = {row["metric"]: row for row in json.loads(comparison_text.as_json(compared))["rows"]}
    assert rows["cycles.simulated"]["label"] == "simulated"
    assert (rows["accuracy.top1.d"]["old_cases"], rows["accuracy.top1.d"]["new_cases"]) == (400, 400)


def test_a_latency_without_a_confirmation_is_unconfirmed_in_table_markdown_and_json() -> None:
    compared = compare_runs(kept("a", "silicon"), kept("bb", "silicon", median=2e6))
    assert [row.kind for row in compared.rows if row.metric == "latency.p50"] == ["unconfirmed"]
    for text in (
        comparison_text.as_table(compared, everything=False),
        comparison_text.as_markdown(compared, everything=False),
        comparison_text.as_json(compared),
        comparison_text.headline(compared),
    ):
        assert "unconfirmed" in text


@pytest.mark.parametrize("timing", NOT_SILICON)
def test_the_history_labels_each_value(timing: Timing) -> None:
    found = trend.series_of([kept("a", timing)], "latency.p50")
    text = trend.as_text(found)
    assert f"on b ({timing})" in text
    assert re.search(rf"1\.0\d ms \({timing}\)|\d+ µs \({timing}\)", text)
    assert json.loads(trend.as_json(found))[0]["timing"] == timing


def shares(*, known: bool = False) -> Overview:
    row = check(CELL, "accuracy.top1.d", "passed", value=0.9625, unit="share", cases=400, message="385 of 400 right")
    more = (
        number(CELL, "accuracy.top1.d", 0.9625, "share", Provenance(board="b", timing="silicon")),
        number(CELL, "ladder.float.right", 1.0, "share", Provenance(board="b", timing="silicon")),
        number(CELL, "ladder.float.difference", 0.0, "scale", Provenance(board="b", timing="silicon")),
        number(CELL, "ladder.quantised.difference", 0.1, "scale", Provenance(board="b", timing="silicon")),
        number(CELL, "ladder.quantised.right", 0.98, "share", Provenance(board="b", timing="silicon")),
        check(CELL, "accuracy.ladder", "informative", cases=400),
    )
    return run("silicon", row, *more)


@pytest.mark.parametrize("report", REPORTS)
def test_a_share_is_shown_with_its_count(report: str) -> None:
    text = REPORTS[report](shares())
    for share, count in (("96.2 %", "385/400"), ("98.0 %", "392/400")):
        for match in re.finditer(re.escape(share), text):
            assert text[match.end() :].startswith(f" ({count})"), text[match.start() - 80 : match.end() + 40]
    assert "385/400" in text
    assert "-2.0% (-8/400) right" in text or report == "junit"


def known_run(*, state: str = "known failure") -> Overview:
    return run(
        "simulated",
        check(CELL, "simulator.equal", state, message="1 of 2 cases", expected=REASON),
        check(CELL, "accuracy.argmax", "passed", value=1.0, unit="share", cases=2),
    )


@pytest.mark.parametrize("report", REPORTS)
def test_a_known_failure_is_shown_as_such_with_its_reason_and_link_and_is_no_failure(report: str) -> None:
    seen = known_run()
    text = REPORTS[report](seen).replace("\\", "")
    assert REASON in text
    assert "known failure" in text
    assert seen.headline == "known failures only: 1 cell: 1 known failure"
    assert not re.search(r"FAILED|<failure|What is wrong", text)


@pytest.mark.parametrize("report", REPORTS)
def test_an_unexpected_pass_is_told_and_the_cell_passes(report: str) -> None:
    row = check(CELL, "expected.simulator.equal", "unexpected pass", message="it passes", expected=REASON)
    seen = run("simulated", check(CELL, "simulator.equal", "passed"), row)
    text = REPORTS[report](seen)
    assert "it passes" in text
    assert seen.cells[0].state == "passed"
    assert seen.headline == "passed: 1 cell: 1 passed, 1 unexpected pass"


def test_a_known_failure_is_a_skipped_case_with_its_reason() -> None:
    text = junit.render(known_run())
    assert f'<skipped type="skipped" message="known failure: simulator.equal: {REASON}; found: 1 of 2 cases"' in text
    assert 'failures="0"' in text


def test_a_job_that_fails_as_declared_is_a_known_failure_and_what_it_cancels_does_not_hide_it() -> None:
    wrong = job("compile", CELL, "known failure", cause="SIGABRT", fault="product", expected=REASON)
    seen = overview(
        [run_record(cells=(CELL,)), wrong, job("measure", CELL, "cancelled"), EndRecord(exit_code=0, seconds=1)]
    )
    assert (seen.cells[0].state, seen.cells[0].cause) == (
        "known failure",
        f"compile: {REASON}; found: SIGABRT",
    )
    assert f"known failure: compile: {REASON}; found: SIGABRT" in junit.render(seen)


def test_another_failure_outweighs_a_known_one() -> None:
    seen = run("simulated", check(CELL, "simulator.equal", "known failure"), check(CELL, "accuracy.argmax", "failed"))
    assert seen.cells[0].state == "failed"


def test_a_known_failure_does_not_gate_a_comparison_and_its_end_is_told() -> None:
    good, known, bad = (kept_run_in(state) for state in ("passed", "known failure", "failed"))
    (row,) = compare_runs(good, known).rows
    assert (row.kind, row.gates) == ("newly failing", False)
    assert "a known failure, which gates nothing" in row.reason
    (row,) = compare_runs(known, good).rows
    assert (row.kind, row.reason) == ("newly passing", "it failed as known before: why")
    (row,) = compare_runs(known, bad).rows
    assert (row.kind, row.gates) == ("newly failing", True)


def kept_run_in(state: str) -> KeptRun:
    run_ = kept(state, "silicon")
    cell = dataclasses.replace(run_.cells[0], state=state, cause="why", numbers={})
    return dataclasses.replace(run_, cells=(cell,))


def test_the_json_of_the_records_says_a_known_failure() -> None:
    from crossfarm.results import from_json, to_json

    row = check(CELL, "simulator.equal", "known failure", expected=REASON)
    found: Any = json.loads(to_json(row))
    assert (found["status"], found["expected"]) == ("known failure", REASON)
    assert from_json(to_json(row)) == row
