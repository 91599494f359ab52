"""Runs programs on this host in process groups of their own, with timeouts."""

from __future__ import annotations

import dataclasses
import os
import platform
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from crossfarm.boards.protocol import killed, overdue
from crossfarm.errors import BoardError

_ENVIRONMENT = ("PATH", "TMPDIR")
"""What a program sees of the environment; LC_ALL is C."""
_GRACE_SECONDS = 2.0
_TAIL_BYTES = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completed:
    """A program that ended by itself: its exit code and the end of what it said."""

    code: int
    tail: str


def run(command: Sequence[str], *, timeout: float) -> Completed:
    """Run a program of our own, with the caller's rights, in a process group of its own, and wait for it.

    Args:
        command: the program and its arguments.
        timeout: seconds; then the whole group is ended, politely first.

    Returns:
        Exit code and the last 4 KiB of what it wrote to both its streams.

    Raises:
        BoardError: it cannot be started, is killed by a signal, or takes too long.
    """
    name = Path(command[0]).name
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ} | {"LC_ALL": "C"}
    code, tail = wait_for(command, name=name, environment=environment, timeout=timeout)
    if code < 0:
        raise killed(name, number=-code, tail=tail)
    return Completed(code=code, tail=tail)


def wait_for(
    command: Sequence[str], *, name: str, environment: Mapping[str, str], timeout: float, politely: bool = True
) -> tuple[int, str]:
    """Run a command to its end.

    Args:
        command: the program and its arguments.
        name: of it, for messages.
        environment: all that it sees of one.
        timeout: seconds; then its whole group is ended.
        politely: whether it is given time to end by itself then.

    Returns:
        Exit code, minus the signal's number for one that was killed; and the last 4 KiB of what it said.

    Raises:
        BoardError: it cannot be started, or takes too long.
    """
    with tempfile.TemporaryFile() as said:
        process = _start(command, environment, said)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            end_group(process, politely=politely)
            raise overdue(name, timeout=timeout, tail=_tail(said)) from None
        except BaseException:
            end_group(process, politely=politely)
            raise
        return code, _tail(said)


def end_group(process: subprocess.Popen[bytes], *, politely: bool = True) -> None:
    """End a process that leads its group, and the whole group: TERM, two seconds, KILL; or KILL at once."""
    for number in (signal.SIGTERM, signal.SIGKILL)[0 if politely else 1 :]:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM:
            # The leader is gone; whatever it started gets no further grace.
            _kill_rest(process.pid)
        break
    process.wait()


def missing(program: str) -> BoardError:
    """Return the error for a program that, or whose loader, is not there."""
    return BoardError(
        f"{program} cannot be started: it, or the loader that it names, is not there; make the bundle again, or "
        "install the C library of the target"
    )


def unusable(program: str, why: str | None) -> BoardError:
    """Return the error for a program that the kernel refuses."""
    return BoardError(
        f"{program} cannot be started: {why}; it is damaged, or was made for another machine than "
        f"{platform.machine()}: make the bundle again"
    )


def _kill_rest(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _start(command: Sequence[str], environment: Mapping[str, str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise missing(command[0]) from error
    except OSError as error:
        raise unusable(command[0], error.strerror) from error


def _tail(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _TAIL_BYTES))
    return said.read().decode("utf-8", errors="replace")
