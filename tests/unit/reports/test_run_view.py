"""A run seen cell by cell."""

from __future__ import annotations

import pytest
from hypothesis import given

from crossfarm.reports import summary, terminal
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord, JobRecord, Record
from tests.unit.reports.records import (
    BAD,
    GOOD,
    LEFT,
    LOST,
    any_records,
    check,
    job,
    run_record,
    whole_run,
)

END = EndRecord(exit_code=0, seconds=1.0)


def test_every_cell_of_a_run_has_its_state_and_cause() -> None:
    seen = overview(whole_run())
    assert {cell.id: (cell.state, cell.cause) for cell in seen.cells} == {
        GOOD: ("passed", ""),
        BAD: ("failed", "accuracy.output.y: 3 are NaN"),
        LOST: ("error", "compile: out of memory"),
        LEFT: ("skipped", "compile: no int8 for 32-bit ARM"),
    }
    assert seen.headline == "FAILED: 4 cells: 1 passed, 1 failed, 1 error, 1 skipped"
    assert seen.is_complete
    assert seen.interruption == ""


def test_a_killed_run_names_what_is_missing() -> None:
    planned = (f"compile:{GOOD}", f"measure:{GOOD}", f"compile:{BAD}")
    seen = overview([run_record(cells=(GOOD, BAD), jobs=planned), job("compile", GOOD)])
    assert seen.missing == planned[1:]
    assert [(cell.id, cell.state, cell.missing) for cell in seen.cells] == [
        (GOOD, "not run", ("measure",)),
        (BAD, "not run", ("compile",)),
    ]
    assert seen.headline == "INTERRUPTED: 2 cells: 2 not run"
    assert seen.interruption == "the run ended without a word, as if it was killed; 2 planned jobs left no result"


def test_an_interrupted_run_says_so_though_all_that_was_done_is_good() -> None:
    seen = overview(
        [run_record(cells=(GOOD,)), job("compile", GOOD), EndRecord(exit_code=130, seconds=2.0, interrupted=True)]
    )
    assert seen.headline.startswith("INTERRUPTED")
    assert seen.interruption == "the run was interrupted after 2.00 s; 0 planned jobs left no result"


def test_a_failure_counts_before_an_error_and_an_error_before_a_cancelled_job() -> None:
    rows: list[Record] = [job("measure", GOOD, "cancelled", cause="later")]
    assert overview([*rows, END]).cells[0].state == "not run"
    rows.append(check(GOOD, "x", "error"))
    assert overview([*rows, END]).cells[0].state == "error"
    rows.append(check(GOOD, "y", "failed"))
    assert overview([*rows, END]).cells[0].state == "failed"


def test_a_wrong_answer_counts_before_a_lost_machine() -> None:
    lost = job("measure", GOOD, "failed", cause="lost", fault="infrastructure")
    assert overview([lost, END]).cells[0].state == "error"
    cell = overview([lost, check(GOOD, "y", "failed", message="wrong"), END]).cells[0]
    assert (cell.state, cell.cause) == ("failed", "y: wrong")


def test_a_job_that_was_tried_again_counts_as_it_ended_last() -> None:
    seen = overview([job("compile", GOOD, "failed", cause="lost"), job("compile", GOOD), END])
    assert [cell.state for cell in seen.cells] == ["made"]


def test_a_failed_job_of_a_model_fails_the_run_though_no_cell_failed() -> None:
    bad = JobRecord(job="prepare:m", stage="prepare", model="m", state="failed", seconds=1.0, cause="not ONNX")
    seen = overview([run_record(cells=()), bad, job("compile", GOOD, "cancelled", cause="prepare:m failed"), END])
    assert seen.headline == "FAILED: 1 cell: 1 not run, 1 job before the cells failed"


def test_cells_for_which_nothing_was_planned_are_left_out_of_a_complete_run() -> None:
    assert overview([run_record(), END]).cells == ()
    assert len(overview([run_record()]).cells) == 4


def test_only_the_last_run_of_a_file_is_seen() -> None:
    seen = overview([*whole_run(), run_record(run="r2", cells=()), job("compile", GOOD), END])
    assert seen.run is not None
    assert seen.run.run == "r2"
    assert seen.headline == "nothing was checked: 1 cell: 1 made"


@pytest.mark.parametrize("status", [None, "informative"])
def test_a_cell_without_a_check_that_gates_is_made_and_has_not_passed(status: str | None) -> None:
    rows: list[Record] = [job("compile", GOOD), job("check", GOOD)]
    rows += [check(GOOD, "latency.p50", status)] if status else []
    cell = overview([*rows, END]).cells[0]
    assert (cell.state, cell.cause) == ("made", "nothing was checked")


def test_a_run_of_which_all_is_skipped_has_not_passed() -> None:
    seen = overview([run_record(cells=(LEFT,)), job("compile", LEFT, "skipped", reason="no int8"), END])
    assert seen.headline == "nothing was checked: 1 cell: 1 skipped"
    assert "nothing was checked" in terminal.render(seen)
    assert "nothing was checked" in summary.render(seen)


def test_one_checked_cell_makes_a_run_pass_and_the_others_are_counted_apart() -> None:
    rows = [check(GOOD, "accuracy.output.y", "passed"), job("bundle", BAD), job("compile", LEFT, "skipped"), END]
    assert overview(rows).headline == "passed: 3 cells: 1 passed, 1 made, 1 skipped"


@pytest.mark.parametrize("name", ["", "a", "a-b", "a-b-c-d"])
def test_a_strange_cell_id_is_kept_as_it_is(name: str) -> None:
    assert [cell.id for cell in overview([check(name, "x", "passed")]).cells] == [name]


@given(any_records)
def test_counts_add_up_to_the_number_of_cells_for_any_records(records: list[Record]) -> None:
    seen = overview(records)
    assert sum(seen.counts.values()) == len(seen.cells) == len({cell.id for cell in seen.cells})
    assert all((cell.state == "passed") == (not cell.cause) or not cell.cause.strip() for cell in seen.cells)
