"""Recording: what happens in a run becomes records in results.jsonl and lines on the console."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import crossfarm
from crossfarm.config.project import Project
from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, EXIT_INFRASTRUCTURE, StoreError
from crossfarm.pipeline.expectations import Expectations
from crossfarm.pipeline.job_runner import Finished
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.pipeline.staleness import Decision
from crossfarm.results import CheckRecord, JobRecord, Record, ResultsWriter, RunRecord, from_json, placed
from crossfarm.stages.job import HOST
from crossfarm.store.store import Artifact, Store
from crossfarm.util.console import Console
from crossfarm.util.paths import in_repository

_CHECKED = ("passed", "failed", "known failure")


class KeptResults(ResultsWriter):
    """Keeps what it writes, so that the reports need not read it again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.written: list[Record] = []

    def write(self, *records: Record) -> None:
        """Append records to the file, then to `written`."""
        super().write(*records)
        self.written.extend(records)


class Recorder:
    """The listener of a run: turns what happens into records and lines on the console."""

    def __init__(
        self,
        *,
        results: ResultsWriter,
        console: Console,
        options: Options,
        project: Project,
        store: Store,
        decisions: Mapping[str, Decision],
    ) -> None:
        self._results, self._console, self._options = results, console, options
        self._project, self._store, self._decisions = project, store, decisions
        self._expectations = Expectations(project.models_file.models)
        self._file = _utf8(in_repository(project.models_path))
        self._words = _utf8(shlex.join(options.command))
        self._remade: set[str] = set()
        self._failed = False
        self._broken = False
        self._cells: tuple[str, ...] = ()
        self._checked: set[str] = set()
        self._started: dict[str, str] = {}

    def exit_code(self) -> int:
        """Return 1 when the product is wrong somewhere, 3 when only the infrastructure failed, 0 when all is well.

        With `--require-checks`, 3 also when a check was owed and not made.
        """
        if self._failed:
            return EXIT_CHECK_FAILED
        if self._options.require_checks and not self._all_checked():
            return EXIT_INFRASTRUCTURE
        return EXIT_INFRASTRUCTURE if self._broken else EXIT_GOOD

    def _all_checked(self) -> bool:
        """Say whether a check was held against each cell that is not skipped on purpose, and against any at all."""
        return bool(self._checked) and self._checked.issuperset(self._cells)

    def tell_unchecked(self) -> None:
        """Show, where checks are required, which cells have none."""
        if not self._options.require_checks or self._all_checked():
            return
        left = [cell for cell in self._cells if cell not in self._checked]
        which = f"{len(left)} of {len(self._cells)} cells: {', '.join(left)}" if left else "no cell was left to check"
        self._console.line(f"--require-checks: not checked: {which}")

    def skipped(self, plan: Plan) -> None:
        """Record what is left out on purpose; what is not is owed a check."""
        self._cells = tuple(cell.id for cell in plan.cells)
        for skipped in plan.skipped:
            cell = skipped.cell
            stage = skipped.stage or "compile"
            self._results.write(
                JobRecord(
                    job=f"{stage}:{cell.id}",
                    stage=stage,
                    cell=cell.id,
                    model=cell.model,
                    target=cell.target,
                    variant=cell.variant,
                    state="skipped",
                    seconds=0.0,
                    reason=skipped.reason,
                    command=self._command(cell.id),
                )
            )
        for reason in sorted({skipped.reason for skipped in plan.skipped if skipped.stage is not None}):
            self._console.line(f"not measured: {reason}")

    def started(self, job: PlannedJob) -> None:
        """Show that a job runs."""
        self._started[job.id] = datetime.now().astimezone().isoformat(timespec="seconds")
        self._console.started(job.id)

    def finished(self, job: PlannedJob, result: Finished) -> bool:
        """Record how a job ended, and what its checks found; returns whether the run shall stop."""
        cell = job.cell
        command = self._command(cell.id if cell else f"*-{job.model}-*" if job.model else None)
        log = self._options.out / "logs" / f"{job.id.replace(':', '-', 1)}.log"
        for name in result.remade.keys() - self._remade:
            self._console.line(f"{name} was damaged or gone in the store and was made again for {job.id}")
        self._remade.update(result.remade)
        is_skipped = result.state == "skipped"
        if is_skipped and cell is not None:
            self._cells = tuple(other for other in self._cells if other != cell.id)
        record, untrue = self._expectations.of_job(
            JobRecord(
                job=job.id,
                stage=job.stage,
                cell=cell.id if cell else None,
                model=job.model,
                target=cell.target if cell else None,
                variant=cell.variant if cell else None,
                state=result.state,
                seconds=round(result.seconds, 3),
                cause=None if is_skipped else _utf8(result.cause) or None,
                fault=result.fault,
                reason=_utf8(result.cause) if is_skipped else self._decisions[job.id].reason or None,
                log=_utf8(str(log)) if result.state == "failed" and log.exists() else None,
                file=self._file if job.model else None,
                line=self._project.lines[job.model] if job.model else None,
                started=self._started.pop(job.id, None),
                key=job.key,
                image=None if job.document.image == HOST else f"sha256:{job.document.image}",
                command=command,
                board=result.board,
                flaky=tuple(_utf8(line) for line in result.flaky),
            )
        )
        self._results.write(record)
        if result.flaky and result.state == "run":
            self._console.line(f"{job.id} is flaky: {'; '.join(result.flaky)}; it ran well on {result.board}")
        why = f"{record.expected}: {result.cause}" if record.state == "known failure" else result.cause
        place = f"{self._file}:{record.line}: " if record.state == "failed" and record.line else ""
        self._console.finished(job.id, record.state, result.seconds, f"{place}{why}" or None)
        if record.state == "failed":
            self._failed = self._failed or result.fault == "product"
            self._broken = self._broken or result.fault != "product"
        if record.state == "known failure" and record.cell is not None:
            self._checked.add(record.cell)
        wrong = self._record_rows(untrue, job, command)
        if job.declaration.leaves_records and result.artifact is not None:
            wrong |= self._record_checks(record, job, result.artifact, command)
        return self._options.fail_fast and (wrong or record.state == "failed")

    def _record_checks(self, record: JobRecord, job: PlannedJob, artifact: Artifact, command: str) -> bool:
        path = self._store.file_path(artifact, "records.jsonl")
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise StoreError(f"the records of {job.id} cannot be read: {error.strerror}; run again") from error
        return self._record_rows(self._expectations.of_checks(list(map(from_json, lines)), record), job, command)

    def _record_rows(self, rows: Sequence[Record], job: PlannedJob, command: str) -> bool:
        """Record what was found, and return whether something of it is wrong."""
        records = [self._placed(record, job, command) for record in rows]
        self._results.write(*records)
        checks = [record for record in records if isinstance(record, CheckRecord)]
        statuses = {record.status for record in checks}
        self._failed = self._failed or "failed" in statuses
        self._broken = self._broken or "error" in statuses
        self._checked.update(record.cell for record in checks if record.status in _CHECKED)
        return bool(statuses & {"failed", "error"})

    def _placed(self, record: Record, job: PlannedJob, command: str) -> Record:
        if not isinstance(record, CheckRecord) or job.model is None:
            return record
        return placed(record, file=self._file, line=self._project.lines[job.model], command=command)

    def _command(self, only: str | None) -> str:
        return f"{self._words} --only {_utf8(shlex.quote(only))}" if only else self._words


def run_record(run: str, plan: Plan, decisions: Mapping[str, Decision], commit: str | None) -> RunRecord:
    """Return the first record of a run: what is known about it before anything is done."""
    tools = {name: version for job in plan.jobs.values() for name, version in job.document.tools.items()}
    return RunRecord(
        run=run,
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=_utf8(_typed(sys.argv[1:])),
        version=crossfarm.__version__,
        tools=dict(sorted(tools.items())),
        git_commit=commit,
        host=f"{platform.node()} {platform.machine()}",
        cells=tuple(dict.fromkeys([*(cell.id for cell in plan.cells), *(skip.cell.id for skip in plan.skipped)])),
        jobs=tuple(name for name, decision in decisions.items() if decision.choice != "unneeded"),
    )


def _typed(arguments: Sequence[str]) -> str:
    """Return what the user typed: `inv` puts the folder of the project before it."""
    words = list(arguments)
    if words[:1] == ["--search-root"]:
        words = words[2:]
    return shlex.join(["./inv", *words])


def _utf8(text: str) -> str:
    """Return `text` as records can hold it: Linux lets a path hold bytes that are no UTF-8, JSON does not."""
    return text.encode("utf-8", "replace").decode()
