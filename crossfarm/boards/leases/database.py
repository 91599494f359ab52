"""The database of the leases: its tables, its clock, and transactions that survive its restart.

SQLite serves the farms of one host: its clock is CLOCK_BOOTTIME, which no one can set, together with the id of the
boot. PostgreSQL serves many hosts: its own clock counts, never that of a farm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from crossfarm.errors import LeaseError
from crossfarm.util.database_url import shown_url, without_secrets
from crossfarm.util.text import one_line

METADATA = sa.MetaData()

BOARDS = sa.Table(
    "crossfarm_boards",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False, default=0),
    sa.Column("ticket", sa.String(64)),
    sa.Column("health", sa.Text, nullable=False, default="{}"),
)
"""One row a board: its last token, and the ticket that holds it; none when there is no such ticket any more."""

TICKETS = sa.Table(
    "crossfarm_tickets",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("ticket", sa.String(64), nullable=False, unique=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("user", sa.String(200), nullable=False),
    sa.Column("purpose", sa.String(500), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("is_probe", sa.Boolean, nullable=False),
    sa.Column("boards", sa.Text, nullable=False),
    sa.Column("board", sa.String(64)),
    sa.Column("token", sa.BigInteger),
    sa.Column("beat", sa.BigInteger, nullable=False, default=0),
    sa.Column("expires", sa.Float(53), nullable=False),
    sa.Column("boot", sa.String(64), nullable=False, default=""),
    sa.Column("since", sa.Float(53), nullable=False),
    sqlite_autoincrement=True,
)
"""One row a request, waiting or granted; it goes when the lease ends.

`owner` is the farm to notify; `beat` grows with every heartbeat; `expires` is on the clock of the leases; `since` is
when it was asked for, or granted, in seconds since the epoch, for people.
"""

USERS = sa.Table(
    "crossfarm_users",
    METADATA,
    sa.Column("user", sa.String(200), primary_key=True),
    sa.Column("last", sa.BigInteger, nullable=False),
)
"""Number of each user's last grant."""

LOCK_NUMBER = 0x63726F7373
"""PostgreSQL's advisory lock under which boards are granted; the bytes of `cross`."""
IDLE_MILLISECONDS = 1000
_BUSY_SECONDS = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

_Result = TypeVar("_Result")


def boot_time() -> float:
    """Return the seconds since this host was started, sleep included. This clock cannot be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseDatabase:
    """Transactions on the database of the leases; may be used by many threads."""

    def __init__(self, url: str, *, retry_seconds: float, clock: Callable[[], float] = boot_time) -> None:
        """Connect, and make the tables where they are missing.

        Args:
            url: `sqlite:///PATH` or `postgresql://...`.
            retry_seconds: seconds for which a transaction is tried again while the database cannot be reached.
            clock: the steady clock of this host, in seconds; SQLite's leases expire by it.

        Raises:
            LeaseError: it cannot be reached, or cannot be used.
        """
        self.url, self.clock = url, clock
        self.is_sqlite = url.startswith("sqlite:")
        self.retry_seconds = retry_seconds
        self.boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip() if self.is_sqlite else ""
        self._engine = _sqlite(url) if self.is_sqlite else _postgresql(url)
        try:
            if self.is_sqlite:
                self.transaction(_write_ahead, alone=False)
            self.transaction(METADATA.create_all)
        except LeaseError:
            self._engine.dispose()
            raise

    @property
    def path(self) -> Path:
        """Return the file of a SQLite database."""
        return _sqlite_path(self.url)

    def now(self, connection: sa.Connection) -> float:
        """Return seconds on the clock of the leases."""
        if self.is_sqlite:
            return self.clock()
        return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def transaction(
        self, work: Callable[[sa.Connection], _Result], *, alone: bool = True, retry_seconds: float | None = None
    ) -> _Result:
        """Run `work` in a transaction; when the database goes away meanwhile, all of it again.

        Args:
            work: may be called several times.
            alone: no other transaction that is to be alone runs at the same time.
            retry_seconds: seconds to try, in place of the database's own.

        Raises:
            LeaseError: the database could not be reached for that long, or refused.
        """
        deadline = time.monotonic() + (self.retry_seconds if retry_seconds is None else retry_seconds)
        pause = _FIRST_PAUSE
        while True:
            try:
                with self._begun(alone=alone) as connection:
                    return work(connection)
            except sa.exc.DBAPIError as error:
                may_pass = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.InternalError)
                if not may_pass or time.monotonic() + pause > deadline:
                    raise self._failed(error) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _begun(self, *, alone: bool) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(crossfarm_alone=alone) as connection, connection.begin():
            if alone and not self.is_sqlite:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER})
            yield connection

    def _failed(self, error: sa.exc.DBAPIError) -> LeaseError:
        said = one_line(str(error.orig) if self.is_sqlite else without_secrets(str(error.orig), self.url))
        place = self.path if self.is_sqlite else shown_url(self.url)
        return LeaseError(
            f"the database of the leases, {place}, cannot be used: {said}; see that it runs and can be written, or "
            "name another under `database:` in boards.yaml or in CROSSFARM_DATABASE"
        )


def _sqlite_path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _sqlite(url: str) -> sa.Engine:
    """Return an engine whose transactions begin with the right to write, so that none fails half-way."""
    path = _sqlite_path(url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LeaseError(
            f"the folder of the leases, {path.parent}, cannot be made: {error.strerror}; name another database under "
            "`database:` in boards.yaml or in CROSSFARM_DATABASE"
        ) from error
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None},
    )

    def begin(connection: sa.Connection) -> None:
        alone = connection.get_execution_options().get("crossfarm_alone")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if alone else "BEGIN")

    sa.event.listen(engine, "begin", begin)
    return engine


def _write_ahead(connection: sa.Connection) -> None:
    """Let readers read while one writes. The setting stays in the file; synced it is by default, at every commit."""
    connection.exec_driver_sql("COMMIT")
    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    connection.exec_driver_sql("BEGIN")


def _postgresql(url: str) -> sa.Engine:
    try:
        plain = sa.make_url(url).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(
            plain,
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=4,
            connect_args={"connect_timeout": 5},
            hide_parameters=True,
        )
    except (sa.exc.ArgumentError, ValueError) as error:
        raise LeaseError(
            f"the database of the leases, {shown_url(url)}, has no URL that can be read; write "
            "postgresql://USER@HOST/NAME under `database:` in boards.yaml or in CROSSFARM_DATABASE"
        ) from error

    def connected(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        # A farm that is stopped in the midst of a transaction must not hold the lock that all others wait for.
        cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_MILLISECONDS}")
        cursor.close()
        connection.commit()

    sa.event.listen(engine, "connect", connected)
    return engine
