"""What the page shows of earlier runs: for each cell, number and board one line of points, some of them with a mark."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from crossfarm.reports.shown import label
from crossfarm.util.text import one_line, quantity


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryRow:
    """A number of a cell in one run.

    Attributes:
        cell: its id.
        metric: name of the measurement: `latency.p50`.
        board: that it was measured on; numbers of two boards are never in one line.
        timing: of that board.
        run: id of the run.
        started: ISO 8601 time at which the run started.
        value: in `unit`.
        mark: a verdict or a change point in a few words, `regressed`; empty where there is nothing to say.
    """

    cell: str
    metric: str
    board: str
    timing: str
    run: str
    started: str
    value: float
    unit: str
    mark: str = ""


class Point(NamedTuple):
    """A number of one run, an array in the page: place of the run in History.runs, number, number in words, mark."""

    run: int
    value: float
    text: str
    mark: str


class Series(NamedTuple):
    """The numbers of one cell on one board, an array in the page; `label` says what they are worth. Oldest first."""

    metric: str
    board: str
    label: str
    points: tuple[Point, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """What the page shows of earlier runs.

    Attributes:
        runs: id and time of the start of each run that has a point.
        by_cell: the lines of each cell, by its id.
    """

    runs: tuple[tuple[str, str], ...]
    by_cell: Mapping[str, tuple[Series, ...]]


def drawn(rows: Iterable[HistoryRow]) -> History:
    """Return the lines of each cell; what is not a finite number has no place in a line and is left out."""
    grouped: collections.defaultdict[tuple[str, str, str, str], list[HistoryRow]] = collections.defaultdict(list)
    for row in rows:
        if math.isfinite(row.value):
            grouped[row.cell, row.metric, row.board, row.timing].append(row)
    runs: dict[tuple[str, str], int] = {}
    found: collections.defaultdict[str, list[Series]] = collections.defaultdict(list)
    for (cell, metric, board, timing), members in grouped.items():
        points = tuple(
            Point(
                runs.setdefault((row.run, row.started), len(runs)),
                row.value,
                quantity(row.value, row.unit),
                one_line(row.mark, 100),
            )
            for row in members
        )
        worth = label(metric, members[-1].unit, timing)
        found[cell].append(Series(one_line(metric), one_line(board), worth, points))
    return History(
        runs=tuple((one_line(run), one_line(started)) for run, started in runs),
        by_cell={cell: tuple(series) for cell, series in found.items()},
    )
