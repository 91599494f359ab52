"""Engine `container`: jobs run in containers of their target's image, each with a warm worker; see docs/engines.md.

A container takes one job at a time and lives for many. Jobs that need this host's network or boards run on this host.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from crossfarm.engines.container.container import JobContainer, Launch, callers_user
from crossfarm.engines.container.job_folder import ContainerFolder
from crossfarm.engines.container.limits import GIB, ResourceLimits
from crossfarm.engines.container.reaper import reap, this_process
from crossfarm.engines.local import ONE_THREAD, LocalEngine
from crossfarm.engines.messages import JobReply
from crossfarm.errors import CrossfarmError, EngineError, OutputError
from crossfarm.stages.job import HOST, JOB_FILE, Job, Outcome, failed
from crossfarm.util.docker import Daemon
from crossfarm.util.text import one_line


class ContainerEngine:
    """Runs job files in containers of this machine's engine."""

    def __init__(
        self,
        *,
        daemon: Daemon,
        images: Mapping[str, str],
        slots: int,
        limits: ResourceLimits,
        run: str,
        work: Path,
        home: Path,
        environment: Mapping[str, str] | None = None,
        host_environment: Mapping[str, str] | None = None,
    ) -> None:
        """Make an engine; containers start when they are first needed.

        Args:
            daemon: the container engine.
            images: digest, as jobs name their image -> reference, as the engine knows it.
            slots: how many jobs run at once; more containers than that are not kept.
            limits: what each container may use.
            run: id of the run, for the containers' labels.
            work: folder for the containers' own folders, on the file system of the folders of jobs.
            home: crossfarm's own folder.
            environment: variables for the jobs in containers; of this process's own they see none.
            host_environment: variables for the jobs on this host, on top of this process's own.
        """
        self._host = LocalEngine(environment=dict(host_environment or {}))
        self._daemon, self._images, self._limits = daemon, images, limits
        self._run_id, self._work, self._home = run, work, home
        self._environment = {**ONE_THREAD, "PYTHONHASHSEED": "0", **(environment or {})}
        self._most = 2 * slots + len(images)
        self._lock = threading.Lock()
        self._launch: Launch | None = None
        self._idle: list[JobContainer] = []
        self._all: list[JobContainer] = []
        self._count = 0
        self._cancelled = threading.Event()

    def __enter__(self) -> ContainerEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._host.__exit__()

    def run(self, folder: Path, log: Path) -> Outcome:
        """Run the job of a folder in a container of its image, or on this host when it names none."""
        job = Job.read(folder / JOB_FILE)
        if job.image == HOST:
            return self._host.run(folder, log)
        started = time.monotonic()
        try:
            container = self._take(job.image)
            if container is None:
                return _interrupted(0.0)
            return self._run_in(container, folder / JOB_FILE, job, log, started)
        except CrossfarmError as error:
            return _interrupted(0.0) if self._cancelled.is_set() else failed(error, time.monotonic() - started)
        except Exception as error:  # docker-py's, requests', the file system's: a cell's row, never the run's end
            cause = one_line(f"the container engine failed: {type(error).__name__}: {error}")
            return Outcome(good=False, seconds=time.monotonic() - started, cause=cause, fault="infrastructure")

    def cancel(self) -> None:
        """End all running jobs and all containers."""
        with self._lock:
            self._cancelled.set()
            containers = list(self._all)
        for container in containers:
            container.dismiss()
        self._host.cancel()
        for container in containers:
            container.discard()
        with self._lock:
            idle = list(self._idle)
        for container in idle:  # the others are removed by the threads that wait for their jobs
            self._remove(container)

    def _run_in(self, container: JobContainer, job_file: Path, job: Job, log: Path, started: float) -> Outcome:
        container.box.put_in(job_file)
        reply: JobReply | None = None
        why = ""
        try:
            reply = container.run(job_file, job, log)
        except TimeoutError:
            why = f"it took longer than {self._limits.seconds:g} s and was ended; ./inv reproduce shows it at work"
        except (EngineError, OutputError) as error:
            why = str(error)
        if reply is None:
            why = why or ("interrupted" if self._cancelled.is_set() else container.why_it_died())
        # Without the worker's word that the job's processes have ended, what they left is not touched.
        outcome = container.box.take_out(job_file, log) if reply else None
        container.box.show_log(log)
        last = container.box.last_lines()
        if reply and reply.reusable and os.WIFEXITED(reply.status) and not reply.out_of_memory:
            self._give_back(container)
        else:  # a container in which something went badly wrong is not handed to the next job
            self._remove(container)
        seconds = time.monotonic() - started
        if self._cancelled.is_set() and (outcome is None or not outcome.good):
            return _interrupted(seconds)
        if reply and outcome is not None and not (reply.out_of_memory and not outcome.good):
            return outcome
        return Outcome(
            good=False,
            seconds=seconds,
            cause=_with_log(why or self._why(reply), last),
            fault="infrastructure",
        )

    def _why(self, reply: JobReply | None) -> str:
        if reply is None:
            return "its container is gone"
        if reply.out_of_memory:
            limit = f"{self._limits.memory / GIB:.3g} GiB"
            return f"it ran out of memory, of which a job may take {limit}; give more with --memory"
        if os.WIFSIGNALED(reply.status):
            number = os.WTERMSIG(reply.status)
            return f"the job's process was ended by signal {number} ({signal.Signals(number).name})"
        return f"the job's process ended with code {os.WEXITSTATUS(reply.status)} and left no outcome"

    def _take(self, image: str) -> JobContainer | None:
        reference = self._images.get(image)
        if reference is None:
            raise EngineError(f"no image with the digest {image} is known; type ./inv images")
        surplus: JobContainer | None = None
        with self._lock:
            if self._cancelled.is_set():
                return None
            for container in reversed(self._idle):
                if container.image == reference:
                    self._idle.remove(container)
                    return container
            if len(self._all) >= self._most and self._idle:
                surplus = self._idle.pop(0)
            launch = self._launch = self._launch or self._prepared()
            self._count += 1
            box = ContainerFolder(self._work / f"container-{self._count}")
        if surplus:
            self._remove(surplus)
        container = JobContainer(launch, reference, box)
        with self._lock:
            self._all.append(container)
            cancelled = self._cancelled.is_set()
        if cancelled:
            self._remove(container)
            return None
        return container

    def _prepared(self) -> Launch:
        """Remove what dead runs left, and return how this run's containers start."""
        launch = Launch(
            daemon=self._daemon,
            home=self._home,
            limits=self._limits,
            labels=this_process().labels(self._run_id),
            environment=self._environment,
            user="",
        )
        api = launch.client()
        with contextlib.closing(api):
            reap(api, this_process())
            return dataclasses.replace(launch, user=callers_user(api))

    def _give_back(self, container: JobContainer) -> None:
        container.box.clear()
        with self._lock:
            if not self._cancelled.is_set():
                self._idle.append(container)

    def _remove(self, container: JobContainer) -> None:
        with self._lock:
            for containers in (self._all, self._idle):
                if container in containers:
                    containers.remove(container)
        container.remove()


def _interrupted(seconds: float) -> Outcome:
    return Outcome(good=False, seconds=seconds, cause="interrupted", fault="infrastructure")


def _with_log(why: str, last: str) -> str:
    return one_line(f"{why}; its log ends: {last}" if last else why)
