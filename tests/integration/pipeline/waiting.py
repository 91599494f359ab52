"""What tests of runs that are underway wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Farm = Any
"""The class of conftest.py, which pytest does not let be imported."""


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a condition; the test fails when it does not come in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def compiles(farm: Farm) -> bool:
    """Return whether a job of the stage compile is running."""
    return any((farm.store / "work").glob("*/compile-*/job.json"))
