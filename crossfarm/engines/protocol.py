"""What an engine is: something that runs job files, reached through a concurrent.futures.Executor."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from crossfarm.stages.job import Outcome


class Engine(Protocol):
    """Runs job files. Entered as a context manager; leaving it ends whatever still runs."""

    executor: Executor
    """Takes `run` calls; one per slot is enough."""

    def run(self, job_file: Path, log: Path) -> Outcome:
        """Run one job file to its end, its output going to `log`. Never raises for a job that fails or dies."""

    def cancel(self) -> None:
        """End all running jobs: TERM, two seconds, KILL. Their `run` calls return."""

    def __enter__(self) -> Engine:
        """Start."""

    def __exit__(self, *_: object) -> None:
        """End all running jobs and free everything."""
