"""Notifications over a SQLite database: what ends a wait, and what does not."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from crossfarm.boards.leases.database import TICKETS, LeaseDatabase
from crossfarm.boards.leases.notify import SqliteNotifier
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def database(tmp_path: Path) -> Iterator[LeaseDatabase]:
    made = LeaseDatabase(f"sqlite:///{tmp_path}/leases.db", retry_seconds=5.0)
    yield made
    made.close()


@pytest.fixture
def notifier(database: LeaseDatabase) -> Iterator[SqliteNotifier]:
    """Return the notifier of the farm `mine`, which has seen the tickets that there are."""
    add_ticket(database, "mine")
    made = SqliteNotifier(database.path, "mine")
    made.wait(PATIENCE_SECONDS, expects_grant=True)
    yield made
    made.close()


class Waiting:
    """A wait of a notifier in a thread; `polls` is released after each poll that found no change."""

    def __init__(
        self, notifier: SqliteNotifier, monkeypatch: pytest.MonkeyPatch, *, expects_grant: bool = True
    ) -> None:
        self.polls = threading.Semaphore(0)
        is_changed = notifier._is_changed

        def poll() -> bool:
            changed = is_changed()
            if not changed:
                self.polls.release()
            return changed

        monkeypatch.setattr(notifier, "_is_changed", poll)
        self._thread = threading.Thread(
            target=notifier.wait, args=(PATIENCE_SECONDS,), kwargs={"expects_grant": expects_grant}, daemon=True
        )
        self._thread.start()

    def goes_on(self) -> bool:
        """Return whether the wait goes on after two more polls; the first may have begun before what is to be seen."""
        while self.polls.acquire(blocking=False):
            pass
        return all(self.polls.acquire(timeout=PATIENCE_SECONDS) for _ in range(2)) and self._thread.is_alive()

    def ends(self) -> bool:
        self._thread.join(PATIENCE_SECONDS / 2)
        return not self._thread.is_alive()


def change(database: LeaseDatabase, work: Callable[[sa.Connection], Any]) -> None:
    database.transaction(work)


def add_ticket(database: LeaseDatabase, owner: str) -> None:
    values = {"user": "ada", "purpose": "", "priority": 0, "is_probe": False, "boards": "[]", "expires": 0, "since": 0}
    change(
        database,
        lambda connection: connection.execute(
            sa.insert(TICKETS).values(ticket=uuid.uuid4().hex, owner=owner, **values)
        ),
    )


def grant(database: LeaseDatabase, owner: str) -> None:
    rows = sa.update(TICKETS).where(TICKETS.c.owner == owner)
    change(database, lambda connection: connection.execute(rows.values(board="pi", token=1)))


def test_a_grant_ends_the_wait(
    database: LeaseDatabase, notifier: SqliteNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting(notifier, monkeypatch)
    assert waiting.goes_on()
    grant(database, "mine")
    assert waiting.ends()


def test_a_grant_before_the_wait_ends_it(database: LeaseDatabase, notifier: SqliteNotifier) -> None:
    grant(database, "mine")
    notifier.wait(PATIENCE_SECONDS, expects_grant=True)


def test_heartbeats_and_grants_of_other_farms_end_no_wait(
    database: LeaseDatabase, notifier: SqliteNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting(notifier, monkeypatch)
    add_ticket(database, "other")
    grant(database, "other")
    change(database, lambda connection: connection.execute(sa.update(TICKETS).values(beat=TICKETS.c.beat + 1)))
    assert waiting.goes_on()
    notifier.interrupt()
    assert waiting.ends()


def test_an_interrupt_before_the_wait_ends_it_and_only_it(
    notifier: SqliteNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier.interrupt()
    notifier.wait(PATIENCE_SECONDS, expects_grant=True)
    waiting = Waiting(notifier, monkeypatch)
    assert waiting.goes_on()
    notifier.interrupt()
    assert waiting.ends()


def test_a_farm_that_expects_no_grant_does_not_poll(notifier: SqliteNotifier, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(notifier, monkeypatch, expects_grant=False)
    notifier.interrupt()
    assert waiting.ends()
    assert not waiting.polls.acquire(blocking=False)


def test_a_database_that_cannot_be_read_ends_no_wait_until_it_can_be(
    database: LeaseDatabase, notifier: SqliteNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting(notifier, monkeypatch)
    rename = "ALTER TABLE crossfarm_tickets RENAME TO {}"
    change(database, lambda connection: connection.exec_driver_sql(rename.format("away")))
    assert waiting.goes_on()
    change(database, lambda connection: connection.exec_driver_sql("ALTER TABLE away RENAME TO crossfarm_tickets"))
    grant(database, "mine")
    assert waiting.ends()
