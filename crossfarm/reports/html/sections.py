"""What stands in the page without a script: matrix, table, what is wrong, what was not done, where it was measured."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

from crossfarm.reports.columns import COLUMNS, row
from crossfarm.reports.html.cell_data import CellData, Document, place
from crossfarm.reports.run_view import CellOutcome, Overview, known_failure
from crossfarm.results import CheckRecord, JobRecord
from crossfarm.util.text import one_line, quantity

MOST_FAILURES = 200
"""Cells whose failures stand in the section of failures; all are in the table."""
MOST_CHECKS = 20
"""Failed checks of one cell that stand there."""
SYMBOLS = {
    "passed": "✓",
    "failed": "✗",
    "error": "!",
    "known failure": "≈",
    "unexpected pass": "?",
    "made": "○",
    "skipped": "→",
    "not run": "·",
}
"""Stands beside the word, so that a state can be told without its colour."""
_COMMAND = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of the table of cells; `index` is the place of the cell in the document."""

    index: int
    id: str
    state: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixCell:
    """A field of the matrix: the cell, its state and its median latency with the label that it needs."""

    index: int
    id: str
    state: str
    latency: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """The matrix.

    Attributes:
        targets: each with the variants that stand under it.
        rows: model -> a field for each variant of each target, None where no such cell was planned.
    """

    targets: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, tuple[MatrixCell | None, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FailureLine:
    """A job or a check that went wrong: what, how and why, with its log and its place in a declaration."""

    name: str
    how: str
    told: str
    log: str
    place: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell, or a job about a source or a model, that went wrong; `id` is empty where there is no dialog for it."""

    title: str
    id: str
    state: str
    lines: tuple[FailureLine, ...]
    more: int
    command: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownLine:
    """A failure that models.yaml declares: `kind` says whether it came, or what is declared to fail passes."""

    id: str
    kind: str
    told: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Cells that were not done, for one reason."""

    state: str
    cause: str
    ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredAt:
    """Where cells of a target were measured, and how many of them."""

    target: str
    cells: int
    pairs: tuple[tuple[str, str], ...]


def table(cells: Sequence[CellOutcome], document: Document) -> tuple[TableRow, ...]:
    """Return the rows of the table, the same order in both."""
    return tuple(
        TableRow(index=number, id=data.id, state=data.state, values=row(cell))
        for number, (cell, data) in enumerate(zip(cells, document.cells, strict=True))
    )


def matrix(rows: Sequence[TableRow], document: Document, order: Sequence[int]) -> Matrix:
    """Return model x target and variant, in the order of the plan.

    Args:
        rows: of the table.
        document: of the same cells.
        order: places of the cells in the order of the plan.
    """
    targets: dict[str, dict[str, None]] = {}
    models: dict[str, dict[tuple[str, str], MatrixCell]] = {}
    latency = COLUMNS.index("p50")
    for number in order:
        data, line = document.cells[number], rows[number]
        targets.setdefault(data.target, {})[data.variant] = None
        field = MatrixCell(index=number, id=data.id, state=data.state, latency=line.values[latency])
        models.setdefault(data.model, {})[data.target, data.variant] = field
    places = [(target, variant) for target, variants in targets.items() for variant in variants]
    return Matrix(
        targets={target: tuple(variants) for target, variants in targets.items()},
        rows={model: tuple(found.get(place) for place in places) for model, found in models.items()},
    )


def failures(seen: Overview, ids: Mapping[str, str]) -> tuple[Failure, ...]:
    """Return what is wrong: jobs before the cells, then cells; `ids` are the names of cells in the page."""
    found = [_failure(job.job, "", _job_state(job), [job], job.command) for job in seen.failed_others]
    for cell in seen.cells:
        if cell.state in ("failed", "error"):
            found.append(_failure(cell.id, ids[cell.id], cell.state, cell.failing, cell.command))
    return tuple(found)


def known(seen: Overview, ids: Mapping[str, str]) -> tuple[KnownLine, ...]:
    """Return what passes though it is declared to fail, then what fails as declared."""
    unexpected = [(cell, row.message, "unexpected pass") for cell in seen.cells for row in cell.unexpected]
    declared = [(cell, known_failure(item), "known failure") for cell in seen.cells for item in cell.known]
    return tuple(
        KnownLine(id=ids[cell.id], kind=kind, told=one_line(told, 1000))
        for cell, told, kind in (*unexpected, *declared)
    )


def left_out(cells: Sequence[CellOutcome], document: Document) -> tuple[LeftOut, ...]:
    """Return the cells that were not done, those of one reason together."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for cell, data in zip(cells, document.cells, strict=True):
        if cell.state not in ("passed", "failed", "error", "known failure"):
            grouped.setdefault((cell.state, data.cause), []).append(data.id)
    return tuple(LeftOut(state=state, cause=cause, ids=tuple(ids)) for (state, cause), ids in grouped.items())


def measured_at(cells: Sequence[CellOutcome]) -> tuple[MeasuredAt, ...]:
    """Return where the cells of each target were measured; temperatures, which differ, from where to where."""
    found: collections.Counter[tuple[str, tuple[tuple[str, str], ...]]] = collections.Counter()
    heat: collections.defaultdict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = collections.defaultdict(list)
    for cell in cells:
        if cell.provenance is None:
            continue
        pairs = tuple(pair for pair in place(cell.provenance) if pair[0] != "temperature")
        key = one_line(cell.target), pairs
        found[key] += 1
        if cell.provenance.temperature is not None and math.isfinite(cell.provenance.temperature):
            heat[key].append(cell.provenance.temperature)
    return tuple(
        MeasuredAt(target=key[0], cells=number, pairs=(*key[1], *_temperatures(heat.get(key, ()))))
        for key, number in found.items()
    )


def choices(cells: Sequence[CellData]) -> Mapping[str, tuple[str, ...]]:
    """Return what can be chosen in each filter of the page."""
    return {
        "verdict": tuple(state for state in SYMBOLS if any(cell.state == state for cell in cells)),
        "target": tuple(sorted({cell.target for cell in cells})),
        "variant": tuple(sorted({cell.variant for cell in cells})),
    }


def _temperatures(values: Sequence[float]) -> tuple[tuple[str, str], ...]:
    if not values:
        return ()
    low, high = (quantity(value, "celsius") for value in (min(values), max(values)))
    return (("temperature", low if low == high else f"{low} to {high}"),)


def _failure(
    title: str, name: str, state: str, rows: Sequence[JobRecord | CheckRecord], command: str | None
) -> Failure:
    return Failure(
        title=one_line(title),
        id=name,
        state=state,
        lines=tuple(map(_line, rows[:MOST_CHECKS])),
        more=max(0, len(rows) - MOST_CHECKS),
        command=one_line(command or "", _COMMAND),
    )


def _line(item: JobRecord | CheckRecord) -> FailureLine:
    at = f"{one_line(item.file)}:{item.line or 1}" if item.file else ""
    if isinstance(item, CheckRecord):
        return FailureLine(name=one_line(item.name), how=item.status, told=one_line(item.message), log="", place=at)
    told = one_line(item.cause or "no cause was told")
    how = "infrastructure" if item.fault == "infrastructure" else "failed"
    return FailureLine(name=one_line(item.stage), how=how, told=told, log=one_line(item.log or ""), place=at)


def _job_state(job: JobRecord) -> str:
    return "error" if job.fault == "infrastructure" else "failed"
