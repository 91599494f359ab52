"""What the page shows of earlier runs: for each cell, number and board one line of points, some of them with a mark."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from crossfarm.results import Timing
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
    timing: Timing
    run: str
    started: str
    value: float
    unit: str
    mark: str = ""


class Point(NamedTuple):
    """A number of one run, an array in the page: run and time of its start, number, number in words, mark."""

    run: str
    started: str
    value: float
    text: str
    mark: str


class Series(NamedTuple):
    """The numbers of one cell on one board, an array in the page: oldest first."""

    metric: str
    board: str
    label: str
    points: tuple[Point, ...]


def series_by_cell(rows: Iterable[HistoryRow]) -> Mapping[str, tuple[Series, ...]]:
    """Return the lines of each cell, by its id; what is not a finite number has no place in a line and is left out."""
    grouped: collections.defaultdict[tuple[str, str, str, str], list[HistoryRow]] = collections.defaultdict(list)
    for row in rows:
        if math.isfinite(row.value):
            grouped[row.cell, row.metric, row.board, row.timing].append(row)
    found: collections.defaultdict[str, list[Series]] = collections.defaultdict(list)
    for (cell, metric, board, timing), members in grouped.items():
        members.sort(key=lambda row: row.started)
        points = tuple(_point(row) for row in members)
        label = "" if timing == "silicon" else timing
        found[cell].append(Series(one_line(metric), one_line(board), label, points))
    return {cell: tuple(series) for cell, series in found.items()}


def _point(row: HistoryRow) -> Point:
    return Point(
        one_line(row.run), one_line(row.started), row.value, quantity(row.value, row.unit), one_line(row.mark, 100)
    )
