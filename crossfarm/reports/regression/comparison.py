"""Compares a run with what was before: what regressed, improved, is new or missing, fails now or passes now."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from crossfarm.reports.history.kept_run import KeptCell, KeptRun
from crossfarm.reports.regression.rules import Rule, rule_of
from crossfarm.reports.regression.verdicts import Confirmation, Verdict, confirmed, judge
from crossfarm.reports.shown import cases_of, label

Kind = Literal[
    "newly failing",
    "regressed",
    "unconfirmed",
    "missing",
    "inconclusive",
    "improved",
    "newly passing",
    "new",
    "unchanged",
]
KINDS: tuple[Kind, ...] = (
    *("newly failing", "regressed", "unconfirmed", "missing", "inconclusive"),
    *("improved", "newly passing", "new", "unchanged"),
)
"""Worst first."""
_BAD, _GOOD, _KNOWN = ("failed", "error"), ("passed", "made"), "known failure"
_LEFT_OUT = "skipped"
WINDOW = 12
"""Runs before that make a baseline; Mozilla's alerts look back over 12 to 24."""

Confirm = Callable[[KeptCell, KeptCell], Confirmation | str]
"""Measures the bundles of an old and a new cell in turns; returns in a few words why where that cannot be done."""
UNASKED = "not confirmed: no --confirm was given"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a comparison.

    Attributes:
        kind: what became of it.
        cell: id of the cell.
        metric: name of the number; empty where the row is about the whole cell.
        unit: of the number.
        board: that measured it.
        verdict: about the number; None where the row is about the whole cell.
        reason: in a few words.
        gates: it fails the comparison.
        command: what reproduces the cell.
        label: what the number is where it was not measured: `emulated`, `simulated`, `estimated`.
        old_cases: of how many cases the number before is a share; None where that is not known. `new_cases` likewise.
    """

    kind: Kind
    cell: str
    metric: str = ""
    unit: str | None = None
    board: str | None = None
    verdict: Verdict | None = None
    reason: str = ""
    gates: bool = False
    command: str | None = None
    label: str = ""
    old_cases: int | None = None
    new_cases: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run beside what was before.

    Attributes:
        old: what it is compared with, in words.
        new: id of the run.
        rows: worst first.
    """

    old: str
    new: str
    rows: tuple[Row, ...]

    @property
    def counts(self) -> Mapping[Kind, int]:
        """Return how many rows there are of each kind."""
        return {kind: sum(row.kind == kind for row in self.rows) for kind in KINDS}

    @property
    def gates(self) -> bool:
        """Say whether it fails: a confirmed regression of what gates, or a cell that fails newly."""
        return any(row.gates for row in self.rows)


def compare_runs(old: KeptRun, new: KeptRun, *, confirm: Confirm | None = None) -> Comparison:
    """Compare one run with another."""
    earlier = {cell.cell: (cell,) for cell in old.cells}
    return compare(old.run, earlier, new, confirm=confirm)


def compare(
    old: str, earlier: Mapping[str, Sequence[KeptCell]], new: KeptRun, *, confirm: Confirm | None = None
) -> Comparison:
    """Compare a run with what was kept of its cells before.

    Numbers are compared with those of the same board alone: two boards of one type differ by more than what is looked
    for here.

    Args:
        old: what it is compared with, in words.
        earlier: of each cell what was kept before, oldest first; a cell of these that the run lacks is missing.
        new: the run.
        confirm: measures again what looks like a regression of the latency; None leaves it unconfirmed.
    """
    cells = new.by_cell
    rows = [row for cell in new.cells for row in _of_cell(earlier.get(cell.cell, ()), cell, confirm)]
    gone = [before[-1] for name, before in earlier.items() if name not in cells and before[-1].state != _LEFT_OUT]
    rows += [
        Row(
            kind="missing",
            cell=cell.cell,
            board=cell.board,
            reason=f"it {_said(cell.state)} before",
            command=cell.command,
        )
        for cell in gone
    ]
    rows = _renamed(rows, gone, cells)
    return Comparison(old=old, new=new.run, rows=tuple(sorted(rows, key=_order)))


def baseline(before: Sequence[KeptRun], new: KeptRun) -> Mapping[str, Sequence[KeptCell]]:
    """Return what a run is compared with: of each of its cells all that was kept before, oldest first.

    A cell that it lacks counts as missing when the last run of the same command had it; another command may well have
    had other cells.

    Args:
        before: the runs before, oldest first.
        new: the run.
    """
    found: dict[str, list[KeptCell]] = {}
    for run in before:
        for cell in run.cells:
            found.setdefault(cell.cell, []).append(cell)
    alike = next((run for run in reversed(before) if run.command == new.command), None)
    wanted = new.by_cell.keys() | (alike.by_cell.keys() if alike is not None else set())
    return {name: cells for name, cells in found.items() if name in wanted}


def judged_names(run: KeptRun) -> tuple[str, ...]:
    """Return the names of the numbers of a run that are judged: a baseline needs no others."""
    return tuple(sorted({name for cell in run.cells for name in cell.numbers if rule_of(name) is not None}))


def _of_cell(before: Sequence[KeptCell], now: KeptCell, confirm: Confirm | None) -> Iterator[Row]:
    row = functools.partial(Row, cell=now.cell, board=now.board, command=now.command)
    if not before:
        if now.state != _LEFT_OUT:
            yield row(kind="new", reason=f"it {_said(now.state)}")
        return
    was = before[-1].state
    if now.state in _BAD and was not in _BAD:
        yield row(kind="newly failing", reason=now.cause or now.state, gates=True)
    elif now.state == _KNOWN and was in _GOOD:
        yield row(kind="newly failing", reason=f"a known failure, which gates nothing: {now.cause}")
    elif now.state in _GOOD and was in (*_BAD, _KNOWN):
        yield row(kind="newly passing", reason=f"it {_said(was)} before: {before[-1].cause}")
    elif now.state in ("not run", _LEFT_OUT) and was in (*_GOOD, *_BAD, _KNOWN):
        yield row(kind="missing", reason=f"{now.state}: {now.cause}")
    for name, number in now.numbers.items():
        rule = rule_of(name)
        if rule is None or (rule.silicon_only and now.timing != "silicon"):
            continue
        found = _of_number(rule, name, before, now, confirm)
        if isinstance(found, Verdict):
            yield row(
                kind=found.word,
                metric=name,
                unit=number.unit,
                verdict=found,
                reason=found.reason,
                gates=found.gates,
                label=label(name, number.unit, now.timing),
                old_cases=cases_of(name, before[-1].cases),
                new_cases=cases_of(name, now.cases),
            )
        elif found:
            yield row(kind="inconclusive", metric=name, unit=number.unit, reason=found)


def _of_number(
    rule: Rule, name: str, before: Sequence[KeptCell], now: KeptCell, confirm: Confirm | None
) -> Verdict | str:
    """Return the verdict about a number; in words why there is none, empty where nothing is to be said."""
    known = [cell for cell in before if name in cell.numbers]
    if not _is_of_no_board(rule):
        same = [cell for cell in known if (cell.board, cell.timing) == (now.board, now.timing)]
        if known and not same:
            return f"measured on {now.board}, and on {known[-1].board} before"
        known = same
    if not known:
        return ""
    verdict = judge(rule, [cell.numbers[name] for cell in known], now.numbers[name])
    if verdict.word != "regressed" or rule.method != "samples":
        return verdict
    return confirmed(verdict, rule, confirm(known[-1], now) if confirm is not None else UNASKED)


def _said(state: str) -> str:
    return "failed as known" if state == _KNOWN else state


def _is_of_no_board(rule: Rule) -> bool:
    """Say whether a number is the same on all boards: sizes, and what the host took to compile."""
    return rule.names in ("program", "weights", "arena", "compile_time")


def _renamed(rows: Sequence[Row], gone: Sequence[KeptCell], cells: Mapping[str, KeptCell]) -> list[Row]:
    """Return the rows; where a new cell has the very sizes of a missing one, both say that it may be the same model."""
    sizes = {_sizes(cell): cell.cell for cell in gone if _sizes(cell) is not None}
    names = {
        row.cell: sizes[found] for row in rows if row.kind == "new" and (found := _sizes(cells[row.cell])) in sizes
    }
    back = {old: new for new, old in names.items()}
    hints = {("new", new): f"renamed from {old}" for new, old in names.items()}
    hints |= {("missing", old): f"renamed to {new}" for old, new in back.items()}
    return [
        dataclasses.replace(row, reason=f"{row.reason}; {hint}? its sizes are the same")
        if (hint := hints.get((row.kind, row.cell))) is not None
        else row
        for row in rows
    ]


def _sizes(cell: KeptCell) -> tuple[str, str, float, float, float] | None:
    found = [cell.numbers.get(name) for name in ("program", "weights", "arena")]
    values = [number.value for number in found if number is not None and math.isfinite(number.value)]
    return (cell.target, cell.variant, values[0], values[1], values[2]) if len(values) == 3 else None


def _order(row: Row) -> tuple[int, float, str, str]:
    change = abs(row.verdict.change) if row.verdict is not None and math.isfinite(row.verdict.change) else 0.0
    return KINDS.index(row.kind), -change, row.cell, row.metric
