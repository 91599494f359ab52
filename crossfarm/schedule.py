"""The schedule: runs the jobs of a plan on an engine, inputs first, longest way to the end first.

One failure stops only what builds on it. Jobs whose time is measured run alone, when nothing else is left to start, so
that no compile disturbs a clock.
"""

from __future__ import annotations

import dataclasses
import heapq
import queue
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Literal, Protocol

from crossfarm.decisions import Decision
from crossfarm.engines.protocol import Engine
from crossfarm.errors import CrossfarmError, DamagedError, JobError
from crossfarm.interrupts import Interrupts
from crossfarm.job import Job, failed, one_line
from crossfarm.plan import Plan, PlannedJob
from crossfarm.store import Artifact, Store

State = Literal["run", "hit", "failed", "cancelled"]

TYPICAL_SECONDS: Mapping[str, float] = {
    "fetch": 5.0,
    "prepare": 5.0,
    "reference": 3.0,
    "compile": 8.0,
    "bundle": 2.0,
    "measure": 3.0,
    "check": 0.5,
}
"""What a job of a stage takes when it never ran before; orders the first run only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """How a job ended.

    Attributes:
        state: `run`: it ran well; `hit`: the store had it, or another run made it meanwhile; `cancelled`: an input
            failed or the run was ended.
        seconds: wall time.
        artifact: what it left, when it ended well.
        cause: one line on what went wrong.
        fault: whose fault that was.
        remade: inputs by job id that turned out to be damaged or gone, and were made again on the way.
    """

    state: State
    seconds: float = 0.0
    artifact: Artifact | None = None
    cause: str = ""
    fault: Literal["product", "infrastructure"] | None = None
    remade: Mapping[str, Artifact] = dataclasses.field(default_factory=dict)


class Listener(Protocol):
    """Is told what happens, always from the thread that called `run_schedule`."""

    def started(self, job: PlannedJob) -> None:
        """A job was given to the engine."""

    def finished(self, job: PlannedJob, result: Finished) -> bool:
        """A job ended. Returns whether the run shall stop early."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where jobs are laid out.

    Attributes:
        store: the store.
        work: an empty folder on the store's file system.
        logs: folder for the logs of jobs.
        root: the project's folder.
        stopping: set when the run is ended, so that nothing waits for another run any longer.
    """

    store: Store
    work: Path
    logs: Path
    root: Path
    stopping: threading.Event = dataclasses.field(default_factory=threading.Event)

    def log(self, job: str) -> Path:
        """Return the path of a job's log."""
        return self.logs / f"{job.replace(':', '-', 1)}.log"


def run_schedule(
    plan: Plan,
    decisions: Mapping[str, Decision],
    *,
    engine: Engine,
    slots: int,
    place: Workplace,
    listener: Listener,
    interrupts: Interrupts | None = None,
) -> None:
    """Run every job whose decision is `run`, and tell the listener about each, about hits first.

    Args:
        plan: the plan.
        decisions: what of it runs.
        engine: where jobs run.
        slots: how many may run at once.
        place: where they are laid out.
        listener: is told what happens.
        interrupts: says when the user asks to stop.

    Raises:
        KeyboardInterrupt: the user asked to stop; running jobs were ended and are told as cancelled.
    """
    schedule = _Schedule(plan, decisions, engine=engine, slots=slots, place=place, listener=listener)
    try:
        with (interrupts or Interrupts()).told_to(schedule.interrupt):
            schedule.run()
    except BaseException:
        place.stopping.set()
        engine.cancel()
        schedule.give_up("the run was interrupted")
        raise


class _Schedule:
    def __init__(
        self,
        plan: Plan,
        decisions: Mapping[str, Decision],
        *,
        engine: Engine,
        slots: int,
        place: Workplace,
        listener: Listener,
    ) -> None:
        self._plan, self._decisions, self._engine = plan, decisions, engine
        self._slots, self._place, self._listener = slots, place, listener
        self._artifacts = {name: d.artifact for name, d in decisions.items() if d.artifact is not None}
        self._pending = {name: job for name, job in plan.jobs.items() if decisions[name].choice == "run"}
        self._consumers: dict[str, list[str]] = {}
        self._missing: dict[str, int] = {}
        for name, job in self._pending.items():
            running_inputs = {source for source in job.inputs.values() if source in self._pending}
            self._missing[name] = len(running_inputs)
            for source in running_inputs:
                self._consumers.setdefault(source, []).append(name)
        self._ways = self._longest_ways()
        self._ready: list[tuple[float, str]] = []
        self._ready_alone: list[tuple[float, str]] = []
        self._running: set[str] = set()
        self._done: queue.SimpleQueue[tuple[str, Finished] | None] = queue.SimpleQueue()
        self._stopping = False

    def interrupt(self) -> None:
        """Ask `run` to stop; may be called from a signal handler."""
        self._done.put(None)

    def run(self) -> None:
        for name, decision in self._decisions.items():
            if decision.choice == "hit":
                self._place.store.touch(self._plan.jobs[name].key)
                self._listener.finished(self._plan.jobs[name], Finished(state="hit", artifact=decision.artifact))
        for name, count in self._missing.items():
            if count == 0:
                self._make_ready(name)
        while True:
            self._start_what_fits()
            if not self._running:
                break
            self._end(self._done.get())
        self.give_up("the run stopped at the first failure (--fail-fast)")

    def give_up(self, cause: str) -> None:
        """Tell every job that did not end as cancelled."""
        while not self._done.empty():
            ended = self._done.get()
            if ended is not None:
                self._end(ended)
        for name in list(self._pending):
            self._pending.pop(name, None)
            self._listener.finished(self._plan.jobs[name], Finished(state="cancelled", cause=cause))

    def _start_what_fits(self) -> None:
        alone = any(self._plan.jobs[name].exclusive for name in self._running)
        while self._ready and not alone and not self._stopping and len(self._running) < self._slots:
            self._start(heapq.heappop(self._ready)[1])
        if self._ready_alone and not self._running and not self._stopping:
            self._start(heapq.heappop(self._ready_alone)[1])

    def _start(self, name: str) -> None:
        job = self._plan.jobs[name]
        artifacts = {role: self._artifacts[source] for role, source in job.inputs.items()}
        self._running.add(name)
        self._listener.started(job)
        forced = self._decisions[name].reason == "asked for again"
        work = _Work(plan=self._plan, engine=self._engine, place=self._place)
        future = self._engine.executor.submit(work.execute, job, artifacts, forced=forced)
        future.add_done_callback(lambda done: self._done.put((name, _result(done))))

    def _end(self, ended: tuple[str, Finished] | None) -> None:
        if ended is None:
            raise KeyboardInterrupt
        name, result = ended
        self._running.discard(name)
        self._artifacts.update(result.remade)
        job = self._pending.pop(name)
        stop = self._listener.finished(job, result)
        self._stopping = self._stopping or stop
        if result.artifact is not None:
            self._artifacts[name] = result.artifact
        for consumer in self._consumers.get(name, ()):
            if consumer not in self._pending:
                continue
            if result.artifact is None:
                self._cancel_below(consumer, f"{job.id} {'failed' if result.state == 'failed' else 'did not run'}")
                continue
            self._missing[consumer] -= 1
            if self._missing[consumer] == 0:
                self._make_ready(consumer)

    def _cancel_below(self, name: str, cause: str) -> None:
        job = self._pending.pop(name, None)
        if job is None:
            return
        self._listener.finished(job, Finished(state="cancelled", cause=cause))
        for consumer in self._consumers.get(name, ()):
            self._cancel_below(consumer, cause)

    def _make_ready(self, name: str) -> None:
        ready = self._ready_alone if self._plan.jobs[name].exclusive else self._ready
        heapq.heappush(ready, (-self._ways[name], name))

    def _longest_ways(self) -> dict[str, float]:
        """Return for each pending job the seconds from its start to the end of the longest chain that builds on it."""
        ways: dict[str, float] = {}
        for name in reversed(self._pending):
            own = self._decisions[name].seconds or TYPICAL_SECONDS[self._pending[name].stage]
            ways[name] = own + max((ways[consumer] for consumer in self._consumers.get(name, ())), default=0.0)
        return ways


def _result(done: Future[Finished]) -> Finished:
    if done.cancelled():
        return Finished(state="cancelled", cause="the run was interrupted")
    error = done.exception()
    if error is None:
        return done.result()
    if isinstance(error, CrossfarmError):
        outcome = failed(error, 0.0)
        return Finished(state="failed", cause=outcome.cause, fault=outcome.fault)
    return Finished(state="failed", cause=one_line(f"{type(error).__name__}: {error}"), fault="infrastructure")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Work:
    """Runs single jobs, in threads of the engine."""

    plan: Plan
    engine: Engine
    place: Workplace

    def execute(self, job: PlannedJob, inputs: Mapping[str, Artifact], *, forced: bool = False) -> Finished:
        """Lay out a job's inputs, run it, store what it wrote.

        Args:
            job: the job.
            inputs: role -> artifact.
            forced: run it even when the store has its artifact.

        Raises:
            CrossfarmError: an input cannot be laid out or made again, or the artifact cannot be stored.
        """
        started = time.monotonic()
        store = self.place.store
        with store.key_lock(job.key, stop=self.place.stopping.is_set) as is_held:
            if not is_held:
                return Finished(state="cancelled", cause="the run was interrupted")
            there = None if forced else store.read(job.key)
            if there is not None:
                if store.damage(there, thorough=True) is None:
                    return Finished(state="hit", artifact=there)
                store.drop(there)
            folder = self.place.work / job.id.replace(":", "-", 1)
            try:
                remade = self._lay_out(folder, job, inputs)
                outcome = self.engine.run(folder / "job.json", self._fresh_log(job.id))
                seconds = time.monotonic() - started
                if not outcome.good:
                    state: State = "cancelled" if outcome.cause == "interrupted" else "failed"
                    return Finished(
                        state=state, seconds=seconds, cause=outcome.cause, fault=outcome.fault, remade=remade
                    )
                artifact = store.put(
                    key=job.key,
                    job=job.id,
                    folder=folder / "output",
                    document=job.document,
                    groups=job.groups,
                    seconds=seconds,
                )
                return Finished(state="run", seconds=seconds, artifact=artifact, remade=remade)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _lay_out(self, folder: Path, job: PlannedJob, inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
        """Lay out a job's inputs and its job file; returns the inputs that had to be made again, by job id."""
        output = folder / "output"
        output.mkdir(parents=True)
        folders = {role: folder / "inputs" / f"{index}" for index, role in enumerate(inputs)}
        remade: dict[str, Artifact] = {}
        for role, artifact in inputs.items():
            try:
                self.place.store.restore(artifact, folders[role])
            except DamagedError as damage:
                remade.update(self._make_again(self.plan.jobs[job.inputs[role]], str(damage)))
                self.place.store.restore(remade[job.inputs[role]], folders[role])
        Job(
            id=job.id,
            stage=job.stage,
            key=job.key,
            parameters=job.groups,
            inputs=folders,
            output=output,
            root=self.place.root,
            image=job.document.image,
        ).write(folder / "job.json")
        return remade

    def _make_again(self, job: PlannedJob, why: str) -> dict[str, Artifact]:
        """Make an artifact that turned out to be damaged, with those of its inputs that are gone; returns all of them.

        A job only ever waits here for the lock of one that stands before it in the plan, so no two wait for each other.
        """
        remade: dict[str, Artifact] = {}
        inputs: dict[str, Artifact] = {}
        for role, source in job.inputs.items():
            found = self.place.store.read(self.plan.jobs[source].key)
            if found is None:
                remade.update(self._make_again(self.plan.jobs[source], f"{source} is gone"))
                found = remade[source]
            inputs[role] = found
        result = self.execute(job, inputs)
        if result.artifact is None:
            raise JobError(f"{why}; making {job.id} again failed: {result.cause}")
        return {**remade, **result.remade, job.id: result.artifact}

    def _fresh_log(self, job: str) -> Path:
        log = self.place.log(job)
        log.unlink(missing_ok=True)
        return log
