"""Rows of budgets: what a cell took, the most that it may take, and what is left of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from crossfarm.boards.result import RunResult
from crossfarm.results import CheckRecord
from crossfarm.stages.check.statistics import Summary

ON_SILICON = frozenset({"latency_p50", "latency_p90", "load_time", "peak_rss"})
"""Budgets of what only a real board tells; sizes are the same wherever a program runs."""
_MILLISECOND = 1e6
_KIB = 1024.0


def budget_records(
    budgets: Mapping[str, float],
    result: RunResult,
    summary: Summary | None,
    *,
    timing: str,
    check: Callable[..., CheckRecord],
) -> Iterator[CheckRecord]:
    """Yield a row for each budget but that of cycles.

    Args:
        budgets: key of config.budgets.Budgets -> limit, in its unit: milliseconds or bytes.
        result: what was measured.
        summary: of its latency, in ns; None where that is not valid.
        timing: what the board's clock is worth.
        check: makes a row of this cell.
    """
    taken: Mapping[str, float | None] = {
        "latency_p50": None if summary is None else summary.p50 / _MILLISECOND,
        "latency_p90": None if summary is None else summary.p90 / _MILLISECOND,
        "load_time": None if result.load_ns is None else result.load_ns / _MILLISECOND,
        "peak_rss": result.peak_rss_bytes,
        "arena": result.arena_bytes,
        "weights": result.weights_bytes,
        "program": result.program_bytes,
    }
    for key, limit in budgets.items():
        if key in taken:
            yield _row(
                key, taken[key], limit, gates=timing == "silicon" or key not in ON_SILICON, timing=timing, check=check
            )


def _row(
    key: str, value: float | None, limit: float, *, gates: bool, timing: str, check: Callable[..., CheckRecord]
) -> CheckRecord:
    is_time = key.startswith(("latency", "load"))
    unit = "ms" if is_time else "bytes"
    shown = f"of at most {_shown(limit, is_time=is_time)}"
    if value is None:
        return check(
            name=f"budget.{key}",
            status="failed" if gates else "informative",
            limit=limit,
            unit=unit,
            message=f"not known, {shown}; what runs the cell does not tell it",
        )
    headroom = 1.0 - value / limit
    words = f"{headroom:.1%} left" if headroom >= 0 else f"{-headroom:.1%} too much"
    return check(
        name=f"budget.{key}",
        status="informative" if not gates else "passed" if value <= limit else "failed",
        value=float(value),
        limit=float(limit),
        unit=unit,
        message=f"{_shown(value, is_time=is_time)} {shown}: {words}"
        + ("" if gates else f"; {timing}: says nothing about a real board and gates nothing"),
        note=None if gates else timing,
    )


def _shown(value: float, *, is_time: bool) -> str:
    return f"{value:.4g} ms" if is_time else f"{value / _KIB:,.1f} KiB"
