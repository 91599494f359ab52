"""Says at the end of a run how much processor time it took: what a busy machine does not change, as it does the time on
the clock."""

from __future__ import annotations

import os

import pytest


def spent() -> float:
    """Return the seconds of processor time of this process and of its children that have ended, and of theirs."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class ProcessorTime:
    """A pytest plugin. With pytest-xdist the workers are children, and have ended before the summary."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        workers = len(config.getoption("tx", None) or ()) or 1
        terminalreporter.write_line(f"processor time: {spent():.1f} s in {workers} worker{'s' * (workers > 1)}")
