"""Merges what several machines recorded into one run, as if one machine had done it all.

What a machine left out, did twice, or wrote with another version is told; nothing that failed is lost by it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, EXIT_INFRASTRUCTURE
from crossfarm.reports.history.kept_run import board_of
from crossfarm.results import (
    CheckRecord,
    EndRecord,
    JobRecord,
    MeasurementRecord,
    Record,
    RunRecord,
    last_run,
)
from crossfarm.util.text import count, one_line

MERGED_HOST = "merged"
"""The host of a run that several hosts did; each number names its own."""
_OfCell = JobRecord | CheckRecord | MeasurementRecord
_MOST_TOLD = 5
_OUTCOMES = ("failed", "known failure", "run", "hit", "cancelled", "skipped")
"""States of a job; of two machines' records of one job the first in this order counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What one machine recorded.

    Attributes:
        name: of its folder, for messages.
        records: of its last run, the RunRecord first.
    """

    name: str
    records: Sequence[Record]

    @property
    def run(self) -> RunRecord:
        """Return its first record."""
        return next(record for record in self.records if isinstance(record, RunRecord))

    @property
    def end(self) -> EndRecord | None:
        """Return its last record; None when it was killed."""
        return next((record for record in reversed(self.records) if isinstance(record, EndRecord)), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merged:
    """One run.

    Attributes:
        records: of it.
        told: what is missing, double or unlike, a line each.
    """

    records: tuple[Record, ...]
    told: tuple[str, ...]


def merge(parts: Sequence[Part], missing: Mapping[str, str], *, command: str) -> Merged:
    """Return the run that the parts are together.

    A cell counts as one part has it: as the part in which it failed, else as the one that started last. Jobs about a
    source or a model are done by each machine, and count as the worst of them. The same parts give the same run.

    Args:
        parts: at least one.
        missing: name of a part that left no results -> why; each becomes a job that failed.
        command: what was typed. The history holds runs of the same command beside each other.
    """
    told: list[str] = [f"{one_line(name)}: {one_line(why)}" for name, why in missing.items()]
    parts = _without_repeated([Part(name=part.name, records=last_run(part.records)) for part in parts], told)
    parts = sorted(parts, key=lambda part: _moment(part.run.started))
    run = _run_record(parts, missing, command, told)
    owners = _owners(parts, told)
    jobs: dict[str, JobRecord] = {}
    rows: list[Record] = []
    for part in parts:
        for record in part.records:
            if isinstance(record, JobRecord) and record.cell is None:
                jobs[record.job] = _worse(jobs.get(record.job), record)
            elif isinstance(record, _OfCell) and record.cell is not None and owners[record.cell] is part:
                rows.append(_placed(record, part.run.host))
    lost = [_lost(name, why) for name, why in missing.items()]
    return Merged(records=(run, *jobs.values(), *lost, *rows, _end_record(parts, missing)), told=tuple(told))


def _without_repeated(parts: Sequence[Part], told: list[str]) -> list[Part]:
    first: dict[str, str] = {}
    kept = []
    for part in parts:
        if part.run.run in first:
            told.append(f"{one_line(part.name)}: is the run of {one_line(first[part.run.run])} again; left out")
        else:
            first[part.run.run] = part.name
            kept.append(part)
    return kept


def _run_record(parts: Sequence[Part], missing: Mapping[str, str], command: str, told: list[str]) -> RunRecord:
    runs = [part.run for part in parts]
    hosts = list(dict.fromkeys(run.host for run in runs))
    commits = list(dict.fromkeys(run.git_commit for run in runs))
    versions = list(dict.fromkeys(run.version for run in runs))
    if len(versions) > 1:
        told.append(f"written by different versions of crossfarm: {_by_part(parts, lambda run: run.version)}")
    if len(commits) > 1:
        told.append(f"of different commits: {_by_part(parts, lambda run: (run.git_commit or 'none')[:12])}")
    tools: dict[str, list[str]] = {}
    for run in runs:
        for name, version in run.tools.items():
            if version not in tools.setdefault(name, []):
                tools[name].append(version)
    told += [
        f"different versions of {one_line(name)}: {one_line(' and '.join(found))}"
        for name, found in tools.items()
        if len(found) > 1
    ]
    names = "\n".join([*sorted(run.run for run in runs), *sorted(missing)])
    started = min(runs, key=lambda run: _moment(run.started)).started
    digest = hashlib.sha256(names.encode("utf-8", "replace")).hexdigest()[:8]
    return RunRecord(
        run=f"{datetime.fromtimestamp(_moment(started), UTC):%Y%m%dT%H%M%S}-{digest}",
        started=started,
        command=command,
        version=" and ".join(versions),
        tools={name: " and ".join(found) for name, found in tools.items()},
        git_commit=commits[0] if len(commits) == 1 else None,
        host=hosts[0] if len(hosts) == 1 else MERGED_HOST,
        cells=tuple(dict.fromkeys(cell for run in runs for cell in run.cells)),
        jobs=tuple(dict.fromkeys(job for run in runs for job in run.jobs)),
    )


def _by_part(parts: Sequence[Part], ask: Callable[[RunRecord], str]) -> str:
    return ", ".join(f"{one_line(part.name)} {one_line(ask(part.run))}" for part in parts)


def _owners(parts: Sequence[Part], told: list[str]) -> Mapping[str, Part]:
    """Return cell -> the part whose records of it count; `parts` stand in the order of their starts."""
    found: dict[str, list[tuple[bool, bool, Part]]] = {}
    for part in parts:
        for cell, (is_done, is_bad) in _cells(part.records).items():
            found.setdefault(cell, []).append((is_bad, is_done, part))
    owners: dict[str, Part] = {}
    doubles: list[str] = []
    for cell, choices in found.items():
        # A machine that left a cell out says nothing about it where another one did it.
        owners[cell] = max(enumerate(choices), key=lambda item: (item[1][0], item[1][1], item[0]))[1][2]
        done = [part for is_bad, is_done, part in choices if is_done or is_bad]
        if len(done) > 1:
            names = " and ".join(one_line(part.name) for part in done)
            doubles.append(f"{one_line(cell)}: done by {names}; that of {one_line(owners[cell].name)} counts")
    told += doubles[:_MOST_TOLD]
    if len(doubles) > _MOST_TOLD:
        told.append(f"{count(len(doubles) - _MOST_TOLD, 'more cell')} done twice")
    return owners


def _cells(records: Sequence[Record]) -> Mapping[str, tuple[bool, bool]]:
    """Return cell -> whether something was done for it, and whether something went wrong."""
    found: dict[str, tuple[bool, bool]] = {}
    for record in records:
        if isinstance(record, JobRecord) and record.cell is not None:
            is_done, is_bad = record.state in ("run", "hit", "known failure"), record.state == "failed"
        elif isinstance(record, CheckRecord):
            is_done, is_bad = record.status != "skipped", record.status in ("failed", "error")
        elif isinstance(record, MeasurementRecord):
            is_done, is_bad = True, False
        else:
            continue
        before = found.get(record.cell or "", (False, False))
        found[record.cell or ""] = (before[0] or is_done, before[1] or is_bad)
    return found


def _worse(one: JobRecord | None, other: JobRecord) -> JobRecord:
    return other if one is None else min(one, other, key=lambda job: _OUTCOMES.index(job.state))


def _placed(record: _OfCell, host: str) -> _OfCell:
    """Return a record whose number says which host measured it, as all of them call themselves the same."""
    if not isinstance(record, MeasurementRecord):
        return record
    board = board_of(record.provenance.board, host)
    return dataclasses.replace(record, provenance=dataclasses.replace(record.provenance, board=board))


def _lost(name: str, why: str) -> JobRecord:
    """Return a job that stands for a machine of which nothing is known, so that every report shows it as an error."""
    return JobRecord(
        job=f"merge:{one_line(name)}",
        stage="merge",
        state="failed",
        seconds=0.0,
        cause=one_line(why),
        fault="infrastructure",
    )


def _end_record(parts: Sequence[Part], missing: Mapping[str, str]) -> EndRecord:
    ends = [part.end for part in parts]
    codes = {end.exit_code for end in ends if end is not None}
    is_whole = not missing and all(end is not None and not end.interrupted for end in ends)
    code = EXIT_CHECK_FAILED if EXIT_CHECK_FAILED in codes else EXIT_GOOD
    if code == EXIT_GOOD and (codes - {EXIT_GOOD} or not is_whole):
        code = EXIT_INFRASTRUCTURE
    return EndRecord(
        exit_code=code,
        seconds=max(_spans(parts), default=0.0),
        interrupted=any(end is None or end.interrupted for end in ends),
    )


def _spans(parts: Sequence[Part]) -> Iterator[float]:
    """Yield from the first start to the end of each part, in seconds; one whose clock went wrong has its own length."""
    begin = _moment(parts[0].run.started)
    for part in parts:
        seconds = part.end.seconds if part.end is not None and 0 <= part.end.seconds < 1e9 else 0.0
        yield max(seconds, _moment(part.run.started) - begin + seconds if begin else seconds)


def _moment(started: str) -> float:
    """Return a time in seconds since the epoch; 0 for one that cannot be read."""
    try:
        moment = datetime.fromisoformat(started)
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return 0.0
