"""Probes a board: leases it, runs its preflight checks, restarts it when it fails again and again, notes its health."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

from crossfarm.boards import labgrid
from crossfarm.boards.leases.health import Health, after_failure, after_good_probe, quarantined, released
from crossfarm.boards.leases.leases import Lease, Leases
from crossfarm.boards.power import Action, can_restart, comes_back, reset, switch
from crossfarm.boards.protocol import Purpose, open_board
from crossfarm.config.boards import Board
from crossfarm.config.targets import Target
from crossfarm.errors import BoardError, BundleError, ConfigError, LeaseError, ToolError
from crossfarm.util.text import one_line

POWER_OFF = "its power is off; ./inv boards --power switches it on"
FAILURES_TO_RESTART = 3
"""Each time that a board failed so often in a row it is restarted, where this host has a command for that."""


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
        if problem is not None:
            health = _note_failure(leases, board, problem)
            if health.state == "quarantined" or health.failures % FAILURES_TO_RESTART or not can_restart(board):
                return health
            problem = _restarted(leases, lease, board, targets)
            if problem is not None:
                return _note_reason(leases, board, problem)
        return leases.change_health(board.name, lambda health, now: after_good_probe(health, now=now, wall=time.time()))
    finally:
        leases.release(lease)


def restart_board(leases: Leases, board: Board, *, targets: Mapping[str, Target], user: str, timeout: float) -> Health:
    """Restart a board that nobody holds, wait until it is fit for use, and return its health after it.

    Args:
        leases: where its health is kept.
        board: the board.
        targets: every toolchain file by name.
        user: who asks.
        timeout: seconds to wait for the board.

    Raises:
        ConfigError: boards.yaml declares no command for it.
        LeaseError: the board is in use for that long, or the database cannot be used.
    """
    if not can_restart(board):
        raise ConfigError(f"{board.name} has neither `reset` nor `power`; declare one of them in boards.yaml")
    lease = _lease(leases, board, user=user, purpose="reset", timeout=timeout)
    try:
        problem = _restarted(leases, lease, board, targets)
        if problem is not None:
            return _note_failure(leases, board, problem)
        return leases.change_health(board.name, lambda health, now: after_good_probe(health, now=now, wall=time.time()))
    finally:
        leases.release(lease)


def switch_power(leases: Leases, board: Board, action: Action, *, user: str, timeout: float) -> None:
    """Switch the power of a board that nobody holds. One that is off is quarantined until it is switched on again.

    Args:
        leases: where its health is kept.
        board: the board.
        action: on, off or cycle.
        user: who asks.
        timeout: seconds to wait for the board.

    Raises:
        ConfigError: boards.yaml declares no command for it.
        BoardError: a command failed, or it is another board's.
        LeaseError: the board is in use for that long, or the database cannot be used.
    """
    lease = _lease(leases, board, user=user, purpose=f"power {action}", timeout=timeout)
    try:
        switch(board, action)
        if action == "off":
            leases.change_health(board.name, lambda health, now: _unpowered(health))
        else:
            leases.change_health(board.name, lambda health, now: _powered(health))
    finally:
        leases.release(lease)


def _unpowered(health: Health) -> Health:
    """Return the health of a board without power; the reason for which a person took one out of use is kept."""
    return health if health.state == "quarantined" else quarantined(reason=POWER_OFF, wall=time.time())


def _powered(health: Health) -> Health:
    """Return the health of a board that has power again: one that a person took out of use stays there."""
    return released(wall=time.time()) if (health.state, health.reason) == ("quarantined", POWER_OFF) else health


def _lease(leases: Leases, board: Board, *, user: str, purpose: str, timeout: float) -> Lease:
    try:
        return leases.acquire([board.name], user=user, purpose=purpose, timeout=timeout, is_probe=True)
    except LeaseError as error:
        raise LeaseError(f"{error}; ./inv boards shows who holds {board.name}") from error


def _note_failure(leases: Leases, board: Board, reason: str) -> Health:
    return leases.change_health(
        board.name, lambda health, now: after_failure(health, reason=reason, now=now, wall=time.time())
    )


def _note_reason(leases: Leases, board: Board, reason: str) -> Health:
    """Say what a restart did not mend; the failure itself is counted already."""
    return leases.change_health(
        board.name, lambda health, _: health if health.state == "good" else dataclasses.replace(health, reason=reason)
    )


def _restarted(leases: Leases, lease: Lease, board: Board, targets: Mapping[str, Target]) -> str | None:
    """Restart a board and wait until it is fit for use; returns what is wrong with it after that, else None."""
    try:
        reset(board)
    except BoardError as error:
        return one_line(f"it could not be restarted: {error}")
    problem = comes_back(
        lambda: _problem(leases, lease, board, targets),
        seconds=board.start_time,
        is_wanted=lambda: leases.is_live(lease),
    )
    return None if problem is None else one_line(f"{problem} (after a restart, {board.start_time} s waited)")


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
