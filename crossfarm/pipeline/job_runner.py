"""One job of a plan: its inputs laid out, run on an engine, what it wrote stored."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from crossfarm.boards.pool import Granted, Pool, Refused
from crossfarm.engines.protocol import Engine
from crossfarm.errors import CrossfarmError, DamagedError, JobError, LeaseError
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.stages.job import JOB_FILE, Grant, Job, failed
from crossfarm.store.store import Artifact, Store
from crossfarm.util.text import one_line
from crossfarm.util.trees import remove_tree

if TYPE_CHECKING:
    from concurrent.futures import Future

State = Literal["run", "hit", "failed", "skipped", "cancelled"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """How a job ended.

    Attributes:
        state: `run`: it ran well; `hit`: the store had it, or another run made it meanwhile; `skipped`: the model is
            not for the target; `cancelled`: an input failed or the run was ended.
        seconds: wall time.
        artifact: what it left, when it ended well.
        cause: one line on what went wrong, or why it was skipped.
        fault: whose fault that was.
        remade: inputs by job id that turned out to be damaged or gone, and were made again on the way.
        board: the board that it ran on; None on this host.
        lost: how it lost that board: the board `failed`, or its `lease` ended; another board may do better.
        flaky: boards that it tried before, each with what went wrong there: `pi-1: it does not answer`.
    """

    state: State
    seconds: float = 0.0
    artifact: Artifact | None = None
    cause: str = ""
    fault: Literal["product", "infrastructure"] | None = None
    remade: Mapping[str, Artifact] = dataclasses.field(default_factory=dict)
    board: str | None = None
    lost: Literal["failed", "lease"] | None = None
    flaky: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobFolders:
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


def _grant(granted: Granted | None) -> Grant | None:
    if granted is None:
        return None
    return Grant(board=granted.board.model_dump(mode="json"), token=granted.lease.token)


def result_of(done: Future[Finished]) -> Finished:
    """Return what came of a job that was given to an executor; also of one that raised or was cancelled."""
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
class JobRunner:
    """Runs single jobs, in threads of the scheduler."""

    plan: Plan
    engine: Engine
    place: JobFolders
    pool: Pool | None = None

    def on_board(self, job: PlannedJob, inputs: Mapping[str, Artifact], granted: Granted, *, forced: bool) -> Finished:
        """Run a job on the board that was granted to it, and give the board back; the rest is as in `execute`."""
        if self.pool is None:
            raise JobError(f"{job.id} was granted a board, and there is no pool to give it back to")
        name = granted.board.name
        try:
            result = self.execute(job, inputs, forced=forced, granted=granted)
            if result.lost == "failed" and not self._holds(granted):
                # Whoever has the board now keeps this job from it. That is no fault of the board.
                result = dataclasses.replace(result, lost="lease")
            if result.lost == "failed":
                self.pool.failed(name, result.cause)
            return dataclasses.replace(result, board=name)
        finally:
            self.pool.release(granted)

    def _holds(self, granted: Granted) -> bool:
        try:
            if self.pool is not None:
                self.pool.confirm(granted)
        except LeaseError:
            return False
        return True

    def execute(
        self,
        job: PlannedJob,
        inputs: Mapping[str, Artifact],
        *,
        forced: bool = False,
        granted: Granted | None = None,
    ) -> Finished:
        """Lay out a job's inputs, run it, store what it wrote.

        Args:
            job: the job.
            inputs: role -> artifact.
            forced: run it even when the store has its artifact.
            granted: the board that it runs on; what it did there is stored only if its lease lives to the end.

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
                remade = self._lay_out(folder, job, inputs, granted)
                outcome = self.engine.run(folder, self._fresh_log(job.id))
                seconds = time.monotonic() - started
                if outcome.is_unfit and job.cell is not None:
                    return Finished(state="skipped", seconds=seconds, cause=outcome.cause, remade=remade)
                if not outcome.good:
                    return Finished(
                        state="cancelled" if outcome.cause == "interrupted" else "failed",
                        seconds=seconds,
                        cause=outcome.cause,
                        fault=outcome.fault,
                        remade=remade,
                        lost="failed" if granted is not None and outcome.is_board_fault else None,
                    )
                if granted is not None and self.pool is not None:
                    try:
                        self.pool.confirm(granted)
                    except LeaseError as error:
                        return Finished(
                            state="failed",
                            seconds=seconds,
                            cause=one_line(str(error)),
                            fault="infrastructure",
                            remade=remade,
                            lost="lease",
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
                remove_tree(folder)

    def _lay_out(
        self, folder: Path, job: PlannedJob, inputs: Mapping[str, Artifact], granted: Granted | None
    ) -> dict[str, Artifact]:
        """Lay out a job's inputs and its job file; returns the inputs that had to be made again, by job id."""
        output = folder / "output"
        output.mkdir(parents=True)
        folders = {role: folder / "inputs" / f"{index}" for index, role in enumerate(inputs)}
        remade: dict[str, Artifact] = {}
        for role, artifact in inputs.items():
            try:
                self.place.store.restore(artifact, folders[role], stop=self.place.stopping.is_set)
            except DamagedError as damage:
                remade.update(self._make_again(self.plan.jobs[job.inputs[role]], str(damage)))
                self.place.store.restore(remade[job.inputs[role]], folders[role], stop=self.place.stopping.is_set)
        Job(
            id=job.id,
            stage=job.stage,
            key=job.key,
            parameters=job.groups,
            inputs=folders,
            output=output,
            root=self.place.root,
            image=job.document.image,
            grant=_grant(granted),
            preload=job.preload,
        ).write(folder / JOB_FILE)
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
        result = self._execute_somewhere(job, inputs)
        if result.artifact is None:
            raise JobError(f"{why}; making {job.id} again failed: {result.cause}")
        return {**remade, **result.remade, job.id: result.artifact}

    def _execute_somewhere(self, job: PlannedJob, inputs: Mapping[str, Artifact]) -> Finished:
        """Run a job, on one of its boards if it needs one; waits for the board."""
        if not job.boards or self.pool is None:
            return self.execute(job, inputs)
        answer = self.pool.obtain(job.id, job.boards)
        if isinstance(answer, Refused):
            return Finished(state="failed", cause=answer.reason, fault="infrastructure")
        return self.on_board(job, inputs, answer, forced=False)

    def _fresh_log(self, job: str) -> Path:
        log = self.place.log(job)
        log.unlink(missing_ok=True)
        return log
