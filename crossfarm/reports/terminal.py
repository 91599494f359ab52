"""The table of cells on the terminal, and under it what is wrong. Plain text: no package, and no time to import one."""

from __future__ import annotations

from collections.abc import Sequence

from crossfarm.reports.columns import COLUMNS, row
from crossfarm.reports.run_view import CellOutcome, Overview, known_failure
from crossfarm.results import JobRecord
from crossfarm.util.text import one_line

_VERDICT = COLUMNS.index("verdict")
_NUMBERS = frozenset(COLUMNS.index(name) for name in ("max diff", "quantising", "p50", "program", "weights", "memory"))
_COLOURS = {
    **{"passed": "32", "FAILED": "31;1", "ERROR": "31;1"},
    **dict.fromkeys(("known failure", "made", "skipped", "not run"), "33"),
}


def render(seen: Overview, *, colour: bool = False) -> str:
    """Return the table of all cells, then each failure with cause, log and command, then the run in one line.

    Args:
        seen: the run.
        colour: whether verdicts are coloured; false for a file, a pipe, or where NO_COLOR is set.
    """
    blocks = []
    if seen.cells:
        blocks.append(_table(seen.cells, colour=colour))
    blocks += [_failed_job(job, colour=colour) for job in seen.failed_others]
    blocks += [_failed_cell(cell, colour=colour) for cell in seen.cells if cell.state in ("failed", "error")]
    told = [f"{one_line(cell.id)}: {one_line(row.message)}" for cell in seen.cells for row in cell.unexpected]
    told += [
        f"{one_line(cell.id)}: known failure: {one_line(known_failure(item))}"
        for cell in seen.cells
        for item in cell.known
    ]
    if told:
        blocks.append("\n".join(told))
    notes = [f"{one_line(cell.id)}: {one_line(note.message)}" for cell in seen.cells for note in cell.notes]
    if notes:
        blocks.append("\n".join(notes))
    left: dict[str, list[str]] = {}
    for cell in seen.cells:
        if cell.state in ("made", "skipped", "not run"):
            left.setdefault(f"{cell.state}: {cell.cause}", []).append(cell.id)
    blocks += [_shorten(cells) + f" {why}" for why, cells in left.items()]
    headline = seen.headline if seen.is_complete else f"{seen.headline}\n{seen.interruption}"
    blocks.append(headline)
    return "\n\n".join(blocks) + "\n"


def _table(cells: Sequence[CellOutcome], *, colour: bool) -> str:
    rows = [row(cell) for cell in cells]
    # A column that is empty everywhere, as latency is when nothing was run, only takes room.
    shown = [index for index in range(len(COLUMNS)) if any(values[index] for values in rows)]
    widths = {index: max(len(values[index]) for values in (COLUMNS, *rows)) for index in shown}
    lines = []
    for values in (COLUMNS, *rows):
        parts = []
        for index in shown:
            text, blanks = values[index], " " * (widths[index] - len(values[index]))
            if index == _VERDICT and values is not COLUMNS:
                text = _paint(text, _COLOURS.get(text), colour=colour)
            parts.append(blanks + text if index in _NUMBERS else text + blanks)
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


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
