"""Runs a tool to its end, and says how it ended with the last lines of what it wrote.

What a tool may compute is counted in processor time where it is limited, so that a busy machine fails no job. A limit
in seconds of the clock says something about the machine: the same link that takes ten seconds alone takes ten minutes
beside many others. A tool that loops takes processor time wherever it runs. The clock's limit is only for a tool that
waits for ever and computes nothing.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossfarm.errors import ToolError, ToolMissingError, ToolTimeoutError

WALL_SECONDS = 4 * 3600.0
"""For a tool that hangs; an engine that ends jobs earlier does so by its own limit."""
LAST_LINES = 8
_LIMITED = 'ulimit -S -t "$1"; shift; exec "$@"'
"""A script for sh. The limit holds before the tool starts, so each process that it starts has it too."""


def run_tool(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    processor_seconds: int | None = None,
    wall_seconds: float | None = WALL_SECONDS,
    environment: Mapping[str, str] | None = None,
    merged: bool = False,
    descriptors: Sequence[int] = (),
    takes_keyboard: bool = False,
    shown: Sequence[str] | None = None,
    missing: str = "install it",
    slow: str = "see what it waits for, then run the same command again",
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end, in a process group of its own, and return its exit code and what it wrote.

    Args:
        command: the tool and its arguments.
        folder: where it runs; None for this process's own.
        processor_seconds: what each of its processes may compute, all threads together; None for no limit.
        wall_seconds: by the clock; then the whole group is killed. None for no limit.
        environment: variables on top of this process's own.
        merged: standard error goes into `stdout`, each line in its place.
        descriptors: open files that it inherits.
        takes_keyboard: it stays in this process's group, so that Ctrl-C reaches it and `sudo` may ask for a password.
        shown: what messages call it by, and the result too; None for the command as it is.
        missing: what to do when it cannot be started.
        slow: what to do when it takes too long.

    Raises:
        ToolMissingError: it cannot be started.
        ToolTimeoutError: it took longer by the clock.
        ToolError: it took more processor time.
    """
    called = command if shown is None else shown
    limited = () if processor_seconds is None else ("/bin/sh", "-c", _LIMITED, "sh", str(processor_seconds))
    try:
        process = subprocess.Popen(
            [*limited, *command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=None if takes_keyboard else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=None if takes_keyboard else 0,
            pass_fds=tuple(descriptors),
        )
    except OSError as error:
        raise ToolMissingError(f"{called[0]} cannot be run: {error.strerror or error}; {missing}") from error
    with process:
        try:
            output, errors = process.communicate(timeout=wall_seconds)
        except BaseException as error:
            if takes_keyboard:
                process.kill()
            else:
                # Whatever it started holds the pipes open too, and would keep this process waiting for their end.
                _kill_group(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ToolTimeoutError(
                    f"{shlex.join(called)} did not end within {wall_seconds:g} s and was killed; {slow}"
                ) from None
            raise
    if processor_seconds is not None and process.returncode in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        raise ToolError(
            f"{shlex.join(called)} took more than {processor_seconds} s of processor time and was ended; see whether "
            "it loops: type it by hand"
        )
    return subprocess.CompletedProcess(list(called), process.returncode, output, errors or "")


def output_of(command: Sequence[str], *, wall_seconds: float) -> str | None:
    """Return what a tool writes to standard output; None when it is missing, fails or takes too long."""
    try:
        done = run_tool(command, wall_seconds=wall_seconds)
    except ToolError:
        return None
    return done.stdout if done.returncode == 0 else None


def failure(done: subprocess.CompletedProcess[str], *, lines: int = LAST_LINES) -> str:
    """Return what ran, how it ended, and below that, indented, the last lines of what it wrote.

    Args:
        done: of `run_tool`; where standard error was kept apart, its lines come last.
        lines: so many.
    """
    said = f"{done.stdout.rstrip()}\n{done.stderr}".strip("\n").splitlines()[-lines:]
    return "\n".join([f"{shlex.join(done.args)} {ending(done.returncode)}", *(f"    {line}" for line in said)])


def ending(code: int) -> str:
    """Return how a process ended, of its exit code as Python gives it: `was ended by SIGKILL`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _kill_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
