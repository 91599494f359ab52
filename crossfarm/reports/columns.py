"""The columns of the table of cells, the same on the terminal and in summary.md."""

from __future__ import annotations

import math

from crossfarm.reports.run_view import CellOutcome
from crossfarm.reports.shown import RIGHT, cases_by_name, cases_of, label, shown
from crossfarm.results import CheckRecord
from crossfarm.util.text import one_line, quantity

COLUMNS = ("model", "target", "verdict", "max diff", "quantising", "right", "p50", "program", "weights", "memory")
_LATENCY = "latency.p50"


def row(cell: CellOutcome) -> tuple[str, ...]:
    """Return the values of a cell under COLUMNS, each on one line.

    `max diff` is the loss by compiling: the largest difference of the worst output, as a share of its channel's scale.
    `quantising` is the loss before that, of int8 models that were made from float32: how far the quantised model is
    from the float32 one in ONNX Runtime, and the right answers that it costs. `right` is the share of labelled cases
    that the model answers rightly, per data set; `memory` is the arena.
    """
    variant = "" if cell.variant in ("", "float32") else f" {cell.variant}"
    values = (
        f"{cell.model}{variant}",
        cell.target,
        cell.state.upper() if cell.state in ("failed", "error") else cell.state,
        _largest_difference(cell),
        _quantising(cell),
        _right(cell),
        _latency(cell),
        _number(cell, "program"),
        _number(cell, "weights"),
        _number(cell, "arena"),
    )
    return tuple(one_line(value) for value in values)


def _largest_difference(cell: CellOutcome) -> str:
    found = [check for check in cell.checks if check.name.startswith("accuracy.output.") and check.value is not None]
    worst = max(found, key=_badness, default=None)
    return "" if worst is None or worst.value is None else quantity(worst.value, worst.unit)


def _badness(check: CheckRecord) -> float:
    value = check.value if check.value is not None else 0.0
    return float("inf") if math.isnan(value) else value  # NaN compares with nothing, and nothing is worse


def _quantising(cell: CellOutcome) -> str:
    numbers = cell.measurements
    lost = numbers.get("ladder.quantised.difference")
    if lost is None or "ladder.float.difference" not in numbers:
        return ""
    before, after = numbers.get("ladder.float.right"), numbers.get("ladder.quantised.right")
    difference = quantity(lost.value, lost.unit)
    if before is None or after is None or before.value == after.value:
        return difference
    change = after.value - before.value
    cases = cases_of(after.name, cases_by_name(cell.checks))
    count = f" ({round(change * cases):+d}/{cases})" if cases and math.isfinite(change) else ""
    return f"{difference}, {change:+.1%}{count} right"


def _right(cell: CellOutcome) -> str:
    found = [check for check in cell.checks if check.name.startswith(RIGHT) and check.value is not None]
    told = []
    for check in found:
        dataset = next(check.name.removeprefix(prefix) for prefix in RIGHT if check.name.startswith(prefix))
        note = f" ({check.note})" if check.note else ""
        told.append(f"{shown(check.value or 0.0, check.unit, cases=check.cases)} {dataset}{note}")
    return ", ".join(told)


def _latency(cell: CellOutcome) -> str:
    found = cell.measurements.get(_LATENCY)
    if found is None:
        return ""
    return shown(found.value, found.unit, label=label(_LATENCY, found.unit, found.provenance.timing))


def _number(cell: CellOutcome, name: str) -> str:
    found = cell.measurements.get(name)
    return "" if found is None else quantity(found.value, found.unit)
