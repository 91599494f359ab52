"""The table of cells on the terminal, the worst first, and under it what is wrong.

It fits into the columns there are, and all of it onto one screen unless everything is asked for. Plain text: no
package, and no time to import one.
"""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Iterator, Sequence

from crossfarm.reports.columns import COLUMNS, row
from crossfarm.reports.run_view import CellOutcome, CellState, Overview, known_failure
from crossfarm.results import JobRecord
from crossfarm.util.text import count, cut, one_line, width

LOG = os.terminal_size((100, 50))
"""Columns and rows where no terminal says how many it has: a file, a pipe, the log of a CI server."""
_WORST_FIRST: tuple[CellState, ...] = ("failed", "error", "not run", "known failure", "skipped", "made", "passed")
_VERDICT = COLUMNS.index("verdict")
_NUMBERS = frozenset(COLUMNS.index(name) for name in ("max diff", "quantising", "p50", "program", "weights", "memory"))
_COLOURS = {
    **{"passed": "32", "FAILED": "31;1", "ERROR": "31;1"},
    **dict.fromkeys(("known failure", "made", "skipped", "not run"), "33"),
}
_SPARE = ("weights", "memory", "quantising", "program", "max diff", "right", "p50")
"""Columns that go where there is no room, in this order."""
_WIDEST = {"model": 32, "target": 18, "right": 24, "quantising": 20}
"""Columns of the screen that these get at most before others go; what is longer ends with an ellipsis."""
_NARROWEST = 8
_FEWEST_ROWS = 12
"""Lines of table and failures that are shown on the smallest screen."""
_GAP = "  "


def render(
    seen: Overview,
    *,
    colour: bool = False,
    columns: int = LOG.columns,
    rows: int | None = None,
    places: Sequence[str] = (),
) -> str:
    """Return the table of the cells, then each failure with cause, log and command, then the run in one line.

    Args:
        seen: the run.
        colour: whether verdicts are coloured.
        columns: into how many the table must fit.
        rows: into how many lines all of it must fit; None for as many as it has.
        places: where the reports are, which stands before that line: the path of one, and names of others beside it.
    """
    cells = sorted(seen.cells, key=lambda cell: _WORST_FIRST.index(cell.state))
    foot = [f"reports: {', '.join(map(one_line, places))}"] if places else []
    foot += [seen.headline] if seen.is_complete else [seen.headline, seen.interruption]
    failures = [_failed_job(job, colour=colour) for job in seen.failed_others]
    failures += [_failed_cell(cell, colour=colour) for cell in cells if cell.state in ("failed", "error")]
    remarks = list(_remarks(cells))
    table = _table(cells, colour=colour, columns=columns) if cells else []
    if rows is not None:
        # Below it there must be room for the line that is typed next.
        room = max(_FEWEST_ROWS, rows - 1 - _height("\n".join(foot), columns) - 2)
        below = sum(_height(block, columns) + 1 for block in (*failures, *remarks))
        if len(table) + below > room:
            table = _first_rows(table, cells, max(room // 2, room - below), columns)
            failures, remarks = _first_blocks(failures, remarks, room - len(table), columns)
    blocks = ["\n".join(table)] if table else []
    return "\n\n".join([*blocks, *failures, *remarks, "\n".join(foot)]) + "\n"


def _table(cells: Sequence[CellOutcome], *, colour: bool, columns: int) -> list[str]:
    rows = [row(cell) for cell in cells]
    # A column that is empty everywhere, as latency is when nothing was run, only takes room.
    shown = [index for index in range(len(COLUMNS)) if any(values[index] for values in rows)]
    widths, left_out = _fitted(
        {index: max(width(values[index]) for values in (COLUMNS, *rows)) for index in shown}, columns
    )
    lines = []
    for values in (COLUMNS, *rows):
        parts = []
        for index, room in widths.items():
            text = cut(values[index], room)
            blanks = " " * (room - width(text))
            if index == _VERDICT and values is not COLUMNS:
                text = _paint(text, _COLOURS.get(text), colour=colour)
            parts.append(blanks + text if index in _NUMBERS else text + blanks)
        lines.append(_GAP.join(parts).rstrip())
    if left_out:
        lines.append(cut(f"no room for: {', '.join(left_out)}", columns))
    return lines


def _fitted(widths: dict[int, int], columns: int) -> tuple[dict[int, int], list[str]]:
    """Return the widths that the columns of a table get so that it fits, and the names of those that got none."""
    widths = dict(widths)
    left_out = []
    if _whole(widths) > columns:
        for name, most in _WIDEST.items():
            if (index := COLUMNS.index(name)) in widths:
                widths[index] = min(widths[index], most)
    for name in _SPARE:
        if _whole(widths) > columns and widths.pop(COLUMNS.index(name), None) is not None:
            left_out.append(name)
    while _whole(widths) > columns:
        widest = max(widths, key=lambda index: widths[index])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths, left_out


def _whole(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _first_rows(table: list[str], cells: Sequence[CellOutcome], most: int, columns: int) -> list[str]:
    """Return as many lines of a table as may be shown; the last one then tells what the others are."""
    kept = max(2, most - 1)
    if len(table) <= kept + 1:
        return table
    left = collections.Counter(cell.state for cell in cells[kept - 1 :])
    states = ", ".join(f"{left[state]} {state}" for state in _WORST_FIRST if left[state])
    rest = f"and {count(left.total(), 'more cell')}: {states}; --all shows every row"
    return [*table[:kept], cut(rest, columns)]


def _first_blocks(failures: list[str], remarks: list[str], room: int, columns: int) -> tuple[list[str], list[str]]:
    """Return the first failures and remarks that fit, and as the last remark how many did not; at least one failure."""
    used, shown = 2, 0
    blocks = [*failures, *remarks]
    for block in blocks:
        used += _height(block, columns) + 1
        if used > room and shown >= min(1, len(failures)):
            break
        shown += 1
    if shown == len(blocks):
        return failures, remarks
    unseen = max(0, len(failures) - shown)
    others = len(blocks) - shown - unseen
    parts = [count(unseen, "more failure")] if unseen else []
    parts += [count(others, "more remark")] if others else []
    more = f"and {' and '.join(parts)}; --all shows them"
    return failures[:shown], [*remarks[: max(0, shown - len(failures))], more]


def _height(block: str, columns: int) -> int:
    """Return how many lines of a screen a text takes."""
    return sum(max(1, math.ceil(width(line) / max(1, columns))) for line in block.split("\n"))


def _remarks(cells: Sequence[CellOutcome]) -> Iterator[str]:
    told = [f"{one_line(cell.id)}: {one_line(row.message)}" for cell in cells for row in cell.unexpected]
    told += [
        f"{one_line(cell.id)}: known failure: {one_line(known_failure(item))}" for cell in cells for item in cell.known
    ]
    if told:
        yield "\n".join(told)
    notes = [f"{one_line(cell.id)}: {one_line(note.message)}" for cell in cells for note in cell.notes]
    if notes:
        yield "\n".join(notes)
    left: dict[str, list[str]] = {}
    for cell in cells:
        if cell.state in ("made", "skipped", "not run"):
            left.setdefault(f"{cell.state}: {cell.cause}", []).append(cell.id)
    yield from (_shorten(found) + f" {why}" for why, found in left.items())


def _failed_job(job: JobRecord, *, colour: bool) -> str:
    head = _paint(one_line(job.job), _COLOURS["FAILED"], colour=colour)
    return "\n".join([head, *_job_lines(job), *_reproduce(job.command)])


def _failed_cell(cell: CellOutcome, *, colour: bool) -> str:
    lines = [_paint(one_line(cell.id), _COLOURS["FAILED"], colour=colour)]
    for item in cell.failing:
        if isinstance(item, JobRecord):
            lines += _job_lines(item)
        else:
            lines.append(f"  {one_line(item.name)}: {one_line(item.message)}")
    return "\n".join([*lines, *_reproduce(cell.command)])


def _job_lines(job: JobRecord) -> list[str]:
    lines = [f"  {one_line(job.stage)}: {one_line(job.cause or 'no cause was told')}"]
    return [*lines, f"  log: {one_line(job.log)}"] if job.log else lines


def _reproduce(command: str | None) -> list[str]:
    return [f"  to reproduce: {one_line(command, 2000)}"] if command else []


def _shorten(cells: Sequence[str]) -> str:
    return ", ".join(map(one_line, cells[:3])) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")


def _paint(text: str, code: str | None, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text
