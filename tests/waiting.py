"""How tests wait: for events, never for a length of time.

Deadlines are those of a quiet machine; where processes queue up for the processors they are stretched accordingly.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable

PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 0.01


def wait_until(
    condition: Callable[[], object],
    *,
    seconds: float = PATIENCE_SECONDS,
    process: subprocess.Popen[str] | subprocess.Popen[bytes] | None = None,
    told: Callable[[], object] = lambda: "waited in vain",
) -> None:
    """Return when a condition holds.

    Args:
        condition: is asked again and again.
        seconds: the deadline, from now, on a quiet machine.
        process: brings the condition about; the test fails when it ends before.
        told: what the failing test says.

    Raises:
        AssertionError: the process ended, or the deadline passed.
    """
    started = time.monotonic()
    while not condition():
        assert process is None or process.poll() is None or condition(), f"the process ended early: {told()}"
        assert time.monotonic() - started < stretched(seconds), told()
        time.sleep(PAUSE_SECONDS)


def wait_for_end(process: int, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Return when a process is gone, or a zombie; it need not be a child of this one.

    Raises:
        AssertionError: it still runs at the deadline.
    """
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process)
        try:
            assert select.select([descriptor], [], [], stretched(seconds))[0], f"process {process} still runs"
        finally:
            os.close(descriptor)


def stretched(seconds: float) -> float:
    """Return so many seconds of a quiet machine as they are on this one now: longer where processes queue up."""
    return seconds * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
