"""The one command: load, plan, decide, run, report. Every other module does one of these; this one lines them up."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shlex
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import crossfarm
from crossfarm.console import Console
from crossfarm.decisions import Decision, decide
from crossfarm.engines.local import LocalEngine
from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, ConfigError
from crossfarm.plan import Plan, PlannedJob, Selection, make_plan
from crossfarm.reports import terminal, write_reports
from crossfarm.results import (
    CheckRecord,
    EndRecord,
    JobRecord,
    Record,
    ResultsWriter,
    RunRecord,
    from_json,
    read_records,
)
from crossfarm.schedule import Finished, Workplace, run_schedule
from crossfarm.spec.loading import load_project
from crossfarm.spec.project import Project
from crossfarm.stages import STAGES
from crossfarm.store import Artifact, Store
from crossfarm.surroundings import HOME, git_commit, look_around

RESULTS = "results.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may say on the command line.

    Attributes:
        models: path of models.yaml.
        pipeline: name of a pipeline, or path of its file.
        selection: which cells and stages.
        jobs: how many jobs run at once.
        fail_fast: start nothing more after the first failure.
        out: folder of the reports.
        store: folder of the store.
        measure_again: measure even what was measured before.
        verbose: show every job.
        quiet: show failures and the table only.
    """

    models: Path = HOME / "models.yaml"
    pipeline: str = "default"
    selection: Selection = dataclasses.field(default_factory=Selection)
    jobs: int = 0
    fail_fast: bool = False
    out: Path = HOME / "out"
    store: Path = HOME / ".crossfarm" / "store"
    measure_again: bool = False
    verbose: bool = False
    quiet: bool = False

    @property
    def slots(self) -> int:
        """Return how many jobs run at once: `jobs`, or one per usable CPU."""
        return self.jobs or len(os.sched_getaffinity(0))


def load(options: Options) -> Project:
    """Load the project that the options name.

    Raises:
        ConfigError: something is declared wrongly, or a file is missing.
    """
    name = options.pipeline
    path = Path(name) if name.endswith((".yaml", ".yml")) else HOME / "pipelines" / f"{name}.yaml"
    return load_project(models=options.models, toolchains=HOME / "toolchains", pipeline=path)


def plan_and_decide(options: Options, project: Project, store: Store) -> tuple[Plan, Mapping[str, Decision]]:
    """Make the plan of the options and decide what of it runs.

    Raises:
        ConfigError: the selection names what does not exist.
    """
    plan = make_plan(project, options.selection, stages=STAGES, surroundings=look_around(project))
    again = frozenset({"measure"}) if options.measure_again else frozenset()
    return plan, decide(plan, store, again=again)


def run_pipeline(options: Options) -> int:
    """Run the pipeline and write the reports; returns the exit code.

    Raises:
        CrossfarmError: nothing could be run at all: bad configuration, no store, no place for the reports.
    """
    if options.jobs < 0:
        raise ConfigError(f"--jobs {options.jobs}: give 1 or more, or leave it out for one job per CPU")
    started = time.monotonic()
    project = load(options)
    store = Store(options.store)
    plan, decisions = plan_and_decide(options, project, store)
    results_path = _fresh_results(options.out)
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    commit = git_commit(project.root)
    with (
        _Results(results_path) as results,
        Console(sys.stdout, quiet=options.quiet, verbose=options.verbose) as console,
    ):
        results.write(_run_record(run, plan, decisions, commit))
        listener = _Listener(results, console, options, project, store)
        listener.skipped(plan)
        console.total(len([decision for decision in decisions.values() if decision.choice != "unneeded"]))
        interrupted = False
        try:
            with _terminate_as_interrupt(), store.live_run(run, (job.key for job in plan.jobs.values())) as work:
                place = Workplace(store=store, work=work, logs=_logs(options.out), root=project.root.resolve())
                environment = _environment(options.store, commit)
                with LocalEngine(slots=options.slots, environment=environment) as engine:
                    run_schedule(plan, decisions, engine=engine, slots=options.slots, place=place, listener=listener)
        except KeyboardInterrupt:
            interrupted = True
            console.line("interrupted: what was done is kept; the same command goes on from here")
        code = EXIT_INTERRUPTED if interrupted else listener.exit_code()
        results.write(EndRecord(exit_code=code, seconds=time.monotonic() - started, interrupted=interrupted))
    _show_reports(results.written, options.out)
    return code


def report_again(out: Path) -> int:
    """Write the reports of the last run again and show its table; returns that run's exit code.

    Raises:
        StoreError: there is no run, or a report cannot be written.
    """
    records = read_records(out / RESULTS)
    _show_reports(records, out)
    ends = [record for record in records if isinstance(record, EndRecord)]
    return ends[-1].exit_code if ends else EXIT_INTERRUPTED


def _show_reports(records: Sequence[Record], out: Path) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    sys.stdout.write(terminal.render(write_reports(records, out), colour=colour))
    sys.stdout.flush()


class _Results(ResultsWriter):
    """Keeps what it writes, so that the reports need not read it again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.written: list[Record] = []

    def write(self, *records: Record) -> None:
        """Append records to the file, then to `written`."""
        super().write(*records)
        self.written.extend(records)


class _Listener:
    """Turns what happens into records and lines on the console."""

    def __init__(
        self, results: ResultsWriter, console: Console, options: Options, project: Project, store: Store
    ) -> None:
        self._results, self._console, self._options = results, console, options
        self._project, self._store = project, store
        self._words = ["./inv", "pipeline", "--models", _shown(options.models)]
        if options.pipeline != "default":
            self._words += ["--pipeline", options.pipeline]
        if options.selection.targets:
            self._words += ["--targets", ",".join(options.selection.targets)]
        self._failed = False
        self._broken = False
        self._started: dict[str, str] = {}

    def exit_code(self) -> int:
        """Return 1 when the product is wrong somewhere, 3 when only the infrastructure failed, 0 when all is well."""
        if self._failed:
            return EXIT_CHECK_FAILED
        return EXIT_INFRASTRUCTURE if self._broken else EXIT_GOOD

    def skipped(self, plan: Plan) -> None:
        """Record what is left out on purpose."""
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
        self._results.write(
            JobRecord(
                job=job.id,
                stage=job.stage,
                cell=cell.id if cell else None,
                model=job.model,
                target=cell.target if cell else None,
                variant=cell.variant if cell else None,
                state=result.state,
                seconds=round(result.seconds, 3),
                cause=result.cause or None,
                fault=result.fault,
                log=str(log) if result.state == "failed" and log.exists() else None,
                file=str(self._project.models_path) if job.model else None,
                line=self._project.lines[job.model] if job.model else None,
                started=self._started.pop(job.id, None),
                key=job.key,
                command=command,
            )
        )
        self._console.finished(job.id, result.state, result.seconds, result.cause or None)
        if result.state == "failed":
            self._failed = self._failed or result.fault == "product"
            self._broken = self._broken or result.fault != "product"
        wrong = False
        if job.stage == "check" and result.artifact is not None:
            wrong = self._record_checks(job, result.artifact, command)
        return self._options.fail_fast and (wrong or result.state == "failed")

    def _record_checks(self, job: PlannedJob, artifact: Artifact, command: str) -> bool:
        path = self._store.file_path(artifact, "records.jsonl")
        records = [self._placed(from_json(line), job, command) for line in path.read_bytes().splitlines()]
        self._results.write(*records)
        wrong = [record for record in records if isinstance(record, CheckRecord) and record.status == "failed"]
        self._failed = self._failed or bool(wrong)
        return bool(wrong)

    def _placed(self, record: Record, job: PlannedJob, command: str) -> Record:
        if not isinstance(record, CheckRecord) or job.model is None:
            return record
        return dataclasses.replace(
            record, file=str(self._project.models_path), line=self._project.lines[job.model], command=command
        )

    def _command(self, only: str | None) -> str:
        return shlex.join([*self._words, "--only", only] if only else self._words)


def show_plan(options: Options) -> int:
    """Print every job as run, hit or unneeded, with the reason why it runs; returns the exit code.

    Raises:
        CrossfarmError: bad configuration, or no store.
    """
    project = load(options)
    plan, decisions = plan_and_decide(options, project, Store(options.store))
    width = max((len(name) for name in plan.jobs), default=0)
    lines = [
        f"{decision.choice:<8}  {name:<{width}}  {decision.reason}".rstrip() for name, decision in decisions.items()
    ]
    lines += [f"skip      {skip.cell.id}: {skip.stage or 'all stages'}: {skip.reason}" for skip in plan.skipped]
    counts = {choice: sum(d.choice == choice for d in decisions.values()) for choice in ("run", "hit", "unneeded")}
    lines.append(
        f"{len(plan.cells)} cells, {len(plan.jobs)} jobs: "
        + ", ".join(f"{count} {choice}" for choice, count in counts.items() if count or choice != "unneeded")
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return EXIT_GOOD


def _run_record(run: str, plan: Plan, decisions: Mapping[str, Decision], commit: str | None) -> RunRecord:
    tools = {name: version for job in plan.jobs.values() for name, version in job.document.tools.items()}
    return RunRecord(
        run=run,
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=shlex.join(["./inv", *sys.argv[1:]]),
        version=crossfarm.__version__,
        tools=dict(sorted(tools.items())),
        git_commit=commit,
        host=f"{platform.node()} {platform.machine()}",
        cells=tuple(dict.fromkeys([*(cell.id for cell in plan.cells), *(skip.cell.id for skip in plan.skipped)])),
        jobs=tuple(name for name, decision in decisions.items() if decision.choice != "unneeded"),
    )


def _fresh_results(out: Path) -> Path:
    """Return the path for this run's records; those of the last run stay beside it until the next."""
    path = out / RESULTS
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(out / "results.previous.jsonl")
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}; give a folder that can be written") from error
    return path


def _logs(out: Path) -> Path:
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return logs.resolve()


def _environment(store: Path, commit: str | None) -> dict[str, str]:
    """Return what jobs find in their environment: a compiler cache beside the store, and the commit for provenance."""
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))}
    if "ZIG_GLOBAL_CACHE_DIR" not in os.environ:
        environment["ZIG_GLOBAL_CACHE_DIR"] = str((store.parent / "zig").resolve())
    if commit:
        environment["CROSSFARM_GIT_COMMIT"] = commit
    return environment


def _shown(path: Path) -> str:
    """Return a path as a user in the project's folder would type it."""
    resolved = path.resolve()
    return str(resolved.relative_to(HOME)) if resolved.is_relative_to(HOME) else str(resolved)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let TERM do what Ctrl-C does, so that a stopped CI job keeps its results too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
