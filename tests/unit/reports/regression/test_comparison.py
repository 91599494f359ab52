"""A comparison of runs: each kind of row, the worst first, board by board, and what fails it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from crossfarm.reports.history.kept_run import KeptCell, KeptNumber
from crossfarm.reports.regression.comparison import Comparison, baseline, compare, compare_runs
from crossfarm.reports.regression.comparison_text import as_json, as_markdown, as_table, headline
from crossfarm.reports.regression.verdicts import Confirmation
from tests.unit.reports.kept_runs import cell, kept, latencies, latency

CELL = "aarch64-mnist-float32"
SIZES = {"program": 300_000.0, "weights": 500_000.0, "arena": 70_000.0}


def compared(old: KeptCell | None, new: KeptCell | None, **more: Any) -> Comparison:
    return compare_runs(
        kept("old", *([old] if old else [])), kept("new", *([new] if new else []), position=2000.0), **more
    )


def kinds(found: Comparison) -> list[tuple[str, str]]:
    return [(row.kind, row.metric) for row in found.rows]


@pytest.mark.parametrize(
    ("old", "new", "kind", "gates"),
    [
        (cell(), cell(state="failed", cause="check: wrong"), "newly failing", True),
        (cell(state="made"), cell(state="error", cause="measure: lost"), "newly failing", True),
        (cell(state="skipped"), cell(state="failed"), "newly failing", True),
        (cell(state="failed"), cell(), "newly passing", False),
        (cell(), cell(state="not run", cause="compile failed"), "missing", False),
        (cell(), cell(state="skipped", cause="no board"), "missing", False),
        (cell(), None, "missing", False),
        (None, cell(), "new", False),
    ],
)
def test_what_became_of_a_cell(old: KeptCell | None, new: KeptCell | None, kind: str, gates: bool) -> None:
    found = compared(old, new)
    assert kinds(found) == [(kind, "")]
    assert found.gates is gates


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (cell(), cell()),
        (cell(state="failed"), cell(state="error")),
        (cell(state="skipped"), cell(state="skipped")),
        (cell(state="skipped"), None),
        (None, cell(state="skipped")),
    ],
)
def test_what_is_as_before_makes_no_row(old: KeptCell | None, new: KeptCell | None) -> None:
    assert kinds(compared(old, new)) == []


def test_the_worst_comes_first_and_the_larger_change_before_the_smaller() -> None:
    old = kept("old", cell("a-m-v", numbers=SIZES), cell("b-m-v", numbers=SIZES), cell("c-m-v"), cell("d-m-v"))
    new = kept(
        "new",
        cell("a-m-v", numbers=SIZES | {"program": 400_000.0, "weights": 100.0}),
        cell("b-m-v", numbers=SIZES | {"program": 900_000.0}),
        cell("c-m-v", state="failed"),
        cell("e-m-v"),
    )
    found = [(row.kind, row.cell, row.metric) for row in compare_runs(old, new).rows if row.kind != "unchanged"]
    assert found == [
        ("newly failing", "c-m-v", ""),
        ("regressed", "b-m-v", "program"),
        ("regressed", "a-m-v", "program"),
        ("missing", "d-m-v", ""),
        ("improved", "a-m-v", "weights"),
        ("new", "e-m-v", ""),
    ]


def test_a_latency_that_looks_worse_is_confirmed_with_both_bundles() -> None:
    old, new = cell(numbers=latency(latencies(1)), bundle="0" * 64), cell(numbers=latency(latencies(2, median=1.1e6)))
    asked: list[tuple[str | None, str | None]] = []

    def confirm(before: KeptCell, now: KeptCell) -> Confirmation:
        asked.append((before.bundle, now.bundle))
        return Confirmation(old=latencies(3), new=latencies(4, median=1.1e6))

    found = compared(old, new, confirm=confirm)
    assert (kinds(found), found.gates) == ([("regressed", "latency.p50")], True)
    assert asked == [("0" * 64, "b" * 64)]
    assert (
        kinds(compared(old, new))
        == kinds(compared(old, new, confirm=lambda *_: "gone"))
        == [("unconfirmed", "latency.p50")]
    )
    assert not compared(old, new).gates


def test_no_confirmation_is_run_without_need() -> None:
    cells = cell(numbers=latency(latencies(1))), cell(numbers=latency(latencies(2)))
    found = compared(*cells, confirm=lambda *_: pytest.fail("nothing looks worse"))
    assert kinds(found) == [("unchanged", "latency.p50")]


@pytest.mark.parametrize("timing", ["emulated", "simulated", "estimated", None])
def test_time_that_no_processor_took_is_not_judged(timing: str | None) -> None:
    found = compared(
        cell(numbers=latency(latencies(1)), timing=timing),
        cell(numbers=latency(latencies(2, median=9e6)), timing=timing),
    )
    assert kinds(found) == []


def test_two_boards_are_not_compared_but_their_programs_are() -> None:
    old = cell(numbers={**latency(latencies(1)), "program": KeptNumber(name="program", value=1e6, unit="bytes")})
    new = cell(
        numbers={**latency(latencies(2, median=9e6)), "program": KeptNumber(name="program", value=9e6, unit="bytes")},
        board="pi-2",
    )
    found = compared(old, new)
    assert kinds(found) == [("regressed", "program"), ("inconclusive", "latency.p50")]
    assert "measured on pi-2, and on pi-1 before" in found.rows[1].reason


def test_a_baseline_is_what_the_same_board_did_before() -> None:
    runs = [
        kept(
            f"r{number}",
            cell(
                numbers=latency(latencies(number, median=1e6 if number % 2 else 2e6)),
                board="pi-1" if number % 2 else "pi-2",
            ),
            position=float(number),
        )
        for number in range(6)
    ]
    now = kept("now", cell(numbers=latency(latencies(99)), board="pi-1"), position=9.0)
    found = compare("baseline", baseline(runs, now), now)
    assert kinds(found) == [("unchanged", "latency.p50")]
    assert "against 3 runs" in found.rows[0].reason


def test_a_cell_is_missing_when_the_last_run_of_the_same_command_had_it() -> None:
    other = kept("r1", cell("armv7-vad-int8"), command="./inv pipeline --pipeline smoke", position=2.0)
    same = kept("r0", cell(), cell("x-gone-float32"), position=1.0)
    now = kept("now", cell(), position=3.0)
    assert [(row.kind, row.cell) for row in compare("b", baseline([same, other], now), now).rows] == [
        ("missing", "x-gone-float32")
    ]


def test_a_model_that_was_renamed_is_told_on_both_sides() -> None:
    old = kept(
        "old", cell("aarch64-mnist-float32", numbers=SIZES), cell("aarch64-vad-float32", numbers={"program": 1.0})
    )
    new = kept(
        "new",
        cell("aarch64-digits-float32", numbers=SIZES),
        cell("aarch64-kws-float32", numbers=SIZES | {"arena": 1.0}),
    )
    found: Mapping[str, str] = {row.cell: row.reason for row in compare_runs(old, new).rows}
    assert "renamed to aarch64-digits-float32? its sizes are the same" in found["aarch64-mnist-float32"]
    assert "renamed from aarch64-mnist-float32? its sizes are the same" in found["aarch64-digits-float32"]
    assert "renamed" not in found["aarch64-vad-float32"] + found["aarch64-kws-float32"]


def _many() -> Comparison:
    old = kept("old", cell(numbers=SIZES), cell("aarch64-vad-int8", numbers={"program": 3e5}))
    new = kept("new", cell(numbers=SIZES | {"program": 4e5}), cell("aarch64-vad-int8", numbers={"program": math.nan}))
    return compare_runs(old, new)


def test_the_table_shows_what_changed_and_all_when_asked() -> None:
    text = as_table(_many(), everything=False)
    assert "regressed" in text
    assert "+33.3%" in text
    assert "unchanged" not in text.partition("REGRESSED")[0]
    assert text.endswith(f"{headline(_many())}\n")
    assert "unchanged" in as_table(_many(), everything=True).partition("REGRESSED")[0]
    assert headline(_many()) == "REGRESSED: new against old: 2 regressed, 2 unchanged"


def test_json_is_json_whatever_the_numbers_are() -> None:
    document = json.loads(as_json(_many()), parse_constant=pytest.fail)
    assert document["gates"] is True
    assert document["counts"]["newly_failing"] == 0
    assert [row["new"] for row in document["rows"][:2]] == [400_000.0, None]


def test_names_from_outside_change_neither_the_table_nor_the_page() -> None:
    evil = "a-<script>|`\x1b[2J\n# x-v"
    new = KeptCell(cell=evil, target="a", model="m", variant="v", state="passed\x1b[2J", cause="")
    found = compare_runs(kept("o\n"), kept("n|", new))
    assert "\x1b" not in as_table(found, everything=True) + as_markdown(found, everything=True)
    rows = [line for line in as_markdown(found, everything=True).splitlines() if line.startswith("| new")]
    assert len(rows) == 1
    assert "<script>" not in rows[0]


def test_a_thousand_rows_fit_a_comment() -> None:
    found = compare_runs(kept("old"), kept("new", *(cell(f"aarch64-m{number}-float32") for number in range(1000))))
    text = as_markdown(found, everything=False)
    assert len(text.encode()) < 64_000
    assert "800 more rows left out" in text


def test_nothing_to_compare_is_said() -> None:
    assert (
        as_table(compare_runs(kept("a"), kept("b")), everything=True)
        == "no regression: b against a: nothing to compare\n"
    )
