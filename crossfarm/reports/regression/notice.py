"""A run beside those before it, as those are told whom a pipeline names: one JSON document, or a text of some lines."""

from __future__ import annotations

import json
from typing import Any

from crossfarm.reports import QUIET
from crossfarm.reports.regression.comparison import Comparison
from crossfarm.reports.regression.comparison_text import as_document, as_lines, headline
from crossfarm.reports.run_view import Overview
from crossfarm.util.text import count, one_line

_MOST_ROWS = 1000
_MOST_LINES = 10


def document(seen: Overview, compared: Comparison | None, *, why_not: str = "") -> str:
    """Return the comparison as JSON, with the run that it is about, and all of it as a text.

    Args:
        seen: the run.
        compared: with the runs before; None where there are none, and then the run alone is told.
        why_not: why those before cannot be read; empty where they can, or where there are none.
    """
    found: dict[str, Any] = {"old": None, "new": None, "gates": False, "counts": {}, "rows": []}
    if compared is not None:
        rows = [row for row in compared.rows if row.kind not in QUIET]
        found = as_document(compared, rows[:_MOST_ROWS]) | {"rows_left_out": max(0, len(rows) - _MOST_ROWS)}
    return json.dumps({"text": text(seen, compared, why_not), "run": _run(seen), **found}, allow_nan=False) + "\n"


def text_of(seen: Overview, compared: Comparison | None, *, key: str, why_not: str = "") -> str:
    """Return a JSON document that holds the text alone, under the key that a chat service wants."""
    return json.dumps({key: text(seen, compared, why_not)}) + "\n"


def text(seen: Overview, compared: Comparison | None, why_not: str = "") -> str:
    """Return what became of the run in some lines: its outcome, the comparison, and the worst rows of that."""
    lines = [f"crossfarm: {seen.headline}"]
    if seen.run is not None:
        commit = f", commit {one_line(seen.run.git_commit)[:12]}" if seen.run.git_commit else ""
        lines.append(f"run {one_line(seen.run.run)} on {one_line(seen.run.host)}{commit}")
    if compared is None:
        unread = f"the runs before cannot be read: {one_line(why_not)}"
        return "\n".join([*lines, unread if why_not else "there is no run before that it can be compared with"])
    rows = [row for row in compared.rows if row.kind not in QUIET]
    lines += [headline(compared), *as_lines(rows[:_MOST_LINES])]
    return "\n".join(
        [*lines, *([f"and {count(len(rows) - _MOST_LINES, 'more row')}"] if len(rows) > _MOST_LINES else [])]
    )


def _run(seen: Overview) -> dict[str, Any]:
    run, end = seen.run, seen.end
    found: dict[str, Any] = {"headline": seen.headline, "counts": dict(seen.counts)}
    if run is not None:
        found |= {"id": run.run, "started": run.started, "command": run.command, "version": run.version}
        found |= {"commit": run.git_commit, "host": run.host}
    return found | {"exit_code": end.exit_code if end else None, "interrupted": not seen.is_complete}
