"""How a number is shown in every report: a share with its count, what was not measured with what it is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from crossfarm.results import CheckRecord
from crossfarm.util.text import quantity

_OF_THE_CLOCK = frozenset({"ns", "ms", "s"})
_OF_THE_BOARD = frozenset({"latency.cv", "peak_rss", "budget.peak_rss", "code.unscheduled", "profile.layers"})
"""Numbers that are not times and yet depend on what ran the program."""
_OF_THE_HOST = "compile_time"
LADDER = "accuracy.ladder"
RIGHT = ("accuracy.top1.", "text.", "accuracy.map50.", "accuracy.rank1.")
"""How the names of checks begin that say how many labelled cases are right; the data set follows."""


def label(name: str, unit: str | None, timing: str | None) -> str:
    """Return what must stand beside a number: `emulated`, `simulated`, `estimated`; empty for one that was measured.

    Args:
        name: of the number or of the check.
        unit: of it.
        timing: what the clock of what ran it is worth; None where nothing ran.
    """
    kind = name.removeprefix("cycles.")
    if kind in ("estimated", "simulated"):
        return kind
    is_of_the_board = (unit in _OF_THE_CLOCK and name != _OF_THE_HOST) or name in _OF_THE_BOARD
    return timing if timing is not None and timing != "silicon" and is_of_the_board else ""


def shown(value: float, unit: str | None, *, cases: int | None = None, label: str = "") -> str:
    """Return a number with its unit, a share with its count `96.3 % (385/400)`, and its label."""
    text = quantity(value, unit)
    if unit == "share" and cases and math.isfinite(value):
        text += f" ({round(value * cases)}/{cases})"
    return f"{text} ({label})" if label else text


def cases_by_name(checks: Iterable[CheckRecord]) -> Mapping[str, int]:
    """Return of how many cases the check of each name is a share."""
    return {check.name: check.cases for check in checks if check.cases}


def cases_of(name: str, cases: Mapping[str, int]) -> int | None:
    """Return of how many cases a number is a share; None where it is none of cases.

    Args:
        name: of the number; those of the ladder count the cases of its check.
        cases: by the name of the check.
    """
    return cases.get(LADDER if name.startswith("ladder.") else name)
