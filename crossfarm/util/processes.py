"""Runs one tool of a toolchain: what it may take is counted in processor time, so that a busy machine fails no job.

A limit in seconds of the clock says something about the machine: the same link that takes ten seconds alone takes ten
minutes beside many others. A tool that loops takes processor time wherever it runs. The clock's limit is only for a
tool that waits for ever and computes nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossfarm.errors import ToolError

WALL_SECONDS = 4 * 3600.0
"""For a tool that hangs; an engine that ends jobs earlier does so by its own limit."""
_LIMITED = 'ulimit -S -t "$1"; shift; exec "$@"'
"""A script for sh. The limit holds before the tool starts, so each process that it starts has it too."""


def run_tool(
    command: Sequence[str],
    *,
    folder: Path,
    processor_seconds: int,
    wall_seconds: float = WALL_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end, in a process group of its own, and return its exit code and what it wrote.

    Args:
        command: the tool and its arguments.
        folder: where it runs.
        processor_seconds: what each of its processes may compute, all threads together.
        wall_seconds: by the clock; then the whole group is killed.
        environment: variables on top of this process's own.

    Raises:
        ToolError: it cannot be started, or took more than one of the limits.
    """
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _LIMITED, "sh", str(processor_seconds), *command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be run: {error.strerror}; install it") from error
    with process:
        try:
            output, errors = process.communicate(timeout=wall_seconds)
        except BaseException as error:
            # Whatever it started holds the pipes open too, and would keep this process waiting for their end.
            _kill_group(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ToolError(
                    f"{' '.join(command)} did not end within {wall_seconds:g} s and was killed; see what it waits for, "
                    "then run the same command again"
                ) from None
            raise
    if process.returncode in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        raise ToolError(
            f"{' '.join(command)} took more than {processor_seconds} s of processor time and was ended; see whether it "
            "loops: type it by hand"
        )
    return subprocess.CompletedProcess(list(command), process.returncode, output, errors)


def _kill_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
