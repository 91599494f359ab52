"""preflight: connecting to a board and making sure that it is fit for use.

Two boards: an sshd on this host, and a virtual armv7 board, where every program of the check runs under qemu. That one
is left out where no container engine answers.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measuring import finish, spread
from benchmarks._sshd import PURPOSE, local_board
from crossfarm.boards.protocol import open_board
from crossfarm.errors import EngineError, ToolError
from crossfarm.spec.boards import Board
from crossfarm.virtual.containers import Place, boards_down, boards_up

GOAL = 2.0
ROUNDS = 11


def seconds_of(board: Board) -> Iterator[float]:
    """Yield how long each connection with its preflight takes; the first, which imports paramiko, is left out."""
    for number in range(ROUNDS + 1):
        started = time.perf_counter()
        with open_board(board, PURPOSE, token=1) as opened:
            opened.preflight()
            seconds = time.perf_counter() - started
        if number:
            yield seconds


def on_virtual_board(root: Path) -> list[float]:
    """Return the same on a virtual board; nothing where there is none."""
    place = Place(root=root, boards=root / "boards.yaml")
    try:
        (board,) = boards_up(place, target="armv7", count=1, say=io.StringIO())
        return list(seconds_of(board.model_copy(update={"key": str(root / str(board.key))})))
    except (EngineError, ToolError) as error:
        print(f"no virtual board: {error}")
        return []
    finally:
        boards_down(place)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, local_board(Path(scratch)) as board:
        samples = list(seconds_of(board))
    print(f"this host: {spread(samples)}")
    with tempfile.TemporaryDirectory() as scratch:
        emulated = on_virtual_board(Path(scratch))
    if emulated:
        print(f"virtual armv7 board: {spread(emulated)}")
    value = max(statistics.median(found) for found in (samples, emulated) if found)
    finish("preflight", value, "s", f"under {GOAL} s", good=value < GOAL)
