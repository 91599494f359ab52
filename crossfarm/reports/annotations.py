"""What is wrong in a run as commands that GitHub Actions reads from a step's output: notes at lines of models.yaml.

GitHub shows ten of a kind of one step and drops the others without a word; so the tenth says how many there are.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Sequence
from pathlib import Path

from crossfarm.reports.run_view import CellOutcome, Overview
from crossfarm.results import CheckRecord, JobRecord
from crossfarm.util.text import count, one_line

MOST = 10
"""Of errors, and likewise of warnings, in the output of one step."""
_MOST_CELLS = 5
"""Cells that one annotation names."""
_LONGEST = 300
"""Characters that one cell's cause takes."""


def commands(seen: Overview, *, root: Path) -> Iterator[str]:
    """Yield one line for each model that is wrong, the errors first, then what was not checked or ran only at last.

    All cells of a model stand at one line of models.yaml, so they share an annotation. What is wrong with the product
    and what is wrong with the infrastructure are errors both, and the text says which.

    Args:
        seen: the run.
        root: folder of the repository; GitHub wants paths from there.
    """
    errors = list(_errors(seen, root))
    if not seen.is_complete:
        errors.insert(0, _command("error", title="crossfarm: incomplete", message=seen.interruption))
    yield from _limited("error", errors)
    yield from _limited("warning", list(_warnings(seen, root)))


def _errors(seen: Overview, root: Path) -> Iterator[str]:
    for job in seen.failed_others:
        yield _command("error", title=job.job, message=_of_job(job), place=_place([job], root))
    groups: dict[tuple[str, tuple[str, int] | None], list[CellOutcome]] = {}
    for cell in seen.cells:
        if cell.state in ("failed", "error"):
            groups.setdefault((cell.model, _place(cell.failing, root)), []).append(cell)
    for (model, place), cells in groups.items():
        title = f"{model}: {count(len(cells), 'cell')} failed"
        yield _command("error", title=title, message=_of_cells(cells), place=place)


def _warnings(seen: Overview, root: Path) -> Iterator[str]:
    for job in seen.flaky:
        message = f"ran well on {job.board or 'another board'} after {'; '.join(job.flaky)}"
        yield _command("warning", title=f"flaky: {job.job}", message=message, place=_place([job], root))
    groups: dict[tuple[str, str, tuple[str, int] | None], list[CellOutcome]] = {}
    for cell in seen.cells:
        if cell.state in ("made", "not run"):
            place = _place((*cell.jobs, *cell.checks), root)
            groups.setdefault((cell.model, cell.state, place), []).append(cell)
    for (model, state, place), cells in groups.items():
        word = "nothing was checked" if state == "made" else "not run"
        yield _command(
            "warning", title=f"{model}: {count(len(cells), 'cell')}: {word}", message=_of_cells(cells), place=place
        )


def _of_cells(cells: Sequence[CellOutcome]) -> str:
    lines = [f"{one_line(cell.id)}: {_of_cell(cell)}" for cell in cells[:_MOST_CELLS]]
    if len(cells) > _MOST_CELLS:
        lines.append(f"and {count(len(cells) - _MOST_CELLS, 'more cell')}")
    return "\n".join(lines)


def _of_cell(cell: CellOutcome) -> str:
    whose = "infrastructure: " if cell.state == "error" else ""
    return f"{whose}{one_line(cell.cause, _LONGEST)}"


def _of_job(job: JobRecord) -> str:
    whose = "infrastructure: " if job.fault == "infrastructure" else ""
    return f"{whose}{one_line(job.cause or 'no cause was told', _LONGEST)}"


def _place(rows: Sequence[JobRecord | CheckRecord], root: Path) -> tuple[str, int] | None:
    """Return file and line of the first row that has them, the file as the repository names it."""
    for row in rows:
        if row.file:
            path = os.path.relpath(row.file, root) if Path(row.file).is_absolute() else row.file
            # A file elsewhere, as crossfarm's own models.yaml beside an action, is none that GitHub could show.
            return None if path.startswith("..") else (path, row.line or 1)
    return None


def _limited(kind: str, found: Sequence[str]) -> Iterator[str]:
    if len(found) <= MOST:
        yield from found
        return
    yield from found[: MOST - 1]
    left = count(len(found) - MOST + 1, f"more {kind}")
    yield _command(kind, title=f"crossfarm: {left}", message=f"{left}; the summary and report.html show them all")


def _command(kind: str, *, title: str, message: str, place: tuple[str, int] | None = None) -> str:
    where = f"file={_property(place[0])},line={place[1]}," if place else ""
    lines = "%0A".join(_escaped(one_line(line)) for line in message.split("\n"))
    return f"::{kind} {where}title={_property(title)}::{lines}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(one_line(text)).replace(":", "%3A").replace(",", "%2C")
