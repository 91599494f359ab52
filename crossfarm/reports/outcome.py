"""The outcome of a run as one JSON object, for programs: `./inv pipeline --json`. docs/schemas has its schema."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from crossfarm.reports.run_view import CellOutcome, CellState, Overview
from crossfarm.results import CheckRecord, CheckStatus, Fault, JobRecord, JobState, MeasurementRecord, Timing

_STRICT = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Measured(BaseModel):
    """A number of a cell."""

    model_config = _STRICT

    value: float | Literal["NaN", "Infinity", "-Infinity"]
    """What was measured; a number that is not finite is a string."""
    unit: str
    """Its unit, as docs/results.md names units."""
    board: str
    """The board that it is of."""
    timing: Timing
    """What its clock is worth: silicon, emulated, simulated or estimated."""


class Checked(BaseModel):
    """A check of a cell."""

    model_config = _STRICT

    status: CheckStatus
    """passed, failed, error, skipped; informative gates nothing."""
    value: float | Literal["NaN", "Infinity", "-Infinity"] | None = None
    """What was found; a number that is not finite is a string."""
    limit: float | Literal["NaN", "Infinity", "-Infinity"] | None = None
    """What it was held against."""
    unit: str | None = None
    """The unit of both."""
    message: str
    """One line with the key numbers."""


class Cell(BaseModel):
    """What became of one cell."""

    model_config = _STRICT

    id: str
    """Its id: target, model and variant."""
    target: str
    """What code was made for."""
    model: str
    """The model's name in models.yaml."""
    variant: str
    """How the model was prepared: float32, int8."""
    state: CellState
    """The worst of its rows; made: nothing was checked; not run: something before it did not succeed."""
    cause: str
    """Why it did not pass, one line; empty when it did."""
    command: str | None = None
    """What to type to run just this again."""
    checks: dict[str, Checked]
    """Its checks by name."""
    measurements: dict[str, Measured]
    """Its numbers by name."""


class Failure(BaseModel):
    """A job that failed."""

    model_config = _STRICT

    job: str
    """Its id."""
    fault: Fault | None = None
    """Whose fault that is."""
    cause: str
    """Why it failed, one line."""
    log: str | None = None
    """Path of its log."""
    command: str | None = None
    """What to type to run just this again."""


class Outcome(BaseModel):
    """What became of a run.

    Of a run that could not begin, or that broke, there are `outcome`, `exit_code` and `error` alone.
    """

    model_config = _STRICT

    outcome: Literal["passed", "failed", "error", "unchecked", "interrupted"]
    """passed: a check held or is a known failure, and no other did not; failed: the product is wrong; error: the
    infrastructure is, or what was typed; unchecked: nothing was checked; interrupted: the run did not come to its
    end."""
    exit_code: int
    """The exit code of the command."""
    error: str | None = None
    """What kept the run from its end, with what to do next."""
    run: str | None = None
    """The run's id, which the history knows it by."""
    started: str | None = None
    """ISO 8601 time with its offset from UTC."""
    seconds: float | None = None
    """How long it took."""
    command: str | None = None
    """What was typed."""
    version: str | None = None
    """Of crossfarm."""
    git_commit: str | None = None
    """Of the project."""
    counts: dict[CellState, int] = Field(default_factory=dict)
    """How many cells are in each state."""
    jobs: dict[JobState, int] = Field(default_factory=dict)
    """How many jobs ended in each state; hit: the store had it."""
    cells: list[Cell] = Field(default_factory=list)
    """Every cell, in the order of the plan."""
    failures: list[Failure] = Field(default_factory=list)
    """Every job that failed."""
    reports: dict[str, str] = Field(default_factory=dict)
    """Paths of the reports by name: report.html, summary.md, junit.xml, results.jsonl."""


def outcome_json(seen: Overview, exit_code: int, reports: Mapping[str, str]) -> str:
    """Return the outcome of a run as one JSON object.

    Args:
        seen: the run.
        exit_code: of the command.
        reports: paths of the reports by name.
    """
    jobs = [*seen.others, *(job for cell in seen.cells for job in cell.jobs)]
    found = Outcome(
        outcome=_outcome(seen),
        exit_code=exit_code,
        run=seen.run.run if seen.run else None,
        started=seen.run.started if seen.run else None,
        seconds=seen.end.seconds if seen.end and math.isfinite(seen.end.seconds) else None,
        command=seen.run.command if seen.run else None,
        version=seen.run.version if seen.run else None,
        git_commit=seen.run.git_commit if seen.run else None,
        counts=dict(seen.counts),
        jobs=dict(collections.Counter(job.state for job in jobs)),
        cells=[_cell(cell) for cell in seen.cells],
        failures=[_failure(job) for job in jobs if job.state == "failed"],
        reports=dict(reports),
    )
    return found.model_dump_json(indent=1, exclude_none=True)


def _outcome(seen: Overview) -> Literal["passed", "failed", "error", "unchecked", "interrupted"]:
    faults = {job.fault for job in seen.failed_others}
    if seen.counts["failed"] or faults - {"infrastructure"}:
        return "failed"
    if seen.counts["error"] or faults:
        return "error"
    if not seen.is_complete:
        return "interrupted"
    return "passed" if seen.counts["passed"] or seen.counts["known failure"] else "unchecked"


def _cell(cell: CellOutcome) -> Cell:
    return Cell(
        id=cell.id,
        target=cell.target,
        model=cell.model,
        variant=cell.variant,
        state=cell.state,
        cause=cell.cause,
        command=cell.command,
        checks={check.name: _check(check) for check in cell.checks},
        measurements={name: _number(item) for name, item in cell.measurements.items()},
    )


def _check(check: CheckRecord) -> Checked:
    return Checked(status=check.status, value=check.value, limit=check.limit, unit=check.unit, message=check.message)


def _number(item: MeasurementRecord) -> Measured:
    return Measured(value=item.value, unit=item.unit, board=item.provenance.board, timing=item.provenance.timing)


def _failure(job: JobRecord) -> Failure:
    return Failure(
        job=job.job, fault=job.fault, cause=job.cause or "no cause was told", log=job.log, command=job.command
    )
