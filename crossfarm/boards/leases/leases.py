"""Leases: exclusive claims on boards that end by themselves.

A lease lives as long as its holder's heartbeats come. Each grant carries a fencing token, larger than all before it for
this board: a holder that comes back after its lease went to another is recognised by its smaller token.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from crossfarm.boards.leases.database import LeaseDatabase, boot_time
from crossfarm.boards.leases.health import Health
from crossfarm.boards.leases.notify import Notifier, make_notifier
from crossfarm.boards.leases.queue import HeartbeatMonitor, LeaseQueue, LeaseRequest, TicketRow, lease_times
from crossfarm.errors import LeaseError

TTL_SECONDS = 30.0
SAFETY_SECONDS = 1.0
"""A waiting farm reads the database at least this often: a notification may be lost, and a holder may be killed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lease:
    """A board that is ours for now.

    Attributes:
        ticket: the request that it was granted for.
        board: name of the board.
        token: the fencing token.
    """

    ticket: str
    board: str
    token: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardStatus:
    """A board as all farms see it: its health, its last token, and the ticket that holds it."""

    name: str
    health: Health
    token: int
    holder: TicketRow | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaseStatus:
    """All boards that were ever heard of, those who wait in the order of asking, and the clock of the leases."""

    now: float
    boards: dict[str, BoardStatus]
    waiting: tuple[TicketRow, ...]


Callback = Callable[[Lease | None], None]
"""Is called with a lease when it is granted, and with None when the request or the lease was lost."""


@dataclasses.dataclass(kw_only=True)
class _Own:
    """One of our tickets: whom to tell, until when it surely lives on CLOCK_BOOTTIME, whether the database has it."""

    callback: Callback
    lives_until: float
    is_asked: bool = False
    lease: Lease | None = None


class Leases:
    """One farm's requests and leases. A thread of its own keeps them alive and hears of grants."""

    def __init__(self, database: str, *, ttl: float = TTL_SECONDS, clock: Callable[[], float] = boot_time) -> None:
        """Connect.

        Args:
            database: URL, `sqlite:///PATH` or `postgresql://...`.
            ttl: seconds after the last heartbeat at which a lease ends; all who share a database use the same.
            clock: the steady clock of this host, in seconds.

        Raises:
            LeaseError: the database cannot be used.
        """
        self.url = database
        self._database = LeaseDatabase(database, retry_seconds=ttl / 2, clock=clock)
        self._times = lease_times(ttl, is_clock_safe=self._database.is_sqlite)
        self._queue = LeaseQueue(database=self._database, times=self._times, monitor=HeartbeatMonitor())
        self._owner = uuid.uuid4().hex
        self._own: dict[str, _Own] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._notifier: Notifier = make_notifier(self._database, self._owner)
        self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
        self._keeper.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(
        self,
        boards: Sequence[str],
        *,
        user: str,
        purpose: str,
        callback: Callback,
        priority: int = 0,
        is_probe: bool = False,
    ) -> str:
        """Ask for one of some boards.

        Args:
            boards: names of those that would do.
            user: who asks.
            purpose: what for, one line.
            callback: is called from another thread, once with the lease and perhaps later with None.
            priority: higher goes first.
            is_probe: to look at a board, not to use it: it need not be healthy.

        Returns:
            The ticket.

        Raises:
            LeaseError: the database cannot be used.
        """
        ticket = uuid.uuid4().hex
        request = LeaseRequest(
            ticket=ticket,
            owner=self._owner,
            user=user[:200],
            purpose=purpose[:500],
            priority=priority,
            is_probe=is_probe,
            boards=tuple(boards),
        )
        with self._lock:
            self._own[ticket] = _Own(callback=callback, lives_until=self._database.clock() + self._times.ttl)
        try:
            owners = self._database.transaction(lambda connection: self._queue.ask(connection, request))
        except LeaseError:
            with self._lock:
                self._own.pop(ticket, None)
            raise
        with self._lock:
            own = self._own.get(ticket)
            if own is not None:
                own.is_asked = True
        self._notify(owners)
        self._notifier.interrupt()
        return ticket

    def acquire(
        self,
        boards: Sequence[str],
        *,
        user: str,
        purpose: str,
        timeout: float,
        priority: int = 0,
        is_probe: bool = False,
    ) -> Lease:
        """Ask for a board and wait for it; the arguments are those of `request`.

        Args:
            timeout: seconds to wait.

        Raises:
            LeaseError: none was granted in time.
        """
        deadline = time.monotonic() + timeout
        while not self._closed.is_set():
            granted = threading.Event()
            answers: list[Lease | None] = []

            def callback(
                lease: Lease | None, *, granted: threading.Event = granted, answers: list[Lease | None] = answers
            ) -> None:
                answers.append(lease)
                granted.set()

            ticket = self.request(
                boards, user=user, purpose=purpose, callback=callback, priority=priority, is_probe=is_probe
            )
            granted.wait(max(0.0, deadline - time.monotonic()))
            if answers and answers[0] is not None:
                return answers[0]
            self.withdraw(ticket)
            if not answers:
                raise LeaseError(
                    f"none of {', '.join(boards)} was granted within {timeout:g} s; ./inv boards shows why"
                )
        raise LeaseError("the leases were closed meanwhile; ask again")

    def confirm(self, lease: Lease) -> None:
        """Make sure that a lease still lives, and keep it alive; for the moment before a result is stored.

        Raises:
            LeaseError: it went to another, or the database cannot be asked.
        """
        holds = self._database.transaction(
            lambda connection: self._queue.holds(connection, ticket=lease.ticket, board=lease.board, token=lease.token),
        )
        if not holds:
            raise LeaseError(
                f"the lease on {lease.board} (token {lease.token}) ended before the work on it did; "
                "was this host asleep, or cut off from the database?"
            )

    def is_live(self, lease: Lease) -> bool:
        """Return whether a lease surely lives by what this farm knows, without asking the database."""
        with self._lock:
            own = self._own.get(lease.ticket)
            return own is not None and own.lease == lease and self._database.clock() < own.lives_until

    def release(self, lease: Lease) -> None:
        """Give a board back; one whose lease ended before changes nothing.

        Raises:
            LeaseError: the database cannot be used; the lease ends by itself then.
        """
        self.withdraw(lease.ticket)

    def withdraw(self, ticket: str) -> None:
        """End a request, waiting or granted.

        Raises:
            LeaseError: the database cannot be used.
        """
        with self._lock:
            self._own.pop(ticket, None)
        self._notify(self._database.transaction(lambda connection: self._queue.end(connection, [ticket])))

    def status(self) -> LeaseStatus:
        """Return all boards and all who wait.

        Raises:
            LeaseError: the database cannot be used.
        """
        status, owners = self._database.transaction(self._read_status)
        self._notify(owners)
        return status

    def change_health(self, board: str, change: Callable[[Health, float], Health]) -> Health:
        """Change the health of a board; one that becomes good is granted to who waits for it.

        Args:
            board: its name.
            change: gets the health as it is and the time on the clock of the leases, returns what it is to be. It may
                be called several times.

        Raises:
            LeaseError: the database cannot be used.
        """

        def work(connection: sa.Connection) -> tuple[Health, set[str]]:
            before = self._queue.health(connection, board)
            after = change(before, self._database.now(connection))
            return after, self._queue.set_health(connection, board, after) if after != before else set()

        health, owners = self._database.transaction(work)
        self._notify(owners)
        return health

    def close(self) -> None:
        """Give everything back and end."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._notifier.interrupt()
        self._keeper.join()
        with self._lock:
            owned = dict(self._own)
            self._own.clear()
        tickets = list(owned)
        for own in owned.values():
            if own.lease is None:
                own.callback(None)
        if tickets:
            with contextlib.suppress(LeaseError):  # they end by themselves
                self._notify(self._database.transaction(lambda connection: self._queue.end(connection, tickets)))
        self._notifier.close()
        self._database.close()

    def _notify(self, owners: Iterable[str]) -> None:
        others = set(owners)
        if self._owner in others:
            self._notifier.interrupt()
        self._notifier.notify(others - {self._owner})

    def _keep(self) -> None:
        """Keep our tickets alive and hear of grants, until the end. Without a database: try again, soon."""
        next_beat = 0.0
        while not self._closed.is_set():
            is_waiting = self._is_waiting()
            pause = min(self._times.beat, SAFETY_SECONDS) if is_waiting else self._times.beat
            next_beat = min(next_beat, time.monotonic() + pause)
            try:
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + pause
                    is_news = self._beat(is_waiting=is_waiting)
                else:
                    is_news = self._look()
            except LeaseError:
                is_news = False
                next_beat = time.monotonic() + min(self._times.beat, SAFETY_SECONDS)
            if is_news:  # a grant that no heartbeat follows is taken back
                next_beat = 0.0
            self._notifier.wait(next_beat - time.monotonic(), expects_grant=self._is_waiting())

    def _is_waiting(self) -> bool:
        with self._lock:
            return any(own.lease is None for own in self._own.values())

    def _asked(self) -> list[str]:
        with self._lock:
            return [ticket for ticket, own in self._own.items() if own.is_asked]

    def _beat(self, *, is_waiting: bool) -> bool:
        """Send a heartbeat; returns whether something was granted."""
        tickets = self._asked()
        if not tickets:
            return False
        sent = self._database.clock()

        def work(connection: sa.Connection) -> tuple[list[TicketRow], set[str]]:
            self._queue.beat(connection, tickets)
            owners = self._queue.grant_free_boards(connection) if is_waiting else set()
            return self._queue.rows(connection, owner=self._owner), owners

        rows, owners = self._database.transaction(work, retry_seconds=self._times.beat)
        with self._lock:
            for row in rows:
                if row.ticket in tickets and row.ticket in self._own:
                    self._own[row.ticket].lives_until = sent + self._times.ttl - self._times.grace
        self._notify(owners)
        return self._settle(tickets, rows)

    def _look(self) -> bool:
        """See what was granted; returns whether something was."""
        tickets = self._asked()
        if not tickets:
            return False
        rows = self._database.transaction(
            lambda connection: self._queue.rows(connection, owner=self._owner), alone=False, retry_seconds=0.0
        )
        return self._settle(tickets, rows)

    def _settle(self, tickets: Sequence[str], rows: Sequence[TicketRow]) -> bool:
        """Tell of grants that are new, and of tickets that are gone; returns whether there were grants."""
        there = {row.ticket: row for row in rows}
        news: list[tuple[Callback, Lease | None]] = []
        with self._lock:
            for ticket in tickets:
                own, row = self._own.get(ticket), there.get(ticket)
                if own is None:
                    continue
                if row is None:
                    self._own.pop(ticket)
                    news.append((own.callback, None))
                elif row.board is not None and row.token is not None and own.lease is None:
                    own.lease = Lease(ticket=ticket, board=row.board, token=row.token)
                    own.lives_until = min(
                        own.lives_until, self._database.clock() + self._times.take - self._times.grace
                    )
                    news.append((own.callback, own.lease))
        for callback, lease in news:
            callback(lease)
        return any(lease is not None for _, lease in news)

    def _read_status(self, connection: sa.Connection) -> tuple[LeaseStatus, set[str]]:
        """Return the status after what has expired has gone, and the farms to notify of new grants."""
        owners = self._queue.grant_free_boards(connection)
        rows = self._queue.rows(connection)
        boards = self._queue.boards(connection)
        holders = {row.ticket: row for row in rows}
        status = LeaseStatus(
            now=self._database.now(connection),
            boards={
                row.name: BoardStatus(
                    name=row.name, health=row.health, token=row.token, holder=holders.get(row.ticket or "")
                )
                for row in boards
            },
            waiting=tuple(row for row in rows if row.board is None),
        )
        return status, owners
