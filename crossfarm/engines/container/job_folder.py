"""The folder of one container: a job's inputs come into it, and what the job wrote is taken out of it again.

A container lives for many jobs, and what is mounted into it is settled when it starts. So what is mounted are two empty
folders; a job's own inputs and output are moved into them for as long as the job runs. Whatever a job left is looked at
with suspicion: it may be a link to somewhere else, a pipe, or a terabyte of nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from pathlib import Path
from typing import IO

from crossfarm.engines.messages import JobRequest
from crossfarm.stages.job import Job, Outcome, read_outcome
from crossfarm.util.text import one_line
from crossfarm.util.trees import TreeLimits, empty_folder, excess, remove_tree

INPUTS = Path("/job/in")
"""Where a container sees the job's inputs; read-only, and so the store's objects behind them."""
WRITABLE = Path("/job/out")
"""Where it sees the job file, the log and the output folder."""
_LOG_BYTES = 16 << 20


class ContainerFolder:
    """The folder of one container on the host; holds one job at a time."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Args:
            folder: does not exist yet; on the file system of the folders of jobs.
        """
        self.folder = folder
        self.inputs, self.writable = folder / "in", folder / "out"
        folder.mkdir(mode=0o700, parents=True)  # what a job makes may be no other user's to run
        self.inputs.mkdir()
        self.writable.mkdir()
        self._log: IO[bytes] | None = None
        self._shown = 0

    def put_in(self, job_file: Path) -> None:
        """Move a job in: its inputs, and a job file that names them as the container sees them."""
        self.clear()
        job, folder = Job.read(job_file), job_file.parent
        if (folder / "inputs").is_dir():
            (folder / "inputs").rename(self.inputs / "inputs")
        dataclasses.replace(
            job,
            inputs={role: INPUTS / path.relative_to(folder) for role, path in job.inputs.items()},
            output=WRITABLE / "output",
            root=INPUTS,
        ).write(self.writable / job_file.name)
        (self.writable / "output").mkdir()
        # Read through this descriptor alone: by the time it is read, its name may stand for something else.
        self._log = (self.writable / "log").open("x+b")
        self._shown = 0

    def request(self, job_file: Path, job: Job) -> JobRequest:
        """Return what tells the worker to run the job."""
        inside = str(WRITABLE / job_file.name)
        return JobRequest(job=inside, log=str(WRITABLE / "log"), stage=job.stage, preload=job.preload)

    def show_log(self, log: Path) -> None:
        """Append to a file what the job has written to its log since this was asked last."""
        content = self._log_since(self._shown)
        if content:
            with contextlib.suppress(OSError), log.open("ab") as stream:
                stream.write(content)
            self._shown += len(content)

    def _log_since(self, place: int) -> bytes:
        return os.pread(self._log.fileno(), max(0, _LOG_BYTES - place), place) if self._log else b""

    def excess(self, limits: TreeLimits) -> str | None:
        """Return in what the job has written more than it may; None when it has not. It may go on writing meanwhile."""
        return excess(self.writable, limits, uncounted=1)

    def take_out(self, job_file: Path, log: Path) -> Outcome | None:
        """Move what the job wrote back to its own folder; returns what it said of itself, None when nothing whole.

        Args:
            job_file: as it was put in; no process of the job may be alive any more. Only the worker's reply says so.
            log: where the log goes.
        """
        self.show_log(log)
        outcome = read_outcome(self.writable / "job.json")
        if outcome is not None:  # no job in a container has a board
            outcome = dataclasses.replace(outcome, is_board_fault=False)
        target = job_file.parent / "output"
        try:
            if stat.S_ISDIR((self.writable / "output").lstat().st_mode):
                remove_tree(target)
                (self.writable / "output").rename(target)
                return outcome
        except OSError as error:
            return Outcome(
                good=False, seconds=0.0, fault="infrastructure", cause=f"its output cannot be taken: {error.strerror}"
            )
        return Outcome(
            good=False, seconds=0.0, fault="product", cause="the job put something else for its output folder"
        )

    def last_lines(self, count: int = 3) -> str:
        """Return the last lines of the job's log as one."""
        lines = self._log_since(0)[-4096:].decode("utf-8", "replace").strip().splitlines()
        return one_line(" / ".join(line.strip() for line in lines[-count:] if line.strip()), limit=300)

    def clear(self) -> None:
        """Remove what the last job left."""
        if self._log is not None:
            self._log.close()
            self._log = None
        empty_folder(self.inputs)
        empty_folder(self.writable)

    def remove(self) -> None:
        """Remove the folder."""
        self.clear()
        remove_tree(self.folder)
