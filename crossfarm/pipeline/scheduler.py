"""The schedule: runs the jobs of a plan on an engine, inputs first, longest way to the end first.

One failure stops only what builds on it. Jobs whose time is measured run alone, when nothing else is left to start, so
that no compile disturbs a clock. Jobs that need a board wait for one without taking a slot; when the board fails them,
they try another.
"""

from __future__ import annotations

import dataclasses
import heapq
import queue
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from crossfarm.boards.pool import Granted, Pool, PoolAnswer, Refused
from crossfarm.engines.protocol import Engine
from crossfarm.pipeline.interrupts import Interrupts
from crossfarm.pipeline.job_runner import Finished, JobFolders, JobRunner, result_of
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.pipeline.staleness import Decision

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_ENDED = {"failed": "failed", "skipped": "was skipped"}
MOST_BOARDS = 3
"""A job that so many boards failed is not tried on another."""


class Listener(Protocol):
    """Is told what happens, always from the thread that called `run_schedule`."""

    def started(self, job: PlannedJob) -> None:
        """A job was given to the engine; again, when another board had failed it."""

    def finished(self, job: PlannedJob, result: Finished) -> bool:
        """A job ended. Returns whether the run shall stop early."""


def run_schedule(
    plan: Plan,
    decisions: Mapping[str, Decision],
    *,
    engine: Engine,
    slots: int,
    place: JobFolders,
    listener: Listener,
    interrupts: Interrupts | None = None,
    pool: Pool | None = None,
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
        pool: hands out the boards that jobs need.

    Raises:
        KeyboardInterrupt: the user asked to stop; running jobs were ended and are told as cancelled.
    """
    schedule = _Schedule(plan, decisions, engine=engine, slots=slots, place=place, listener=listener, pool=pool)
    try:
        with (interrupts or Interrupts()).told_to(schedule.interrupt):
            schedule.run()
    except BaseException:
        place.stopping.set()
        engine.cancel()
        schedule.give_up("the run was interrupted")
        raise
    finally:
        schedule.end_threads()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Answered:
    """A job's board was granted or refused."""

    job: str
    answer: PoolAnswer


class _Schedule:
    def __init__(
        self,
        plan: Plan,
        decisions: Mapping[str, Decision],
        *,
        engine: Engine,
        slots: int,
        place: JobFolders,
        listener: Listener,
        pool: Pool | None,
    ) -> None:
        self._pool = pool
        self._threads: ThreadPoolExecutor | None = None
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
        self._ready_on_boards: list[str] = []
        self._running: set[str] = set()
        self._asking: set[str] = set()
        self._granted: dict[str, Granted] = {}
        self._flaky: dict[str, dict[str, str]] = {}
        self._done: queue.SimpleQueue[tuple[str, Finished] | _Answered | None] = queue.SimpleQueue()
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
            if not self._running and (self._stopping or not self._asking):
                break
            self._end(self._done.get())
        self.give_up("the run stopped at the first failure (--fail-fast)")

    def give_up(self, cause: str) -> None:
        """Tell every job that did not end as cancelled, and give back the boards that were granted to them."""
        self._stopping = True
        while not self._done.empty():
            ended = self._done.get()
            if ended is not None:
                self._end(ended)
        while self._granted and self._pool is not None:
            self._pool.release(self._granted.popitem()[1])
        for name in list(self._pending):
            self._pending.pop(name, None)
            self._listener.finished(self._plan.jobs[name], Finished(state="cancelled", cause=cause))

    def _start_what_fits(self) -> None:
        alone = any(self._plan.jobs[name].exclusive for name in self._running)
        while self._ready_on_boards and not alone and not self._stopping:
            self._start(self._ready_on_boards.pop(0))
        here = sum(1 for name in self._running if not self._plan.jobs[name].boards)
        while self._ready and not alone and not self._stopping and here < self._slots:
            self._start(heapq.heappop(self._ready)[1])
            here += 1
        if self._ready_alone and not self._running and not self._stopping:
            self._start(heapq.heappop(self._ready_alone)[1])

    def _start(self, name: str) -> None:
        job = self._plan.jobs[name]
        artifacts = {role: self._artifacts[source] for role, source in job.inputs.items()}
        self._running.add(name)
        self._listener.started(job)
        forced = self._decisions[name].is_forced
        work = JobRunner(plan=self._plan, engine=self._engine, place=self._place, pool=self._pool)
        granted = self._granted.pop(name, None)
        if granted is None:
            future = self._executor().submit(work.execute, job, artifacts, forced=forced)
        else:
            future = self._executor().submit(work.on_board, job, artifacts, granted, forced=forced)
        future.add_done_callback(lambda done: self._done.put((name, result_of(done))))

    def _executor(self) -> ThreadPoolExecutor:
        """Return the threads that wait for jobs: one a slot, and one for each board, which takes no slot of this host.

        They are made with the first job: a run without any does not import them.
        """
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            boards = {board for job in self._plan.jobs.values() for board in job.boards}
            self._threads = ThreadPoolExecutor(max_workers=self._slots + len(boards), thread_name_prefix="job")
        return self._threads

    def end_threads(self) -> None:
        """Wait for the jobs that still run; those that wait for a thread are dropped."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def _ask(self, name: str) -> None:
        """Ask for a board for a job; those that failed it before will not do."""
        boards = [board for board in self._plan.jobs[name].boards if board not in self._flaky.get(name, {})]
        self._asking.add(name)
        if self._pool is None:
            self._done.put(_Answered(job=name, answer=Refused(reason="this run has no boards; give --boards FILE")))
            return
        self._pool.ask(name, boards, lambda answer: self._done.put(_Answered(job=name, answer=answer)))

    def _answered(self, name: str, answer: PoolAnswer) -> None:
        self._asking.discard(name)
        if isinstance(answer, Refused):
            failed = Finished(state="failed", cause=answer.reason, fault="infrastructure")
            self._end((name, self._with_flaky(name, failed)))
            return
        self._granted[name] = answer
        if self._plan.jobs[name].exclusive:
            heapq.heappush(self._ready_alone, (-self._ways[name], name))
        else:
            self._ready_on_boards.append(name)

    def _tries_again(self, name: str, result: Finished) -> bool:
        """Ask for another board for a job that lost the one it had; returns whether there is another one to ask for."""
        if result.lost is None or result.board is None or self._stopping:
            return False
        tried = self._flaky.setdefault(name, {})
        if result.lost == "failed":
            tried[result.board] = result.cause
        else:
            # The board is not to blame and may be tried again, so this stands under a name that is no board's.
            tried[f"{result.board} (lease {len(tried) + 1})"] = result.cause
        if len(tried) >= MOST_BOARDS or not set(self._plan.jobs[name].boards) - set(tried):
            tried.popitem()  # it is told as the cause
            return False
        self._ask(name)
        return True

    def _with_flaky(self, name: str, result: Finished) -> Finished:
        """Return a result with the boards that were tried before; a failure says all its causes."""
        flaky = tuple(f"{board}: {cause}" for board, cause in self._flaky.pop(name, {}).items())
        cause = result.cause
        if result.state == "failed" and flaky:
            cause = "; ".join([*flaky, f"{result.board}: {cause}" if result.board else cause])
        return dataclasses.replace(result, flaky=flaky, cause=cause)

    def _end(self, ended: tuple[str, Finished] | _Answered | None) -> None:
        if ended is None:
            raise KeyboardInterrupt
        if isinstance(ended, _Answered):
            self._answered(ended.job, ended.answer)
            return
        name, result = ended
        self._running.discard(name)
        self._artifacts.update(result.remade)
        if self._tries_again(name, result):
            return
        result = self._with_flaky(name, result)
        job = self._pending.pop(name)
        stop = self._listener.finished(job, result)
        self._stopping = self._stopping or stop
        if result.artifact is not None:
            self._artifacts[name] = result.artifact
        for consumer in self._consumers.get(name, ()):
            if consumer not in self._pending:
                continue
            if result.artifact is None:
                below = Finished(state="cancelled", cause=f"{job.id} {_ENDED.get(result.state, 'did not run')}")
                if result.state == "skipped" and self._plan.jobs[consumer].cell == job.cell:
                    below = Finished(state="skipped", cause=result.cause)
                self._end_below(consumer, below)
                continue
            self._missing[consumer] -= 1
            if self._missing[consumer] == 0:
                self._make_ready(consumer)

    def _end_below(self, name: str, result: Finished) -> None:
        """Tell a job and all that builds on it as ended, without running them."""
        job = self._pending.pop(name, None)
        if job is None:
            return
        self._listener.finished(job, result)
        for consumer in self._consumers.get(name, ()):
            self._end_below(consumer, result)

    def _make_ready(self, name: str) -> None:
        if self._plan.jobs[name].boards:
            self._ask(name)
            return
        ready = self._ready_alone if self._plan.jobs[name].exclusive else self._ready
        heapq.heappush(ready, (-self._ways[name], name))

    def _longest_ways(self) -> dict[str, float]:
        """Return for each pending job the seconds from its start to the end of the longest chain that builds on it."""
        ways: dict[str, float] = {}
        for name in reversed(self._pending):
            own = self._decisions[name].seconds or self._pending[name].declaration.usual_seconds
            ways[name] = own + max((ways[consumer] for consumer in self._consumers.get(name, ())), default=0.0)
        return ways
