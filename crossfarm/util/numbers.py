"""How numbers of records are shown to people; the same words in every report."""

from __future__ import annotations

import math
from collections.abc import Callable

from crossfarm.util.text import one_line

_TIMES = ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_SIZES = ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"))


def quantity(value: float, unit: str | None) -> str:
    """Return a number of a record with its unit: `12.3 ms`, `310 KiB`, `90.0 %`, `3.1e-07`.

    Args:
        value: the number.
        unit: as crossfarm.results names units; another one is shown as it is.
    """
    if not math.isfinite(value):
        return "not finite"
    if unit in _FORMS:
        return _FORMS[unit](value)
    return f"{value:.6g} {one_line(unit)}" if unit else f"{value:.6g}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return `1 cell`, `2 cells`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """Return `value` with three significant digits in the largest of `units` in which it is at least 1."""
    factor, name = next((item for item in reversed(units) if abs(value) >= item[0]), units[0])
    number = value / factor
    digits = (
        0 if float(number).is_integer() and factor == 1 else 2 if abs(number) < 10 else 1 if abs(number) < 100 else 0
    )
    return f"{number:.{digits}f} {name}"


_FORMS: dict[str | None, Callable[[float], str]] = {
    "ns": lambda value: _scaled(value, _TIMES),
    "s": lambda value: _scaled(value * 1e9, _TIMES),
    "bytes": lambda value: _scaled(value, _SIZES),
    "share": lambda value: f"{value * 100:.0f} %" if value in (0, 1) else f"{value * 100:.1f} %",
    "scale": lambda value: f"{value:.1e}" if value else "0",
    "count": lambda value: f"{value:,.0f}",
    "celsius": lambda value: f"{value:.0f} °C",
}
