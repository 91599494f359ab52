"""Whether a board may be used now, from what it says of itself and what is declared about it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from crossfarm.boards.transports.facts import Facts
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError


def check_health(board: Board, facts: Facts) -> None:
    """Make sure that a board is fit for a measurement.

    Raises:
        BoardError: it is not; the message names all that is wrong.
    """
    problems = list(problems_of(board, facts))
    if problems:
        raise BoardError(f"board {board.name} is not fit for use: {'; '.join(problems)}")


def problems_of(board: Board, facts: Facts) -> Iterator[str]:
    """Yield what is wrong with a board, each with what to do about it."""
    if not fnmatch.fnmatchcase(facts.platform, board.platform) and not fnmatch.fnmatchcase(
        facts.machine, board.platform
    ):
        yield (
            f"it says that it is {facts.platform!r}, boards.yaml says platform {board.platform!r}: it is the wrong "
            "machine; correct its address or its platform"
        )
    free = facts.free_kib // 1024
    if free < board.limits.free_disk:
        yield (
            f"{free} MiB are free in {board.folder}, limits.free_disk is {board.limits.free_disk}; make room there, or "
            "lower the limit"
        )
    heat = facts.heat.temperature
    if heat is not None and heat > board.limits.temperature:
        yield f"it is {heat:g} °C hot, limits.temperature is {board.limits.temperature:g}; let it cool, or fan it"
    most = board.limits.load * (facts.processors or 1)
    # A virtual board shows the load of its host, whose clock counts for nothing anyway.
    if board.transport != "virtual" and facts.load is not None and facts.load > most:
        yield (
            f"its load is {facts.load:g} on {facts.processors or 1} CPUs, limits.load is {board.limits.load:g} for "
            "each; end what else runs there, or raise the limit"
        )
