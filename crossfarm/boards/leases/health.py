"""Health of boards: a state machine without clock or database; the caller passes the time.

A board is `good` until it fails. A `bad` one is probed again, at first soon and then less and less often, and is good
again when a probe succeeds. One that falls again and again is `looping`: it must pass several probes in a row. A
`quarantined` one stays so until a person releases it. Only good boards are ever granted.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

HealthState = Literal["good", "bad", "looping", "quarantined"]

FIRST_PROBE_SECONDS = 5.0
LONGEST_BETWEEN_PROBES = 600.0
LOOPING_FALLS = 3
"""So often from good to bad within LOOPING_SECONDS makes a board a looping one."""
LOOPING_SECONDS = 3600.0
LOOPING_PROBES = 3
"""So many good probes in a row end the looping."""
GIVEN_UP_FAILURES = 3
"""After so many failures in a row nobody waits for a board any longer; it is probed all the same."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Health:
    """How a board is.

    Attributes:
        state: only a `good` board is granted.
        reason: why it is not good, one line; empty when it is.
        since: when it came into this state, in seconds since the epoch, for people.
        failures: failures in a row.
        passed: good probes in a row while it is looping.
        next_probe: when it is to be probed again, on the clock of the leases; 0 when it is not.
        falls: when it last went from good to bad, on the clock of the leases.
    """

    state: HealthState = "good"
    reason: str = ""
    since: float = 0.0
    failures: int = 0
    passed: int = 0
    next_probe: float = 0.0
    falls: tuple[float, ...] = ()

    @property
    def is_hopeful(self) -> bool:
        """Return whether a job may wait for this board: it is good, or failed so seldom that it may soon be."""
        return self.state != "quarantined" and self.failures < GIVEN_UP_FAILURES

    def is_due(self, now: float) -> bool:
        """Return whether it is to be probed now; a time too far ahead stems from a clock before a restart."""
        wanted = self.state in ("bad", "looping")
        return wanted and (self.next_probe <= now or self.next_probe > now + 2 * LONGEST_BETWEEN_PROBES)


def after_failure(health: Health, *, reason: str, now: float, wall: float) -> Health:
    """Return the health after a job or a probe failed by the board's fault.

    Args:
        health: before it.
        reason: one line.
        now: seconds on the clock of the leases.
        wall: seconds since the epoch.
    """
    if health.state == "quarantined":
        return health
    falls = tuple(fall for fall in health.falls if now - LOOPING_SECONDS < fall <= now)
    if health.state == "good":
        falls = (*falls, now)[-LOOPING_FALLS:]
    failures = health.failures + 1
    state: HealthState = "looping" if health.state == "looping" or len(falls) >= LOOPING_FALLS else "bad"
    return Health(
        state=state,
        reason=reason,
        since=health.since if state == health.state else wall,
        failures=failures,
        next_probe=now + min(LONGEST_BETWEEN_PROBES, FIRST_PROBE_SECONDS * 2.0 ** (min(failures, 20) - 1)),
        falls=falls,
    )


def after_good_probe(health: Health, *, now: float, wall: float) -> Health:
    """Return the health after a probe found nothing wrong; the arguments are those of `after_failure`."""
    if health.state in ("good", "quarantined"):
        return health
    passed = health.passed + 1
    if health.state == "looping" and passed < LOOPING_PROBES:
        return dataclasses.replace(health, failures=0, passed=passed, next_probe=now + FIRST_PROBE_SECONDS)
    # A board that left the looping state begins anew; one that was bad keeps the memory of its falls.
    return Health(since=wall, falls=() if health.state == "looping" else health.falls)


def quarantined(*, reason: str, wall: float) -> Health:
    """Return the health of a board that a person took out of use."""
    return Health(state="quarantined", reason=reason, since=wall)


def released(*, wall: float) -> Health:
    """Return the health of a board that a person put back into use."""
    return Health(since=wall)
