"""What tests of runs that are underway wait for."""

from __future__ import annotations

from typing import Any

from crossfarm.engines.worker import descendants, processes

Farm = Any
"""The class of conftest.py, which pytest does not let be imported."""


def compiles(farm: Farm) -> bool:
    """Return whether a job of the stage compile is running."""
    return any((farm.store / "work").glob("*/compile-*/job.json"))


def jobs_below(root: int) -> dict[int, list[int]]:
    """Return worker -> processes of its running job, for the workers of a run."""
    workers = [process.id for process in processes() if process.parent == root]
    return {worker: found for worker in workers if (found := descendants(worker))}
