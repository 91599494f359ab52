"""A comparison as a table for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from crossfarm.reports import QUIET
from crossfarm.reports.regression.comparison import KINDS, Comparison, Row
from crossfarm.reports.shown import shown
from crossfarm.reports.summary import plain
from crossfarm.util.text import count, one_line

_HEADS = ("", "cell", "board", "number", "before", "now", "change", "why")
_MOST_ROWS = 200
"""In Markdown: a comment on GitHub takes 64 KB."""
_LONGEST_REASON = 120


def headline(compared: Comparison) -> str:
    """Return the comparison in one line."""
    counts = compared.counts
    parts = [f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]]
    word = "REGRESSED" if compared.gates else "no regression"
    return (
        f"{word}: {one_line(compared.new)} against {one_line(compared.old)}: {', '.join(parts) or 'nothing to compare'}"
    )


def as_table(compared: Comparison, *, everything: bool) -> str:
    """Return aligned text, worst first.

    Args:
        compared: the comparison.
        everything: also what is unchanged or inconclusive.
    """
    rows = _shown(compared, everything=everything)
    lines = [_HEADS, *(texts(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    text = [
        "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
        for line in (lines if rows else ())
    ]
    return "\n".join([*text, *([""] if text else []), headline(compared)]) + "\n"


def as_markdown(compared: Comparison, *, everything: bool) -> str:
    """Return Markdown, worst first; see as_table. What is too much for a comment is counted."""
    rows = _shown(compared, everything=everything)
    text = f"### {plain(headline(compared))}\n"
    if rows:
        head = "| | cell | board | number | before | now | change | why |\n|---|---|---|---|---|---|---|---|\n"
        body = "".join(f"| {' | '.join(_marked(row))} |\n" for row in rows[:_MOST_ROWS])
        text += f"\n{head}{body}"
    if len(rows) > _MOST_ROWS:
        text += f"\n{count(len(rows) - _MOST_ROWS, 'more row')} left out.\n"
    return text


def as_lines(rows: Sequence[Row]) -> list[str]:
    """Return a line of words for each row."""
    found = []
    for row in rows:
        before, now, change = _numbers(row)
        place = f" on {one_line(row.board)}" if row.board else ""
        number = f": {one_line(row.metric)} {before} -> {now} ({change})" if row.verdict is not None else ""
        reason = f", {one_line(row.reason, _LONGEST_REASON)}" if row.reason else ""
        found.append(f"{row.kind}: {one_line(row.cell)}{place}{number}{reason}")
    return found


def as_json(compared: Comparison) -> str:
    """Return JSON with all rows; a number that is not finite is null."""
    return json.dumps(as_document(compared, compared.rows), indent=1, allow_nan=False) + "\n"


def as_document(compared: Comparison, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what is JSON of a comparison, with some of its rows; a number that is not finite is None."""
    counts = {kind.replace(" ", "_"): number for kind, number in compared.counts.items()}
    shown_rows = [
        {
            "kind": row.kind,
            "cell": row.cell,
            "metric": row.metric or None,
            "unit": row.unit,
            "label": row.label or None,
            "old_cases": row.old_cases,
            "new_cases": row.new_cases,
            "board": row.board,
            "old": _finite(row.verdict.old) if row.verdict else None,
            "new": _finite(row.verdict.new) if row.verdict else None,
            "change": _finite(row.verdict.change) if row.verdict else None,
            "reason": row.reason,
            "gates": row.gates,
            "command": row.command,
        }
        for row in rows
    ]
    return {"old": compared.old, "new": compared.new, "gates": compared.gates, "counts": counts, "rows": shown_rows}


def _shown(compared: Comparison, *, everything: bool) -> Sequence[Row]:
    return [row for row in compared.rows if everything or row.kind not in QUIET]


def texts(row: Row) -> tuple[str, ...]:
    """Return a row in words: its kind, cell, board, number, before, now, change, and why."""
    before, now, change = _numbers(row)
    name = one_line(row.metric) or "-"
    reason = one_line(row.reason, _LONGEST_REASON)
    return (row.kind, one_line(row.cell), one_line(row.board or "-"), name, before, now, change, reason)


def _marked(row: Row) -> tuple[str, ...]:
    before, now, change = _numbers(row)
    kind = f"**{row.kind}**" if row.gates else row.kind
    board, name = (plain(text) if text else "" for text in (row.board, row.metric))
    return (kind, plain(row.cell), board, name, before, now, change, plain(one_line(row.reason, _LONGEST_REASON)))


def _numbers(row: Row) -> tuple[str, str, str]:
    if row.verdict is None:
        return "-", "-", "-"
    old, new, change = row.verdict.old, row.verdict.new, row.verdict.change
    before = "-" if old is None else shown(old, row.unit, cases=row.old_cases, label=row.label)
    return (
        before,
        shown(new, row.unit, cases=row.new_cases, label=row.label),
        f"{change:+.1%}" if math.isfinite(change) else "-",
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
