"""How numbers went over the last runs: one value for each run, without samples, for many cells at once."""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from crossfarm.reports.history import tables
from crossfarm.reports.history.database import History


class SeriesName(NamedTuple):
    """What numbers of a line have in common; numbers of two boards are never in one."""

    cell: str
    metric: str
    board: str
    timing: str


class RunPoint(NamedTuple):
    """A number of one run."""

    run: str
    started: str
    commit: str | None
    value: float
    unit: str


def points(
    history: History, *, cells: Collection[str], names: Sequence[str], runs: int
) -> Mapping[SeriesName, Sequence[RunPoint]]:
    """Return the numbers of some names in the last runs, oldest first.

    A run whose measurement came out of the store has the samples of the run that made them, and is no point of its own.

    Args:
        history: where they are kept.
        cells: ids of the cells that are asked for.
        names: of the numbers.
        runs: of how many runs, the newest.

    Raises:
        HistoryError: the history cannot be read.
    """
    table, kept, numbers = tables.runs, tables.cells, tables.numbers
    newest = sa.select(table.c.number).order_by(table.c.position.desc(), table.c.number.desc()).limit(runs).subquery()
    query = (
        sa.select(
            *(table.c.run, table.c.started, table.c.git_commit, kept.c.cell, kept.c.board, kept.c.timing),
            *(numbers.c.name, numbers.c.value, numbers.c.unit, numbers.c.samples),
        )
        .join_from(table, kept, kept.c.run == table.c.number)
        .join(numbers, numbers.c.cell == kept.c.number)
        .where(table.c.number.in_(sa.select(newest.c.number)), numbers.c.name.in_(names))
        .order_by(table.c.position, table.c.number)
    )
    found: collections.defaultdict[SeriesName, list[RunPoint]] = collections.defaultdict(list)
    seen: collections.defaultdict[SeriesName, set[int]] = collections.defaultdict(set)
    row: Any
    for row in history.rows(query):
        run, started, commit, cell, board, timing, name, value, unit, samples = row
        if value is None or cell not in cells:
            continue
        of = SeriesName(cell, name, board or "", timing or "silicon")
        if samples is not None:
            digest = hash(bytes(samples))
            if digest in seen[of]:
                continue
            seen[of].add(digest)
        found[of].append(RunPoint(run, started, commit, float(value), unit))
    return found
