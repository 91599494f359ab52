"""A container of `./inv board-up` as a board: reached over ssh like any other, and its clock counts for nothing."""

from __future__ import annotations

from crossfarm.boards.protocol import Purpose
from crossfarm.boards.transports.ssh import SshBoard
from crossfarm.config.boards import Board


def open_board(board: Board, purpose: Purpose, *, token: int) -> SshBoard:
    """Return the way to a virtual board."""
    return SshBoard(board, purpose, token=token, timing="emulated")
