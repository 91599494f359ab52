"""Switches the power of boards and restarts them, by the commands of this host that boards.yaml declares for them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from crossfarm.config.boards import Board
from crossfarm.errors import BoardError, ConfigError, ToolError, ToolTimeoutError
from crossfarm.util.processes import ending, run_tool
from crossfarm.util.text import one_line

Action = Literal["on", "off", "cycle"]
ACTIONS: tuple[Action, ...] = ("on", "off", "cycle")
COMMAND_SECONDS = 60.0
"""By the clock, for one command."""
OFF_SECONDS = 3.0
"""Without power, so that all of it is gone from the board before it comes back."""
SILENT_SECONDS = 15.0
"""A board without power must stop answering within that time; one that does not is another than the command's."""
LOOK_SECONDS = 1.0
_CONNECT_SECONDS = 2.0


def can_restart(board: Board) -> bool:
    """Return whether this host has a command that restarts a board."""
    return board.reset is not None or board.power is not None


def switch(board: Board, action: Action, *, off_seconds: float = OFF_SECONDS, seconds: float = COMMAND_SECONDS) -> None:
    """Switch a board's power, and make sure that it is this board's.

    A cycle that has begun is ended even when the program ends meanwhile: a board without power would be lost.

    Args:
        board: the board.
        action: `off` and `cycle` look whether it stops answering.
        off_seconds: how long a cycle leaves it without power.
        seconds: after which a command is killed, with all that it started.

    Raises:
        ConfigError: boards.yaml declares no `power` for it.
        BoardError: a command failed or did not end, or the board went on answering without power.
    """
    power = board.power
    if power is None:
        raise ConfigError(f"{board.name} has no `power`; declare the commands that switch it in boards.yaml")
    if action == "on":
        _run(board, "power.on", power.on, seconds)
        return

    def work() -> None:
        answered = answers(board)
        _run(board, "power.off", power.off, seconds)
        try:
            if answered and not _becomes_silent(board):
                raise BoardError(
                    f"{board.name} still answers {SILENT_SECONDS:g} s after `power.off`: see whether its command "
                    "switches the power of another board"
                )
            if action == "cycle":
                time.sleep(off_seconds)
        finally:
            if action == "cycle":
                _run(board, "power.on", power.on, seconds)

    _to_its_end(work)


def reset(board: Board, *, off_seconds: float = OFF_SECONDS, seconds: float = COMMAND_SECONDS) -> None:
    """Restart a board by its `reset`, else by its `power`; the arguments are those of `switch`.

    Raises:
        ConfigError: it has neither.
        BoardError: as `switch` does.
    """
    command = board.reset
    if command is not None:
        _to_its_end(lambda: _run(board, "reset", command, seconds))
    elif board.power is not None:
        switch(board, "cycle", off_seconds=off_seconds, seconds=seconds)
    else:
        raise ConfigError(f"{board.name} has neither `reset` nor `power`; declare one of them in boards.yaml")


def answers(board: Board) -> bool:
    """Return whether anything listens where a board's sshd is; of this host it is always so."""
    if board.address is None:
        return True
    try:
        with socket.create_connection((board.address, board.port), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False


def comes_back(look: Callable[[], str | None], *, seconds: float, is_wanted: Callable[[], bool]) -> str | None:
    """Look at a board that starts until it is fit for use; returns what is wrong with it in the end, else None.

    Args:
        look: returns what is wrong with it now, in one line.
        seconds: that it may take.
        is_wanted: says whether anybody still waits.
    """
    end = time.monotonic() + seconds
    while (problem := look()) is not None and time.monotonic() < end and is_wanted():
        time.sleep(LOOK_SECONDS)
    return problem


def _becomes_silent(board: Board) -> bool:
    if board.address is None:
        return True
    end = time.monotonic() + SILENT_SECONDS
    while is_there := answers(board):
        if time.monotonic() > end:
            break
        time.sleep(LOOK_SECONDS)
    return not is_there


def _run(board: Board, key: str, command: Sequence[str], seconds: float) -> None:
    try:
        done = run_tool(command, wall_seconds=seconds, merged=True)
    except ToolTimeoutError as error:
        raise BoardError(
            f"{board.name}: `{key}` did not end within {seconds:g} s and was killed: {command[0]}; run it by hand"
        ) from error
    except ToolError as error:
        raise BoardError(f"{board.name}: `{key}`: {error}") from error
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()][-1:]
        raise BoardError(
            f"{board.name}: `{key}` failed: {command[0]} {ending(done.returncode)}"
            f"{f': {one_line(said[0], 300)}' if said else ''}; run it by hand"
        )


def _to_its_end(work: Callable[[], None]) -> None:
    """Do what the end of this program must not cut in two: Python waits for a thread that is no daemon."""
    failed: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="power")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
