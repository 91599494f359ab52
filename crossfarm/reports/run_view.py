"""One run seen cell by cell: what every report begins with. Made of records alone."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from crossfarm.config.cell import Cell
from crossfarm.errors import ConfigError
from crossfarm.results import (
    CheckRecord,
    EndRecord,
    JobRecord,
    MeasurementRecord,
    Provenance,
    Record,
    RunRecord,
    last_run,
)
from crossfarm.util.text import count, one_line, quantity

CellState = Literal["passed", "failed", "error", "known failure", "made", "skipped", "not run"]
"""`passed`: a check held, and none did not; `failed`: the product is wrong; `error`: the infrastructure is; `known
failure`: it fails as models.yaml declares it to, and not otherwise; `made`: its jobs ended well, and no check was held
against it; `not run`: something before it did not succeed."""
UNCHECKED = "nothing was checked"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellOutcome:
    """What became of one cell.

    Attributes:
        id: `armv7-mnist_cnn-float32`; `target`, `model` and `variant` are its parts.
        state: the worst of its rows.
        cause: why it did not pass, one line; empty when it did.
        jobs: its own jobs, in the order in which they ended.
        missing: stages of its jobs that were planned and have no record.
        checks: its checks.
        measurements: its numbers by name.
    """

    id: str
    target: str
    model: str
    variant: str
    state: CellState
    cause: str
    jobs: tuple[JobRecord, ...]
    missing: tuple[str, ...]
    checks: tuple[CheckRecord, ...]
    measurements: Mapping[str, MeasurementRecord]

    @property
    def provenance(self) -> Provenance | None:
        """Return where it was measured."""
        return next((item.provenance for item in self.measurements.values()), None)

    @property
    def failing(self) -> tuple[JobRecord | CheckRecord, ...]:
        """Return the rows that make it failed or an error."""
        jobs = [job for job in self.jobs if job.state == "failed"]
        return (*jobs, *(check for check in self.checks if check.status in ("failed", "error")))

    @property
    def known(self) -> tuple[JobRecord | CheckRecord, ...]:
        """Return the rows that fail as they are declared to."""
        jobs = [job for job in self.jobs if job.state == "known failure"]
        return (*jobs, *(check for check in self.checks if check.status == "known failure"))

    @property
    def unexpected(self) -> tuple[CheckRecord, ...]:
        """Return the rows that tell that what is declared to fail does not, and which gate nothing."""
        return tuple(check for check in self.checks if check.status == "unexpected pass")

    @property
    def notes(self) -> tuple[CheckRecord, ...]:
        """Return the rows about code that could be faster: what no rule schedules, what int8 leaves in float32."""
        return tuple(check for check in self.checks if check.name.startswith("code."))

    @property
    def remarks(self) -> tuple[CheckRecord, ...]:
        """Return the rows that explain the differences: scales that differ much, layers in which int8 loses most."""
        return tuple(check for check in self.checks if check.name.startswith(("accuracy.scales.", "accuracy.layers")))

    @property
    def command(self) -> str | None:
        """Return what reproduces it: the command of the first row that failed, or of any."""
        rows = (*self.failing, *self.known, *self.jobs, *self.checks)
        return next((row.command for row in rows if row.command), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overview:
    """One run.

    Attributes:
        run: its first record; None when that one is lost.
        end: its last record; None when the run was killed.
        cells: every cell that something was planned for or recorded about, in the order of the plan.
        others: jobs about a source or a model.
        missing: ids of the jobs that were planned and have no record.
    """

    run: RunRecord | None
    end: EndRecord | None
    cells: tuple[CellOutcome, ...]
    others: tuple[JobRecord, ...]
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Say whether the run came to its own end."""
        return self.end is not None and not self.end.interrupted

    @property
    def interruption(self) -> str:
        """Return why the run is incomplete, in one line; empty when it is complete."""
        if self.is_complete:
            return ""
        how = "was interrupted" if self.end else "ended without a word, as if it was killed"
        after = f" after {quantity(self.end.seconds, 's')}" if self.end else ""
        return f"the run {how}{after}; {count(len(self.missing), 'planned job')} left no result"

    @property
    def counts(self) -> Mapping[CellState, int]:
        """Return the number of cells in each state; they add up to the number of cells."""
        return collections.Counter(cell.state for cell in self.cells)

    @property
    def failed_others(self) -> tuple[JobRecord, ...]:
        """Return the jobs about a source or a model that failed."""
        return tuple(job for job in self.others if job.state == "failed")

    @property
    def flaky(self) -> tuple[JobRecord, ...]:
        """Return the jobs that a board failed before another did them."""
        return tuple(job for cell in self.cells for job in cell.jobs if is_flaky(job))

    @property
    def headline(self) -> str:
        """Return the run in one line."""
        failures = self.counts["failed"] + self.counts["error"] + len(self.failed_others)
        known, unexpected = self.counts["known failure"], sum(len(cell.unexpected) for cell in self.cells)
        good = "passed" if self.counts["passed"] else "known failures only" if known else UNCHECKED
        word = "FAILED" if failures else good if self.is_complete else "INTERRUPTED"
        states: tuple[CellState, ...] = ("passed", "failed", "error", "known failure", "made", "skipped", "not run")
        parts = [
            count(known, state) if state == "known failure" else f"{self.counts[state]} {state}"
            for state in states
            if self.counts[state]
        ]
        if unexpected:
            parts.append(count(unexpected, "unexpected pass", "unexpected passes"))
        if self.failed_others:
            parts.append(f"{count(len(self.failed_others), 'job')} before the cells failed")
        return f"{word}: {count(len(self.cells), 'cell')}{': ' if parts else ''}{', '.join(parts)}"


def known_failure(item: JobRecord | CheckRecord) -> str:
    """Return what a known failure is and why it is known, in one line."""
    name, told = (item.stage, item.cause) if isinstance(item, JobRecord) else (item.name, item.message)
    return f"{name}: {item.expected or 'no reason was told'}; found: {told or 'no cause was told'}"


def is_flaky(job: JobRecord) -> bool:
    """Return whether a board failed a job before another did it."""
    return bool(job.flaky) and job.state == "run"


def overview(records: Sequence[Record]) -> Overview:
    """Return the last run of `records`, cell by cell."""
    records = last_run(records)
    run = next((record for record in records if isinstance(record, RunRecord)), None)
    end = next((record for record in records if isinstance(record, EndRecord)), None)
    # A job that ran twice (a retry) counts as it ended the last time.
    jobs = {record.job: record for record in records if isinstance(record, JobRecord)}
    missing = tuple(job for job in (run.jobs if run else ()) if job not in jobs)
    grouped = _by_cell(records, jobs.values(), run, missing)
    is_complete = end is not None and not end.interrupted
    cells = [_outcome(name, rows, is_complete=is_complete) for name, rows in grouped.items()]
    return Overview(
        run=run,
        end=end,
        cells=tuple(cell for cell in cells if cell is not None),
        others=tuple(job for job in jobs.values() if job.cell is None),
        missing=missing,
    )


@dataclasses.dataclass(kw_only=True)
class _Rows:
    jobs: list[JobRecord] = dataclasses.field(default_factory=list)
    checks: list[CheckRecord] = dataclasses.field(default_factory=list)
    measurements: dict[str, MeasurementRecord] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)


def _by_cell(
    records: Sequence[Record], jobs: Iterable[JobRecord], run: RunRecord | None, missing: Sequence[str]
) -> dict[str, _Rows]:
    grouped: collections.defaultdict[str, _Rows] = collections.defaultdict(_Rows)
    for cell in run.cells if run else ():
        grouped[cell] = _Rows()
    for job in missing:
        stage, _, subject = job.partition(":")
        if subject in grouped:
            grouped[subject].missing.append(stage)
    for entry in jobs:
        if entry.cell is not None:
            grouped[entry.cell].jobs.append(entry)
    for record in records:
        if isinstance(record, CheckRecord):
            grouped[record.cell].checks.append(record)
        elif isinstance(record, MeasurementRecord):
            grouped[record.cell].measurements[record.name] = record
    return dict(grouped)


def _outcome(name: str, rows: _Rows, *, is_complete: bool) -> CellOutcome | None:
    """Return what became of a cell; None when nothing was planned for it, as where only models are prepared."""
    if is_complete and not (rows.jobs or rows.checks or rows.measurements or rows.missing):
        return None
    try:
        cell = Cell.parse(name)
    except ConfigError:  # a file of records that this version did not write
        cell = Cell(target=name, model="", variant="")
    job = next((job for job in rows.jobs if job.target and job.model), None)
    state, cause = _state(rows)
    return CellOutcome(
        id=name,
        target=(job.target if job else None) or cell.target,
        model=(job.model if job else None) or cell.model,
        variant=(job.variant if job else None) or cell.variant,
        state=state,
        cause=one_line(cause),
        jobs=tuple(rows.jobs),
        missing=tuple(rows.missing),
        checks=tuple(rows.checks),
        measurements=rows.measurements,
    )


def _state(rows: _Rows) -> tuple[CellState, str]:
    """Return the worst state of a cell's rows and what caused it."""
    if (wrong := _wrong(rows)) is not None:
        return wrong
    for job in rows.jobs:
        if job.state == "cancelled":
            return "not run", f"{job.stage}: {job.cause or job.reason or 'cancelled'}"
    if rows.missing or not (rows.jobs or rows.checks or rows.measurements):
        return "not run", "the run ended before it got here"
    left = [
        f"{job.stage}: {job.reason or job.cause or 'no reason was told'}" for job in rows.jobs if job.state == "skipped"
    ]
    left += [f"{item.name}: {item.message}" for item in rows.checks if item.status == "skipped"]
    if left:
        return "skipped", left[0]
    if any(item.status == "passed" for item in rows.checks):
        return "passed", ""
    # Rows that gate nothing, as the latency is, say nothing about whether the answers are right.
    return "made", UNCHECKED


def _wrong(rows: _Rows) -> tuple[CellState, str] | None:
    """Return what failed, the product before the infrastructure, or what fails as declared; None where nothing does."""
    failed = [job for job in rows.jobs if job.state == "failed"]
    wrong: list[tuple[CellState, str]] = [
        ("error" if job.fault == "infrastructure" else "failed", f"{job.stage}: {job.cause or 'no cause was told'}")
        for job in failed
    ]
    wrong += [("failed", f"{item.name}: {item.message}") for item in rows.checks if item.status == "failed"]
    wrong += [("error", f"{item.name}: {item.message}") for item in rows.checks if item.status == "error"]
    if wrong:
        return min(wrong, key=lambda item: item[0] != "failed")
    known = [known_failure(job) for job in rows.jobs if job.state == "known failure"]
    known += [known_failure(item) for item in rows.checks if item.status == "known failure"]
    return ("known failure", known[0]) if known else None
