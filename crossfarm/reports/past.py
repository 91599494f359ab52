"""What the history tells about a run that has ended: what changed, and how the numbers of its cells went."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from crossfarm.errors import HistoryError, StoreError
from crossfarm.reports import QUIET
from crossfarm.reports.history.kept_run import KeptRun, kept_run
from crossfarm.reports.history.place import Place
from crossfarm.reports.history.sqlite_file import BUSY_SECONDS
from crossfarm.reports.run_view import Overview
from crossfarm.results import Record

if TYPE_CHECKING:
    from crossfarm.reports.history.points import RunPoint, SeriesName
    from crossfarm.reports.html.history import HistoryRow
    from crossfarm.reports.regression.comparison import Comparison, Row

MOST_RUNS = 30
"""That are drawn."""
MOST_CELLS = 2000
"""With more, a page draws the first of these numbers alone, and says of what changed only what became of cells."""
_MAIN = ("latency.p50", "cycles.simulated", "cycles.estimated")
_MORE = ("program", "weights", "arena", "accuracy.top1.*", "text.*")
"""Drawn where they changed."""
_MARKED = ("regressed", "improved", "unconfirmed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Past:
    """What the history tells.

    Attributes:
        compared: the run beside those before; None where there are none.
        rows: numbers of its cells in the last runs, and of itself.
        told: why nothing can be told; empty where something can.
    """

    compared: Comparison | None = None
    rows: tuple[HistoryRow, ...] = ()
    told: str = ""

    @property
    def is_settled(self) -> bool:
        """Say whether a run that does the same again would have the same past: nothing changed in this one."""
        return not self.told and all(row.kind in QUIET for row in (self.compared.rows if self.compared else ()))


class PastReader:
    """Reads the past of a run when it is first asked for; a warm run, which need not know it, reads nothing."""

    def __init__(self, place: Place | None, records: Sequence[Record]) -> None:
        """Remember where to look.

        Args:
            place: of the history; None where there is none.
            records: of the run.
        """
        self._place, self._records = place, records

    @property
    def compared(self) -> Comparison | None:
        """Return the run beside those before; None where there are none, or where they cannot be read."""
        return self._found[0]

    @property
    def why_not(self) -> str:
        """Return why the runs before cannot be read; empty where they can, or where there are none."""
        return self._found[1]

    def read(self, seen: Overview) -> Past:
        """Return the past of the run that `seen` shows; what goes wrong is told in it."""
        if self._place is None:
            return Past()
        try:
            return Past(compared=self.compared, rows=tuple(self._rows(seen, self.compared)), told=self.why_not)
        except (HistoryError, StoreError) as error:
            return Past(told=str(error))

    @functools.cached_property
    def _found(self) -> tuple[Comparison | None, str]:
        """The run beside those before, and why these cannot be read: asked for once, read once."""
        try:
            return self._compare(), ""
        except (HistoryError, StoreError) as error:
            return None, str(error)

    def _compare(self) -> Comparison | None:
        if self._place is None or not self._is_there():
            return None
        from crossfarm.reports.history.database import History
        from crossfarm.reports.regression.before import compared_with_before, states_compared

        compare = compared_with_before if len(self._run.cells) <= MOST_CELLS else states_compared
        with History(self._place, busy_seconds=BUSY_SECONDS, make=False) as history:
            return compare(history, self._run)

    def _is_there(self) -> bool:
        return self._place is not None and (self._place.file is None or self._place.file.exists())

    @functools.cached_property
    def _run(self) -> KeptRun:
        return kept_run(self._records)

    def _rows(self, seen: Overview, compared: Comparison | None) -> Iterator[HistoryRow]:
        if self._place is None or not self._is_there():
            return
        from crossfarm.reports.history.database import History
        from crossfarm.reports.history.points import points

        wanted = {cell.id for cell in seen.cells}
        names = {name for cell in seen.cells for name in cell.measurements}
        kinds = _MAIN if len(wanted) > MOST_CELLS else (*_MAIN, *_MORE)
        chosen = sorted(name for name in names if any(fnmatchcase(name, kind) for kind in kinds))
        verdicts = {
            (row.cell, row.metric): row
            for row in (compared.rows if compared is not None else ())
            if row.kind in _MARKED and row.metric
        }
        if not chosen:
            return
        with History(self._place, busy_seconds=BUSY_SECONDS, make=False) as history:
            found = points(history, cells=wanted, names=chosen, runs=MOST_RUNS)
        for name, line in found.items():
            if len(line) > 1 and (name.metric in _MAIN or len({point.value for point in line}) > 1):
                yield from _line(name, line, verdicts, self._run.run)


def _line(
    name: SeriesName, line: Sequence[RunPoint], verdicts: Mapping[tuple[str, str], Row], run: str
) -> Iterator[HistoryRow]:
    from crossfarm.reports.html.history import HistoryRow
    from crossfarm.reports.regression.trend import between, steps_of

    marks = {
        step.at: f"{step.change:+.1%} since {between(line[step.at - 1], line[step.at])}"
        for step in steps_of([point.value for point in line], name.metric)
    }
    verdict = verdicts.get((name.cell, name.metric))
    for at, point in enumerate(line):
        told = [verdict.kind] if verdict is not None and point.run == run else []
        yield HistoryRow(
            cell=name.cell,
            metric=name.metric,
            board=name.board,
            timing=name.timing,
            run=point.run,
            started=point.started,
            value=point.value,
            unit=point.unit,
            mark=", ".join([*told, *([marks[at]] if at in marks else [])]),
        )
