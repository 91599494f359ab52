"""How a number of a model went over the last runs, cell by cell and board by board: a sparkline, a table, JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Protocol

from crossfarm.reports.history.kept_run import KeptNumber, KeptRun
from crossfarm.reports.regression.change_points import Step, steps
from crossfarm.reports.regression.rules import rule_of
from crossfarm.reports.shown import cases_of, label, shown
from crossfarm.util.text import count, one_line

_BARS = "▁▂▃▄▅▆▇█"
_SMALLEST_STEP = 0.03
"""For a number that no rule is about."""
_NOT_REAL = ("emulated", "simulated", "estimated")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A number of one run.

    Attributes:
        run: id of the run; `started` and `commit` are its own too.
        value: in the unit of the series.
        samples: how many samples it is a statistic of.
        cases: of how many cases it is a share; None where it is none.
    """

    run: str
    started: str
    commit: str | None
    value: float
    samples: int
    cases: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """A number of one cell on one board, oldest first.

    Attributes:
        cell: id of the cell.
        board: that measured it; None for a cell without one.
        timing: what the board's clock is worth.
        metric: name of the number.
        unit: of it.
        points: a run that did not measure again has none.
        steps: where it changed for good.
    """

    cell: str
    board: str | None
    timing: str | None
    metric: str
    unit: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]

    def commits(self, step: Step) -> str:
        """Return between which commits a step came, in words; between which runs where those are not known or equal."""
        return between(self.points[step.at - 1], self.points[step.at])


class _OfARun(Protocol):
    @property
    def run(self) -> str: ...

    @property
    def commit(self) -> str | None: ...


def between(last: _OfARun, first: _OfARun) -> str:
    """Return what lies between two numbers: commits, or where those are not known or equal, runs."""
    if last.commit and first.commit and last.commit != first.commit:
        return f"commits {last.commit[:12]}..{first.commit[:12]}"
    return f"runs {last.run} and {first.run}"


def steps_of(values: Sequence[float], metric: str) -> tuple[Step, ...]:
    """Return where a number changed for good, by more than its rule lets pass."""
    rule = rule_of(metric)
    return steps(values, relative=(rule.relative if rule is not None else 0.0) or _SMALLEST_STEP)


def series_of(runs: Sequence[KeptRun], metric: str) -> tuple[Series, ...]:
    """Return the series of a number, by cell and board, in the order of their first appearance.

    Args:
        runs: oldest first.
        metric: name of the number.
    """
    found: dict[tuple[str, str | None, str | None], list[tuple[Point, KeptNumber]]] = {}
    for run in runs:
        for cell in run.cells:
            number = cell.numbers.get(metric)
            if number is None:
                continue
            known = found.setdefault((cell.cell, cell.board, cell.timing), [])
            # A run whose measurement came out of the store has the samples of the run that made them.
            if number.samples and any(other.samples == number.samples for _, other in known):
                continue
            point = Point(
                run=run.run,
                started=run.started,
                commit=run.git_commit,
                value=number.value,
                samples=len(number.samples),
                cases=cases_of(metric, cell.cases),
            )
            known.append((point, number))
    return tuple(
        Series(
            cell=cell,
            board=board,
            timing=timing,
            metric=metric,
            unit=known[-1][1].unit,
            points=tuple(point for point, _ in known),
            steps=steps_of([point.value for point, _ in known], metric),
        )
        for (cell, board, timing), known in found.items()
    )


def sparkline(values: Sequence[float]) -> str:
    """Return a bar a value, from the least to the greatest; `·` for one that is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if high == low:
        return "".join(_BARS[3] if math.isfinite(value) else "·" for value in values)
    # The difference of two huge numbers may be infinite; their halves' is not.
    span = high / 2 - low / 2
    places = ((value / 2 - low / 2) / span * (len(_BARS) - 1) if math.isfinite(value) else None for value in values)
    return "".join("·" if place is None else _BARS[round(place)] for place in places)


def as_text(found: Sequence[Series]) -> str:
    """Return each series with its sparkline and a row for each run, the newest last."""
    return "\n".join(_block(series) for series in found)


def as_json(found: Sequence[Series]) -> str:
    """Return the same as JSON; a value that is not finite is null."""
    documents = [
        {
            "cell": series.cell,
            "board": series.board,
            "timing": series.timing,
            "metric": series.metric,
            "unit": series.unit,
            "points": [
                {**dataclasses.asdict(point), "value": point.value if math.isfinite(point.value) else None}
                for point in series.points
            ],
            "steps": [
                {
                    "run": series.points[step.at].run,
                    "before": step.before,
                    "after": step.after,
                    "between": series.commits(step),
                }
                for step in series.steps
            ],
        }
        for series in found
    ]
    return json.dumps(documents, indent=1, allow_nan=False) + "\n"


def _block(series: Series) -> str:
    values = [point.value for point in series.points]
    timing = f" ({series.timing})" if series.timing in _NOT_REAL else ""
    place = f" on {one_line(series.board)}{timing}" if series.board else ""
    head = f"{one_line(series.cell)}{place}: {one_line(series.metric)}, {count(len(values), 'run')}"
    marks = {step.at: step for step in series.steps}
    worth = label(series.metric, series.unit, series.timing)
    rows = [("started", "run", "commit", "value", "change", "")]
    for index, point in enumerate(series.points):
        before = values[index - 1] if index else math.nan
        change = point.value / before - 1 if before and math.isfinite(before) else math.nan
        step = marks.get(index)
        rows.append(
            (
                one_line(point.started, 25),
                one_line(point.run, 40),
                one_line((point.commit or "-")[:12]),
                shown(point.value, series.unit, cases=point.cases, label=worth),
                f"{change:+.1%}" if math.isfinite(change) else "",
                f"<- {step.change:+.1%} between {one_line(series.commits(step))}" if step else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([head, f"  {sparkline(values)}", *(f"  {line}" for line in lines)]) + "\n"
