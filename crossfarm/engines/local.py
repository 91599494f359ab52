"""Engine `local`: jobs run on this host, in children of warm worker processes, one worker per slot."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from crossfarm.engines.messages import MOST_BYTES, JobReply, JobRequest, new_secret
from crossfarm.engines.output_watch import LOOK_SECONDS, OutputWatch
from crossfarm.engines.worker import descendants, session_members
from crossfarm.errors import EngineError, OutputError
from crossfarm.stages.job import JOB_FILE, Job, Outcome, read_outcome
from crossfarm.util.trees import TreeLimits, excess

GRACE_SECONDS = 2.0
"""Between TERM and KILL when jobs are cancelled."""

SCRATCH = "tmp"
"""Folder for a job's temporary files, beside its output: it goes when the job's folder goes."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS"), "1")
"""A job takes one slot, so its libraries take one thread."""


class LocalEngine:
    """Runs job files in workers on this host."""

    def __init__(self, *, environment: dict[str, str] | None = None, limits: TreeLimits | None = None) -> None:
        """Make an engine without workers; they start when they are first needed.

        Args:
            environment: variables for the jobs, on top of this process's own.
            limits: what a job may write.
        """
        self._limits = limits or TreeLimits()
        self._environment = {**os.environ, **ONE_THREAD, "PYTHONHASHSEED": "0", **(environment or {})}
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: list[_Worker] = []
        self._lock = threading.Lock()
        self._cancelled = False

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def run(self, folder: Path, log: Path) -> Outcome:
        """Run the job of a folder in a free worker, or in a new one."""
        started = time.monotonic()
        job_file = folder / JOB_FILE
        job = Job.read(job_file)
        worker = self._take()
        if worker is None:
            return Outcome(good=False, seconds=0.0, cause="interrupted", fault="infrastructure")
        (folder / SCRATCH).mkdir(exist_ok=True)
        try:
            status = worker.run(job_file, log, job, self._limits)
        except OutputError as error:
            self._idle.put(worker)
            return Outcome(good=False, seconds=time.monotonic() - started, cause=str(error), fault="infrastructure")
        if status is not None:
            self._idle.put(worker)
        outcome = read_outcome(job_file)
        if outcome is not None:
            return outcome
        return Outcome(good=False, seconds=time.monotonic() - started, cause=self._why(status), fault="infrastructure")

    def cancel(self) -> None:
        """End all running jobs and all workers."""
        with self._lock:
            self._cancelled = True
            workers = list(self._all)
        for worker in workers:
            worker.signal_jobs(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and any(worker.is_busy() for worker in workers):
            time.sleep(0.02)
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.wait()

    def _take(self) -> _Worker | None:
        with self._lock:
            if self._cancelled:
                return None
            with contextlib.suppress(queue.Empty):
                return self._idle.get_nowait()
            worker = _Worker(self._environment)
            self._all.append(worker)
            return worker

    def _why(self, status: int | None) -> str:
        if self._cancelled:
            return "interrupted"
        if status is None:
            return "the worker process died; was it killed, or is the machine out of memory? (dmesg tells)"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = signal.Signals(number).name
            hint = " (often: the machine is out of memory; try --jobs 1)" if number == signal.SIGKILL else ""
            return f"the job's process was ended by signal {number} ({name}){hint}"
        return f"the job's process ended with code {os.WEXITSTATUS(status)} and left no outcome; is the disk full?"


class _Worker:
    """The farm's end of one worker process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crossfarm.engines.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

    def run(self, job_file: Path, log: Path, job: Job, limits: TreeLimits) -> int | None:
        """Return the wait status of the job's process, None when the worker itself died or spoke nonsense.

        Raises:
            OutputError: the job wrote more than it may and was ended; the worker takes the next one.
        """
        secret = new_secret()
        folder = job_file.parent
        scratch = str(folder / SCRATCH)
        request = JobRequest(job=str(job_file), log=str(log), stage=job.stage, preload=job.preload, scratch=scratch)
        watch = OutputWatch(lambda: excess(folder / "output", limits) or excess(folder / SCRATCH, limits))
        if self._process.stdin is None:
            return None
        try:
            self._process.stdin.write(request.encoded(secret))
            self._process.stdin.flush()
            return JobReply.decoded(self._line(watch), secret).status
        except (OSError, ValueError, EngineError):
            self._process.kill()
            self._end_what_is_left()
            return None

    def _line(self, watch: OutputWatch) -> bytes:
        """Return the worker's next line, or what there is of it when the worker ends.

        Raises:
            OutputError: the job wrote more than it may; it has been ended.
        """
        told: OutputError | None = None
        line = b""
        if self._process.stdout is None:
            return line
        descriptor = self._process.stdout.fileno()
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        while not line.endswith(b"\n") and len(line) < MOST_BYTES:
            if waiting.poll(LOOK_SECONDS * 1000):
                chunk = os.read(descriptor, MOST_BYTES)
                if not chunk:
                    break
                line += chunk
                continue
            try:
                if told is None:
                    watch.look()
            except OutputError as error:
                told = error
            if told is not None:
                self.signal_jobs(signal.SIGKILL)
        if told is not None:
            raise told
        return line

    def signal_jobs(self, number: signal.Signals) -> None:
        """Send a signal to whatever runs below the worker."""
        for process in descendants(self._process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)

    def is_busy(self) -> bool:
        """Return whether something runs below the worker."""
        return bool(descendants(self._process.pid))

    def dismiss(self) -> None:
        """Kill what runs below the worker, and let the worker end."""
        self.signal_jobs(signal.SIGKILL)
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()

    def wait(self) -> None:
        """Wait until the worker has ended; one that does not end by itself is killed."""
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _end_what_is_left(self) -> None:
        """Kill what a worker that was killed left running: its session is its own and outlives it."""
        for process in session_members(self._process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
