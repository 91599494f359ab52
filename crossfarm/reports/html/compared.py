"""What the page says of the runs before: what changed, worst first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from crossfarm.reports import QUIET
from crossfarm.reports.regression.comparison import KINDS, Comparison
from crossfarm.reports.regression.comparison_text import texts
from crossfarm.util.text import one_line

MOST_LINES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangedLine:
    """A row of the comparison; `id` is the cell's name in the page, empty where it is not in it."""

    kind: str
    id: str
    cell: str
    board: str
    metric: str
    before: str
    now: str
    change: str
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """The comparison.

    Attributes:
        old: what it is compared with.
        counts: kinds with their numbers, worst first.
        lines: those at most that stand in the page; what is unchanged or inconclusive is only counted.
        more: how many are left out.
    """

    old: str
    counts: tuple[tuple[str, int], ...]
    lines: tuple[ChangedLine, ...]
    more: int


def compared_section(compared: Comparison, ids: Mapping[str, str]) -> Compared:
    """Return what stands in the page; `ids` are the names of cells in it."""
    rows = [row for row in compared.rows if row.kind not in QUIET]
    counts = compared.counts
    lines = []
    for row in rows[:MOST_LINES]:
        kind, cell, board, metric, before, now, change, why = texts(row)
        lines.append(
            ChangedLine(
                kind=kind,
                id=ids.get(row.cell, ""),
                cell=cell,
                board=board,
                metric=metric,
                before=before,
                now=now,
                change=change,
                why=why,
            )
        )
    return Compared(
        old=one_line(compared.old),
        counts=tuple((kind, counts[kind]) for kind in KINDS if counts[kind]),
        lines=tuple(lines),
        more=len(rows) - len(lines),
    )
