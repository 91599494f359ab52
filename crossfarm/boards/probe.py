"""Probes a board: leases it, runs its preflight checks and records the result as its health."""

from __future__ import annotations

import time
from collections.abc import Mapping

from crossfarm.boards import labgrid
from crossfarm.boards.leases.health import Health, after_failure, after_good_probe
from crossfarm.boards.leases.leases import Lease, Leases
from crossfarm.boards.protocol import Purpose, open_board
from crossfarm.config.boards import Board
from crossfarm.config.targets import Target
from crossfarm.errors import BoardError, BundleError, ToolError
from crossfarm.util.text import one_line


def probe_board(
    leases: Leases, board: Board, *, targets: Mapping[str, Target], user: str, timeout: float, only_due: bool
) -> Health:
    """Probe a board, which waits until nobody else holds it; returns its health after it.

    Args:
        leases: where its health is kept.
        board: the board.
        targets: every toolchain file by name; the board must be fit for all that it serves.
        user: who asks.
        timeout: seconds to wait for the board.
        only_due: do nothing when another farm has probed it meanwhile.

    Raises:
        BusyError: another user of labgrid holds its place.
        LeaseError: the board is in use for that long, or the database cannot be used.
    """
    lease = leases.acquire([board.name], user=user, purpose="probe", timeout=timeout, is_probe=True)
    try:
        status = leases.status()
        health = status.boards[board.name].health
        if only_due and not health.is_due(status.now):
            return health
        problem = _problem(leases, lease, board, targets)
        if problem is None:
            return leases.change_health(
                board.name, lambda health, now: after_good_probe(health, now=now, wall=time.time())
            )
        return leases.change_health(
            board.name, lambda health, now: after_failure(health, reason=problem, now=now, wall=time.time())
        )
    finally:
        leases.release(lease)


def _problem(leases: Leases, lease: Lease, board: Board, targets: Mapping[str, Target]) -> str | None:
    """Return what is wrong with a board, in one line; None when it is fit for use."""
    try:
        with labgrid.held(board.labgrid, leases.url, lambda: leases.is_live(lease)):
            for name in board.targets:
                target = targets[name]
                purpose = Purpose(
                    target=name, machine=target.machine, emulator=target.emulator, code=target.instructions
                )
                with open_board(board, purpose, token=lease.token) as transport:
                    transport.preflight()
    except (BoardError, BundleError, ToolError) as error:
        return one_line(str(error))
    return None
