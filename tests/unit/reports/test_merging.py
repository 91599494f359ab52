"""Results of several machines become one run, and nothing that is wrong gets lost by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from crossfarm.reports import junit, summary
from crossfarm.reports.history.kept_run import kept_run
from crossfarm.reports.merging import Merged, Part, merge
from crossfarm.reports.run_view import Overview, overview
from crossfarm.results import EndRecord, JobRecord, MeasurementRecord, Provenance, Record
from tests.unit.reports.kept_runs import records
from tests.unit.reports.records import any_records, check, job, parse, run_record

ONE, TWO, THREE = "x86_64-mnist-float32", "aarch64-mnist-float32", "armv7-mnist-float32"
HERE = Provenance(board="local", timing="silicon")
COMMAND = "./inv merge parts/a parts/b"


def part(name: str, *cells: str, **changes: Any) -> Part:
    return Part(name=f"parts/{name}", records=records(name, *cells, **changes))


def merged(*parts: Part, missing: dict[str, str] | None = None) -> Merged:
    return merge(parts, missing or {}, command=COMMAND)


def seen(found: Merged) -> Overview:
    return overview(found.records)


def with_job(base: Part, *rows: Record) -> Part:
    return Part(name=base.name, records=[*base.records[:-1], *rows, base.records[-1]])


def state_of(found: Merged, cell: str) -> str:
    return next(outcome.state for outcome in seen(found).cells if outcome.id == cell)


def test_the_cells_of_all_machines_stand_in_one_run() -> None:
    found = merged(part("a", ONE), part("b", TWO, host="other aarch64"))
    assert found.told == ()
    assert seen(found).headline == "passed: 2 cells: 2 passed"
    assert [cell.id for cell in seen(found).cells] == [ONE, TWO]
    assert found.records[-1] == EndRecord(exit_code=0, seconds=60.0)
    assert kept_run(found.records).command == COMMAND


def test_a_number_says_which_host_measured_it_as_the_history_of_one_machine_does() -> None:
    a, b = part("a", ONE, provenance=HERE), part("b", TWO, provenance=HERE, host="other aarch64")
    boards = [cell.board for cell in kept_run(merged(a, b).records).cells]
    assert (
        boards == [*(kept_run(single.records).cells[0].board for single in (a, b))] == ["local@builder", "local@other"]
    )


def test_the_same_parts_are_the_same_run_in_any_order_and_others_are_another() -> None:
    a, b = part("a", ONE), part("b", TWO)
    run = kept_run(merged(a, b).records).run
    assert kept_run(merged(b, a).records).run == run
    assert kept_run(merged(a).records).run != run
    assert kept_run(merged(a, b, missing={"parts/c": "gone"}).records).run != run


def test_a_machine_without_results_is_an_error_in_every_report() -> None:
    found = merged(part("a", ONE), missing={"parts/b": "left no results: no such file"})
    assert found.told == ("parts/b: left no results: no such file",)
    assert isinstance(found.records[-1], EndRecord)
    assert found.records[-1].exit_code == 3
    assert seen(found).headline.startswith("FAILED")
    assert "merge:parts/b" in summary.render(seen(found))
    assert parse(junit.render(seen(found))).get("errors") == "1"


def test_the_same_run_twice_counts_once() -> None:
    found = merged(part("a", ONE), Part(name="parts/copy", records=part("a", ONE).records))
    assert found.told == ("parts/copy: is the run of parts/a again; left out",)
    assert len(found.records) == len(part("a", ONE).records)


def test_of_a_cell_that_two_machines_did_the_later_one_counts_and_that_is_told() -> None:
    a = part("a", ONE, started="2026-11-21T12:00:00+00:00")
    b = part("b", ONE, started="2026-11-21T13:00:00+01:00", samples=[5.0])
    c = part("c", ONE, started="2026-11-21T12:30:00+00:00", samples=[7.0])
    found = merged(b, c, a)
    assert found.told == (f"{ONE}: done by parts/b and parts/a and parts/c; that of parts/c counts",)
    (cell,) = seen(found).cells
    assert cell.measurements["latency.p50"].value == 7.0
    assert len(cell.checks) == 1, "a check that stood there twice would be two cases of JUnit"


def test_a_failure_is_not_hidden_by_a_later_machine_on_which_it_passed() -> None:
    bad = with_job(part("a", ONE), check(ONE, "accuracy.output.z", "failed"))
    later = part("b", ONE, started="2026-11-22T12:00:00+00:00")
    assert state_of(merged(bad, later), ONE) == "failed"


def test_a_machine_that_left_a_cell_out_says_nothing_about_it() -> None:
    other = with_job(
        part("b", TWO, started="2026-11-22T12:00:00+00:00"), job("measure", ONE, "skipped", reason="no board")
    )
    found = merged(part("a", ONE), other)
    assert state_of(found, ONE) == "passed"
    assert found.told == ()


def test_a_job_about_a_model_that_failed_on_one_machine_failed() -> None:
    fetch = JobRecord(job="fetch:x", stage="fetch", model="x", state="hit", seconds=0.0)
    lost = dataclasses.replace(fetch, state="failed", cause="no network", fault="infrastructure")
    for parts in ((fetch, lost), (lost, fetch)):
        found = merged(
            *(with_job(part(name, cell), row) for name, cell, row in zip("ab", (ONE, TWO), parts, strict=True))
        )
        assert [row.cause for row in seen(found).failed_others] == ["no network"]


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((0, 3), 3), ((3, 1), 1), ((1, 0), 1), ((0, 2), 3), ((0, 130), 3)]
)
def test_the_worst_exit_code_counts_a_wrong_product_before_a_broken_machine(
    codes: Sequence[int], expected: int
) -> None:
    parts = [
        Part(name=name, records=[*records(name, cell, ends=False), EndRecord(exit_code=code, seconds=1.0)])
        for name, cell, code in zip("ab", (ONE, TWO), codes, strict=True)
    ]
    assert merged(*parts).records[-1] == EndRecord(exit_code=expected, seconds=1.0)


def test_a_machine_that_was_killed_makes_the_run_incomplete() -> None:
    killed = Part(
        name="parts/b",
        records=[
            run_record(
                run="b",
                started="2026-11-21T12:00:00+00:00",
                cells=(TWO,),
                jobs=(f"compile:{TWO}", f"measure:{TWO}"),
            ),
            job("compile", TWO),
        ],
    )
    found = merged(part("a", ONE), killed)
    assert seen(found).missing == (f"measure:{TWO}",)
    assert not seen(found).is_complete
    assert found.records[-1] == EndRecord(exit_code=3, seconds=60.0, interrupted=True)


def test_other_versions_commits_and_tools_are_told_and_kept() -> None:
    a = Part(name="a", records=[run_record(run="a", git_commit="a" * 40, tools={"apache-tvm": "0.27.0", "x": "1"})])
    b = Part(
        name="b", records=[run_record(run="b", git_commit="b" * 40, version="1.1", tools={"apache-tvm": "0.28.0"})]
    )
    found = merged(a, b)
    assert found.told == (
        "written by different versions of crossfarm: a 1.0, b 1.1",
        f"of different commits: a {'a' * 12}, b {'b' * 12}",
        "different versions of apache-tvm: 0.27.0 and 0.28.0",
    )
    run = kept_run(found.records)
    assert (run.version, run.git_commit) == ("1.0 and 1.1", None)
    assert '"x": "1"' in run.tools


def test_many_doubles_are_counted() -> None:
    cells = [f"x86_64-m{number}-float32" for number in range(9)]
    found = merged(part("a", *cells), part("b", *cells))
    assert len(found.told) == 6
    assert found.told[-1] == "4 more cells done twice"


def test_a_clock_that_cannot_be_read_or_goes_backwards_makes_no_negative_time() -> None:
    found = merged(part("a", ONE, started="yesterday"), part("b", TWO))
    assert isinstance(found.records[-1], EndRecord)
    assert found.records[-1].seconds == 60.0


@given(any_records, any_records)
def test_any_records_can_be_merged_and_reported(one: list[Record], other: list[Record]) -> None:
    parts = [
        Part(name="a", records=[run_record(run="a"), *one]),
        Part(name="b", records=[run_record(run="b"), *other]),
    ]
    found = merged(*parts)
    parse(junit.render(seen(found)))
    numbers = {(record.cell, record.name) for record in found.records if isinstance(record, MeasurementRecord)}
    last = (
        record for each in parts for record in overview(each.records).cells for record in record.measurements.values()
    )
    assert numbers <= {(record.cell, record.name) for record in last}


def test_a_known_failure_is_something_that_a_machine_did_and_another_that_left_it_out_does_not_hide_it() -> None:
    known = dataclasses.replace(job("compile", ONE), state="known failure")
    left_out = dataclasses.replace(job("compile", ONE), state="skipped")
    begun, end = run_record(cells=(ONE,)), EndRecord(exit_code=0, seconds=1.0)
    parts = [
        Part(
            name=f"parts/{name}",
            records=[dataclasses.replace(begun, run=name), row, end],
        )
        for name, row in (("a", known), ("b", left_out))
    ]
    assert state_of(merged(*parts), ONE) == "known failure"


def test_a_known_failure_of_a_job_of_no_cell_is_merged() -> None:
    row = JobRecord(job="prepare:mnist", stage="prepare", state="known failure", seconds=1.0)
    found = merged(with_job(part("a", ONE), row), with_job(part("b", TWO), row))
    assert [item.state for item in found.records if isinstance(item, JobRecord) and item.job == row.job] == [
        "known failure"
    ]
