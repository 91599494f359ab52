"""preflight: connecting to a board and making sure that it is fit for use.

Two boards: an sshd on this host, and a virtual armv7 board, where every program of the check runs under qemu. Where
that one cannot be made, the benchmark fails.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measuring import SPREAD, Benchmark, spread
from benchmarks._sshd import PURPOSE, local_board
from crossfarm.boards.protocol import open_board
from crossfarm.boards.virtual.containers import BoardSet, boards_down, boards_up
from crossfarm.config.boards import Board
from crossfarm.errors import EngineError, ToolError

GOAL = 2.0
ROUNDS = 11

BENCHMARK = Benchmark(
    name="preflight",
    what="connecting to a board and making sure that it is fit for use: an sshd on this host, and a virtual armv7 "
    "board",
    how=f"median of {ROUNDS}, the slower of the two",
    goal=f"under {GOAL:.0f} s",
    minutes=1,
)


def seconds_of(board: Board, rounds: int) -> Iterator[float]:
    """Yield how long each connection with its preflight takes; the first, which imports paramiko, is left out."""
    for number in range(rounds + 1):
        started = time.perf_counter()
        with open_board(board, PURPOSE, token=1) as opened:
            opened.preflight()
            seconds = time.perf_counter() - started
        if number:
            yield seconds


def on_virtual_board(root: Path, rounds: int) -> list[float]:
    """Return the same on a virtual board.

    Raises:
        SystemExit: there is none.
    """
    place = BoardSet(root=root, boards=root / "boards.yaml")
    try:
        (board,) = boards_up(place, target="armv7", count=1, say=io.StringIO())
        return list(seconds_of(board.model_copy(update={"key": str(root / str(board.key))}), rounds))
    except (EngineError, ToolError) as error:
        raise SystemExit(f"there is no virtual board, so one of two boards cannot be measured: {error}") from error
    finally:
        boards_down(place)


if __name__ == "__main__":
    small = BENCHMARK.parser(__doc__).parse_args().small
    rounds = 2 if small else ROUNDS
    with tempfile.TemporaryDirectory() as scratch, local_board(Path(scratch)) as board:
        samples = list(seconds_of(board, rounds))
    print(f"this host: {spread(samples)}")
    with tempfile.TemporaryDirectory() as scratch:
        emulated = on_virtual_board(Path(scratch), rounds)
    print(f"virtual armv7 board: {spread(emulated)}")
    print(f"{SPREAD}this host {spread(samples)}; virtual board {spread(emulated)}")
    value = max(statistics.median(samples), statistics.median(emulated))
    BENCHMARK.finish(value, "s", good=value < GOAL, small=small)
