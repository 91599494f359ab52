"""Rows of budgets: the value, the limit and what is left; emulated time gates nothing."""

from __future__ import annotations

from typing import Any

import pytest

from crossfarm.boards.result import RunResult
from crossfarm.results import CheckRecord
from crossfarm.stages.check.budgets import budget_records
from crossfarm.stages.check.statistics import summarise

LATENCY = (2_000_000, 1_000_000, 3_000_000)


def _rows(budgets: dict[str, float], *, timing: str = "silicon", **fields: Any) -> dict[str, CheckRecord]:
    result = RunResult(
        model="m",
        target="t",
        identity="ab" * 32,
        cases=1,
        latency_ns=LATENCY,
        outputs=(),
        **{"arena_bytes": 2048, **fields},
    )
    rows = budget_records(
        budgets, result, summarise(LATENCY), timing=timing, check=lambda **row: CheckRecord(cell="t-m-float32", **row)
    )
    return {row.name: row for row in rows}


@pytest.mark.parametrize(("limit", "status"), [(2.0, "passed"), (1.9, "failed")])
def test_latency_is_held_against_its_budget_on_silicon(limit: float, status: str) -> None:
    row = _rows({"latency_p50": limit})["budget.latency_p50"]
    assert (row.status, row.value, row.limit, row.unit) == (status, 2.0, limit, "ms")


@pytest.mark.parametrize("timing", ["emulated", "simulated", "estimated"])
def test_time_of_no_real_board_is_shown_and_gates_nothing(timing: str) -> None:
    row = _rows({"latency_p90": 0.001}, timing=timing)["budget.latency_p90"]
    assert (row.status, row.note) == ("informative", timing)
    assert f"{timing}: says nothing about a real board" in row.message


@pytest.mark.parametrize("timing", ["silicon", "emulated"])
def test_sizes_gate_wherever_the_program_ran(timing: str) -> None:
    row = _rows({"arena": 1024}, timing=timing)["budget.arena"]
    assert row.status == "failed"
    assert row.message == "2.0 KiB of at most 1.0 KiB: 100.0% too much"
    assert _rows({"arena": 4096}, timing=timing)["budget.arena"].message.endswith("50.0% left")


def test_a_size_that_nobody_tells_fails_its_budget() -> None:
    row = _rows({"weights": 10})["budget.weights"]
    assert (row.status, row.value) == ("failed", None)


def test_without_budgets_there_are_no_rows_and_cycles_are_judged_elsewhere() -> None:
    assert _rows({}) == {}
    assert _rows({"cycles": 5}) == {}
