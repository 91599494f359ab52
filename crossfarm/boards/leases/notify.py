"""Bells: how one farm tells another at once that a board was granted to it. One that is not heard costs a second.

Farms that share a SQLite database are on one host: each has a named pipe beside the database. PostgreSQL carries
notifications itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from crossfarm.boards.leases.database import LeaseDatabase
from crossfarm.errors import LeaseError


class Bell(Protocol):
    """One farm's bell, and the way to ring those of others."""

    def wait(self, seconds: float) -> None:
        """Return when it was rung, or after so many seconds."""

    def wake(self) -> None:
        """Ring this very bell, from any thread."""

    def ring(self, owners: Iterable[str]) -> None:
        """Ring others' bells; what cannot be rung is left, since everyone looks by himself now and then."""

    def close(self) -> None:
        """Take the bell down."""


def make_bell(database: LeaseDatabase, owner: str) -> Bell:
    """Return the bell of `owner`, hung up.

    Raises:
        LeaseError: it cannot be made.
    """
    return (
        PipeBell(database.path.with_name(database.path.name + ".bells"), owner)
        if database.is_sqlite
        else (NotifyBell(database, owner))
    )


class PipeBell:
    """A named pipe in a folder beside the database."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder, self._path = folder, folder / owner
        hidden = folder / f".{owner}"
        try:
            folder.mkdir(exist_ok=True)
            _sweep(folder)
            os.mkfifo(hidden)
            # Open for both: so it never ends, however many ring and go.
            self._pipe = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            hidden.rename(self._path)
        except OSError as error:
            raise LeaseError(
                f"a pipe cannot be made in {folder}: {error.strerror}; name another database under `database:` in "
                "boards.yaml or in CROSSFARM_DATABASE"
            ) from error

    def wait(self, seconds: float) -> None:
        if select.select([self._pipe], [], [], max(0.0, seconds))[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._pipe, 65536)

    def wake(self) -> None:
        self.ring([self._path.name])

    def ring(self, owners: Iterable[str]) -> None:
        for owner in owners:
            path = self._folder / owner
            try:
                pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno == errno.ENXIO:  # its owner is gone
                    path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(OSError):
                os.write(pipe, b"!")
            os.close(pipe)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._pipe)


def _sweep(folder: Path) -> None:
    """Remove the pipes of those who are gone."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.ENXIO:
                path.unlink(missing_ok=True)


class NotifyBell:
    """A channel of PostgreSQL; its connection is made anew after the database was restarted."""

    def __init__(self, database: LeaseDatabase, owner: str) -> None:
        self._database, self._channel = database, _channel(owner)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._connection: Any = None
        self._listen()

    def wait(self, seconds: float) -> None:
        if self._connection is None or self._connection.closed:
            self._listen()
        files = [self._wake_read] if self._connection is None else [self._wake_read, self._connection.fileno()]
        ready = select.select(files, [], [], max(0.0, seconds))[0]
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 65536)
        if len(ready) > (self._wake_read in ready):
            self._read()

    def wake(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):  # a full pipe has been rung
            if self._wake_write >= 0:
                os.write(self._wake_write, b"!")

    def ring(self, owners: Iterable[str]) -> None:
        channels = [_channel(owner) for owner in owners]
        if channels:
            with contextlib.suppress(LeaseError):
                self._database.transaction(lambda connection: _notify(connection, channels), alone=False, patience=0.0)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        with self._lock:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1

    def _listen(self) -> None:
        """Connect and listen; while the database is away there is no bell, and its owner looks by himself."""
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
