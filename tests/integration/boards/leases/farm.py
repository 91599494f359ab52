"""A farm in a process of its own, which takes boards and gives them back: started, stopped and killed by the tests.

    farm.py run DATABASE TTL USER JOURNAL BOARD...    takes boards again and again, until it is killed
    farm.py hold DATABASE TTL USER JOURNAL BOARD...   takes each board once and holds it

The journal gets a line of JSON for each thing that happened; `before` and `after` are CLOCK_BOOTTIME around it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from crossfarm.boards.leases.leases import Lease, Leases
from crossfarm.errors import LeaseError


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """A file that many processes append whole lines to."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, event: str, lease: Lease, before: float) -> None:
        line = {"event": event, "board": lease.board, "token": lease.token, "before": before, "after": now()}
        os.write(self._file, (json.dumps({**line, "process": os.getpid()}) + "\n").encode())


def use(leases: Leases, lease: Lease, journal: Journal) -> None:
    """Use a board for a while; say before and after each moment at which a result would be stored."""
    for _ in range(random.randint(1, 4)):
        time.sleep(random.uniform(0.0, 0.15))
        before = now()
        try:
            leases.confirm(lease)
        except LeaseError:
            journal.write("refused", lease, before)
            leases.release(lease)  # a late holder tries, and must not take the board from its next holder
            return
        journal.write("confirmed", lease, before)
    before = now()
    leases.release(lease)
    journal.write("released", lease, before)


def run(leases: Leases, boards: Sequence[str], user: str, journal: Journal) -> None:
    while True:
        before = now()
        try:
            wanted = random.sample(boards, random.randint(1, len(boards)))
            lease = leases.acquire(wanted, user=user, purpose="a test", timeout=1, priority=random.choice((0, 0, 1)))
        except LeaseError:
            continue
        journal.write("granted", lease, before)
        use(leases, lease, journal)


def hold(leases: Leases, boards: Sequence[str], user: str, journal: Journal) -> None:
    held = []
    for board in boards:
        before = now()
        held.append(leases.acquire([board], user=user, purpose="a test", timeout=60))
        journal.write("granted", held[-1], before)
    while True:
        time.sleep(0.5)
        for lease in list(held):
            before = now()
            try:
                leases.confirm(lease)
                journal.write("confirmed", lease, before)
            except LeaseError:
                journal.write("refused", lease, before)
                before = now()
                leases.release(lease)  # a late holder tries, and must not take the board from its next holder
                journal.write("released", lease, before)
                held.remove(lease)


if __name__ == "__main__":
    verb, database, ttl, user_name, path, *names = sys.argv[1:]
    with Leases(database, ttl=float(ttl)) as opened:
        {"run": run, "hold": hold}[verb](opened, names, user_name, Journal(Path(path)))
