"""What an engine is: something that runs the job in a folder. The threads that call it are the scheduler's."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from crossfarm.stages.job import Outcome


class Engine(Protocol):
    """Runs jobs, as many at once as threads call it. A context manager; leaving it ends whatever still runs.

    An engine is given a folder and a log on this host and returns an outcome; nothing else of the farm reaches it. What
    must travel to where the job runs, and back, is its own business.
    """

    def run(self, folder: Path, log: Path) -> Outcome:
        """Run one job to its end. Never raises for a job that fails or dies.

        Args:
            folder: holds job.json, the inputs, and the empty folder `output`, which gets what the job writes.
            log: file for what the job says.
        """

    def cancel(self) -> None:
        """End all running jobs: TERM, two seconds, KILL. Their `run` calls return."""

    def __enter__(self) -> Engine:
        """Start."""

    def __exit__(self, *_: object) -> None:
        """End all running jobs and free everything."""
