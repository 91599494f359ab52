"""The one command: load, plan, ask the store, run, report. Other modules do these things; this one calls them."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import getpass
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from crossfarm.boards.inventory import Inventory
from crossfarm.boards.pool import Pool
from crossfarm.config.project import Project
from crossfarm.errors import EXIT_GOOD, EXIT_INTERRUPTED, ConfigError, CrossfarmError, StoreError
from crossfarm.pipeline.declared import declared_files, inventory_of, load
from crossfarm.pipeline.engine_choice import EngineChoice, choose_engine, local_instead, start_engine, supply
from crossfarm.pipeline.interrupts import Interrupts
from crossfarm.pipeline.job_runner import JobFolders
from crossfarm.pipeline.key_context import git_commit, read_key_context
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import make_plan
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.pipeline.recorder import KeptResults, Recorder, run_record
from crossfarm.pipeline.scheduler import run_schedule
from crossfarm.pipeline.show import Tell, plan_json, show_reports, tell_nobody
from crossfarm.pipeline.staleness import Decision, find_stale
from crossfarm.pipeline.unchanged.keep import EndedRun, heard, keep_outcome
from crossfarm.reports import RESULTS, set_aside
from crossfarm.reports.history.keep import keep_run
from crossfarm.reports.history.place import Place
from crossfarm.reports.past import PastReader
from crossfarm.reports.run_view import Overview, overview
from crossfarm.reports.writing import write_begun, write_reports
from crossfarm.results import EndRecord, Record
from crossfarm.setup.leftovers import compiler_cache
from crossfarm.stages import STAGES
from crossfarm.stages.protocol import LosesWork
from crossfarm.store.live_runs import live_run
from crossfarm.store.store import Store
from crossfarm.util.console import Console
from crossfarm.util.paths import HOME
from crossfarm.util.progress import Expected
from crossfarm.util.terminal import say


def plan_and_decide(options: Options, project: Project, store: Store) -> tuple[Plan, Mapping[str, Decision]]:
    """Make the plan of the options and decide what of it runs.

    Raises:
        ConfigError: the selection names what does not exist.
    """
    plan = _plan(options, project, inventory_of(options, project), choose_engine(options, project))
    return plan, _decide(options, plan, store)


def _plan(options: Options, project: Project, inventory: Inventory, choice: EngineChoice) -> Plan:
    context = read_key_context(project, inventory, choice.images)
    return make_plan(project, options.selection, stages=STAGES, context=context)


def _decide(options: Options, plan: Plan, store: Store) -> Mapping[str, Decision]:
    cache = _compiler_cache(store)
    return find_stale(
        plan,
        store,
        again=frozenset(_on_boards()) if options.measure_again else frozenset(),
        lost=lambda job: _lost(job, cache),
    )


def run_pipeline(options: Options, tell: Tell = tell_nobody) -> int:
    """Run the pipeline, write the reports and tell what became of it; returns the exit code.

    Raises:
        CrossfarmError: nothing could be run, or no more: bad configuration, no store, no place for the reports.
        KeyboardInterrupt: the user asked to stop before anything began.
    """
    code, _ = run_planned(options, tell)
    return code


def run_planned(options: Options, tell: Tell = tell_nobody) -> tuple[int, Plan]:
    """Run the pipeline; returns the exit code and the plan that was run."""
    if options.jobs < 0:
        raise ConfigError(f"--jobs {options.jobs}: give 1 or more, or leave it out for one job per CPU")
    history = options.history_place
    began, started = time.time(), time.monotonic()
    with Interrupts() as interrupts:
        project = load(options)
        store = Store(options.store.absolute())
        inventory = inventory_of(options, project)
        choice = choose_engine(options, project)
        with _own_reports(options.out):
            while True:
                plan = _plan(options, project, inventory, choice)
                run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
                keys = (job.key for job in plan.jobs.values())
                # Nothing is decided before gc is kept from what is decided about.
                with live_run(store, run, keys) as work:
                    decisions = _decide(options, plan, store)
                    try:
                        supply(choice, _images_to_run(plan, decisions), say=lambda line: say(f"{line}\n"))
                    except CrossfarmError as error:
                        if options.engine != "auto":
                            raise
                        choice = local_instead(options, choice, error)
                        continue
                    interrupts.hold()
                    code = _Run(
                        options=options,
                        project=project,
                        inventory=inventory,
                        store=store,
                        choice=choice,
                        plan=plan,
                        decisions=decisions,
                        interrupts=interrupts,
                        history=history,
                        began=began,
                        tell=tell,
                    ).to_its_end(run, work, started)
                    return code, plan


def _images_to_run(plan: Plan, decisions: Mapping[str, Decision]) -> Iterator[str]:
    return (job.document.image for name, job in plan.jobs.items() if decisions[name].choice == "run")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
    """One run, from its first record to its reports."""

    options: Options
    project: Project
    inventory: Inventory
    store: Store
    choice: EngineChoice
    plan: Plan
    decisions: Mapping[str, Decision]
    interrupts: Interrupts
    history: Place | None
    began: float
    """When, in seconds since the epoch."""
    tell: Tell

    def to_its_end(self, run: str, work: Path, started: float) -> int:
        """Run every job and write the reports, also when the run is interrupted or breaks; returns the exit code."""
        with heard() as said:
            code, results, commit = self._done(run, work, started)
        self._keep(results, commit, code, said.text)
        return code

    def _done(self, run: str, work: Path, started: float) -> tuple[int, Sequence[Record], str | None]:
        results_path = _fresh_results(self.options.out)
        commit = git_commit(self.project.root)
        broken: CrossfarmError | None = None
        with KeptResults(results_path) as results:
            results.write(run_record(run, self.plan, self.decisions, commit))
            with contextlib.suppress(StoreError):
                if any(decision.choice == "run" for decision in self.decisions.values()):
                    write_begun(results.written, self.options.out)
            try:
                code = self._run_jobs(run, results, work, commit)
            except CrossfarmError as error:
                broken, code = error, error.exit_code
            except BaseException:
                with contextlib.suppress(StoreError):
                    write_reports(results.written, self.options.out)
                raise
            # What broke the run, for instance a full disk, may break these too; then its own message is the one told.
            hidden = (StoreError,) if broken else ()
            seconds = time.monotonic() - started
            with contextlib.suppress(*hidden):
                results.write(EndRecord(exit_code=code, seconds=seconds, interrupted=code == EXIT_INTERRUPTED))
        untold = keep_run(results.written, self.history, results=results_path) if self.history else ""
        past = PastReader(self.history, results.written)
        seen: Overview | None = None
        with contextlib.suppress(*hidden):
            seen = show_reports(results.written, self.options.out, past, everything=self.options.everything)
            self.tell(seen)
        if untold:
            say(f"{untold}\n")
        self._notify(seen or overview(results.written), past)
        if broken:
            raise broken
        return code, results.written, commit

    def _keep(self, records: Sequence[Record], commit: str | None, code: int, said: str) -> None:
        """Keep what a run like this one will leave that finds nothing changed."""
        if self.history is not None and self.history.file is None:
            return  # a database elsewhere is asked in every run
        if self.project.pipeline.notify or self.tell is not tell_nobody:
            return  # somebody is told of every run
        ended = EndedRun(
            plan=self.plan,
            decisions=self.decisions,
            records=records,
            began=self.began,
            root=self.project.root,
            declared=declared_files(self.options),
            store=self.store,
            out=self.options.out,
            history=self.history.file if self.history else None,
            commit=commit,
            asks_engine=self.options.engine != "local",
            engine_problem=self.choice.problem,
            exit_code=code,
            output=said,
        )
        keep_outcome(ended, home=HOME)

    def _notify(self, seen: Overview, past: PastReader) -> None:
        """Tell those whom the pipeline names; that somebody could not be told changes nothing."""
        if not self.project.pipeline.notify:
            return
        from crossfarm.pipeline.notify import notify

        notices, folder = self.project.pipeline.notify, self.project.root
        for line in notify(notices, seen, past.compared, folder=folder, why_not=past.why_not):
            say(f"{line}\n")

    def _run_jobs(self, run: str, results: KeptResults, work: Path, commit: str | None) -> int:
        options = self.options
        with Console(sys.stdout, quiet=options.quiet, verbose=options.verbose) as console:
            listener = Recorder(
                results=results,
                console=console,
                options=options,
                project=self.project,
                store=self.store,
                decisions=self.decisions,
            )
            if self.choice.said:
                console.line(self.choice.said)
            listener.skipped(self.plan)
            if self._runs_programs_here():
                _warn_of_sandbox(console)
            jobs = sum(decision.choice != "unneeded" for decision in self.decisions.values())
            console.total(jobs, self._expected())
            place = JobFolders(
                store=self.store,
                work=work,
                logs=(options.out / "logs").resolve(),
                root=self.project.root.resolve(),
            )
            try:
                # What runs on a board takes no slot of this host, but a thread that waits for its end.
                places = options.slots + len(self.inventory.chosen)
                with (
                    start_engine(
                        self.choice,
                        options,
                        places=places,
                        run=run,
                        work=work,
                        environment=_environment(self.store, commit),
                    ) as engine,
                    Pool(
                        self.inventory,
                        targets=self.project.targets,
                        user=getpass.getuser(),
                        priority=options.priority,
                    ) as pool,
                ):
                    run_schedule(
                        self.plan,
                        self.decisions,
                        engine=engine,
                        slots=options.slots,
                        place=place,
                        listener=listener,
                        interrupts=self.interrupts,
                        pool=pool,
                    )
            except KeyboardInterrupt:
                console.line("interrupted: what was done is kept; the same command goes on from here")
                return EXIT_INTERRUPTED
            listener.tell_unchecked()
            return listener.exit_code()

    def _expected(self) -> Expected:
        """Return how long the jobs that run took the last time, and how long such jobs usually take."""
        run = {name: decision for name, decision in self.decisions.items() if decision.choice == "run"}
        return Expected(
            measured={name: decision.seconds for name, decision in run.items() if decision.seconds},
            guessed={name: self.plan.jobs[name].declaration.usual_seconds for name in run},
            slots=self.options.slots,
        )

    def _runs_programs_here(self) -> bool:
        """Say whether a job runs programs of models on this host and on no board."""
        return any(
            job.declaration.board == "runs" and not job.boards and self.decisions[name].choice == "run"
            for name, job in self.plan.jobs.items()
        )


def _warn_of_sandbox(console: Console) -> None:
    from crossfarm.util import sandbox

    if line := sandbox.warning():
        console.line(line)


def show_plan(options: Options, answer: Callable[[str], object] | None = None) -> int:
    """Print every job as run, hit or unneeded, with the reason why it runs; returns the exit code.

    Args:
        options: which plan.
        answer: takes the same as JSON; then nothing is printed.

    Raises:
        CrossfarmError: bad configuration, or no store.
    """
    project = load(options)
    plan, decisions = plan_and_decide(options, project, Store(options.store))
    counts = {choice: sum(d.choice == choice for d in decisions.values()) for choice in ("run", "hit", "unneeded")}
    if answer is not None:
        answer(plan_json(plan, decisions, counts))
        return EXIT_GOOD
    width = max((len(name) for name in plan.jobs), default=0)
    lines = [
        f"{decision.choice:<8}  {name:<{width}}  {decision.reason}".rstrip() for name, decision in decisions.items()
    ]
    lines += [f"skip      {skip.cell.id}: {skip.stage or 'all stages'}: {skip.reason}" for skip in plan.skipped]
    lines.append(
        f"{len(plan.cells)} cells, {len(plan.jobs)} jobs: "
        + ", ".join(f"{count} {choice}" for choice, count in counts.items() if count or choice != "unneeded")
    )
    say("\n".join(lines) + "\n")
    return EXIT_GOOD


@contextlib.contextmanager
def _own_reports(out: Path) -> Iterator[None]:
    """Hold the folder of the reports, so that two runs do not write into each other's; the second one waits.

    Raises:
        ConfigError: the folder cannot be made.
    """
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unusable(out, error) from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run writes its reports to {out}; waiting for its end (or give another --out)\n")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _fresh_results(out: Path) -> Path:
    """Return the path for this run's records, when the last run's are out of its way."""
    try:
        set_aside(out)
    except OSError as error:
        raise _unusable(out, error) from error
    return out / RESULTS


def _unusable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--out {out}: {error.strerror}; give a folder that can be written")


def _on_boards() -> Iterator[str]:
    """Yield the stages whose jobs run on boards."""
    return (name for name, stage in STAGES.items() if stage.DECLARATION.board == "runs")


def _lost(job: PlannedJob, cache: Path) -> str:
    """Return in words what is gone of what a job left in the compiler's cache; empty when nothing is."""
    if not job.declaration.leaves_cache:
        return ""
    return cast(LosesWork, STAGES[job.stage]).lost(job.groups, cache=cache)


def _compiler_cache(store: Store) -> Path:
    """Return where jobs on this host find zig's cache."""
    return Path(os.environ.get("ZIG_GLOBAL_CACHE_DIR") or compiler_cache(store.root))


def _environment(store: Store, commit: str | None) -> dict[str, str]:
    """Return what jobs find in their environment: a compiler cache in the store, and the commit for provenance."""
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))}
    environment["ZIG_GLOBAL_CACHE_DIR"] = str(_compiler_cache(store))
    if commit:
        environment["CROSSFARM_GIT_COMMIT"] = commit
    return environment
