"""How a farm learns at once that a board was granted to it: it polls SQLite, or listens to PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from crossfarm.boards.leases.database import LeaseDatabase
from crossfarm.errors import LeaseError

POLL_SECONDS = 0.01
"""Time between two polls of a SQLite database. A poll takes about 0.1 ms of processor time, most of it to wake up."""
IDLE_POLL_SECONDS = 0.025
"""The same, when the farm's tickets have not changed for IDLE_AFTER_SECONDS: under 1 % of a core."""
IDLE_AFTER_SECONDS = 2.0


class Notifier(Protocol):
    """Receives the notifications for one farm and sends those for others. A lost one delays a grant by a second."""

    def wait(self, seconds: float, *, expects_grant: bool) -> None:
        """Return after a notification, after `interrupt`, or after so many seconds.

        Args:
            seconds: the longest wait.
            expects_grant: without it, notifications from other farms may be ignored.
        """

    def interrupt(self) -> None:
        """End the current `wait`, or the next one; may be called from any thread."""

    def notify(self, owners: Iterable[str]) -> None:
        """Notify other farms of grants that are committed; failures are ignored, because every farm also polls."""

    def close(self) -> None:
        """Close its connection; no thread may be in `wait`."""


def make_notifier(database: LeaseDatabase, owner: str) -> Notifier:
    """Return the notifier of the farm `owner` for a database."""
    return SqliteNotifier(database.path, owner) if database.is_sqlite else PostgresNotifier(database, owner)


class SqliteNotifier:
    """Polls the database on a connection of its own.

    `PRAGMA data_version` changes with every commit of another connection. Only then the farm's own tickets are read, so
    that heartbeats of other farms wake no thread.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self._path, self._owner = path, owner
        # A queue rather than an Event: a timed wait for an Event takes a third more processor time.
        self._interrupts: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._version: int | None = None
        self._grants: list[tuple[str, int | None]] | None = None
        self._changed_at = time.monotonic()

    def wait(self, seconds: float, *, expects_grant: bool) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if expects_grant and self._is_changed():
                break
            now = time.monotonic()
            pause = deadline - now
            if expects_grant:
                pause = min(pause, self._interval(now))
            if self._is_interrupted(max(0.0, pause)) or pause <= 0:
                break

    def interrupt(self) -> None:
        self._interrupts.put(None)

    def notify(self, owners: Iterable[str]) -> None:
        """Do nothing: the commit itself is what other farms see."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _is_interrupted(self, seconds: float) -> bool:
        """Return whether an interrupt comes within so many seconds; takes all that have come."""
        try:
            self._interrupts.get(timeout=seconds)
        except queue.Empty:
            return False
        while not self._interrupts.empty():
            self._interrupts.get_nowait()
        return True

    def _interval(self, now: float) -> float:
        return POLL_SECONDS if now - self._changed_at < IDLE_AFTER_SECONDS else IDLE_POLL_SECONDS

    def _is_changed(self) -> bool:
        """Return whether the farm's tickets or their grants differ from what the last call saw."""
        try:
            if self._connection is None:
                # The keeper's thread polls, another one closes. A poll never waits for a lock: the next one is near.
                self._connection = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
                self._version = None
            # fetchall, because a statement that is not read to its end keeps its read transaction open.
            ((version,),) = self._connection.execute("PRAGMA data_version").fetchall()
            if version == self._version:
                return False
            grants = self._connection.execute(
                "SELECT ticket, token FROM crossfarm_tickets WHERE owner = ? ORDER BY ticket", (self._owner,)
            ).fetchall()
        except sqlite3.Error:
            self.close()
            return False
        self._version = version
        is_changed = grants != self._grants
        if is_changed:
            self._grants, self._changed_at = grants, time.monotonic()
        return is_changed


class PostgresNotifier:
    """A channel of PostgreSQL's LISTEN and NOTIFY; connects again after the database was restarted."""

    def __init__(self, database: LeaseDatabase, owner: str) -> None:
        self._database, self._channel = database, _channel(owner)
        self._interrupt_read, self._interrupt_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._connection: Any = None
        self._listen()

    def wait(self, seconds: float, *, expects_grant: bool) -> None:
        if self._connection is None or self._connection.closed:
            self._listen()
        files = [self._interrupt_read]
        if self._connection is not None:
            files.append(self._connection.fileno())
        ready = select.select(files, [], [], max(0.0, seconds))[0]
        if self._interrupt_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._interrupt_read, 65536)
        if len(ready) > (self._interrupt_read in ready):
            self._read()

    def interrupt(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):  # a full pipe already interrupts
            if self._interrupt_write >= 0:
                os.write(self._interrupt_write, b"!")

    def notify(self, owners: Iterable[str]) -> None:
        channels = [_channel(owner) for owner in owners]
        if channels:
            with contextlib.suppress(LeaseError):
                self._database.transaction(
                    lambda connection: _notify(connection, channels), alone=False, retry_seconds=0.0
                )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        with self._lock:
            os.close(self._interrupt_read)
            os.close(self._interrupt_write)
            self._interrupt_write = -1

    def _listen(self) -> None:
        """Connect and listen. While the database cannot be reached there are no notifications."""
        import psycopg

        try:
            self._connection = psycopg.connect(self._database.url, autocommit=True, connect_timeout=5)
            self._connection.execute(f'LISTEN "{self._channel}"')
        except psycopg.Error:
            self._connection = None

    def _read(self) -> None:
        import psycopg

        try:
            for _ in self._connection.notifies(timeout=0):
                pass
        except psycopg.Error:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def _channel(owner: str) -> str:
    return f"crossfarm_{owner}"


def _notify(connection: sa.Connection, channels: Iterable[str]) -> None:
    for channel in channels:
        connection.execute(sa.text("SELECT pg_notify(:channel, '')"), {"channel": channel})
