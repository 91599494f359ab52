"""One call of a tool: what it may compute, and what becomes of what it started."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

import pytest

from crossfarm.errors import ToolError
from crossfarm.util.processes import run_tool


def test_a_tool_that_loops_is_ended_by_the_processor_time_it_took(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="took more than 1 s of processor time"):
        run_tool(["sh", "-c", "while :; do :; done"], folder=tmp_path, processor_seconds=1, wall_seconds=60)


def test_a_tool_that_waits_longer_than_it_may_compute_is_no_failure(tmp_path: Path) -> None:
    done = run_tool(["/bin/sh", "-c", "sleep 1.5; echo done"], folder=tmp_path, processor_seconds=1)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_what_a_tool_started_ends_with_it_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    script = "sleep 600 & echo $! > child; wait"
    with pytest.raises(ToolError, match="did not end within 1 s and was killed"):
        run_tool(["/bin/sh", "-c", script], folder=tmp_path, processor_seconds=10, wall_seconds=1)
    child = int((tmp_path / "child").read_text())
    with contextlib.suppress(ProcessLookupError):
        # A killed process takes a moment to end; one that nobody killed would sleep for ten minutes.
        assert select.select([os.pidfd_open(child)], [], [], 60)[0]


def test_words_of_a_command_stay_words(tmp_path: Path) -> None:
    done = run_tool(["printf", "%s\n", "$(id)", "a b;c"], folder=tmp_path, processor_seconds=10)
    assert done.stdout == "$(id)\na b;c\n"


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be run: No such file"):
        run_tool(["true"], folder=tmp_path / os.urandom(4).hex(), processor_seconds=1)
