"""The transactions of the leases: request, grant, heartbeat, release, health.

A lease is a ticket that a board's row names. An expired ticket is deleted, and its board becomes free.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from crossfarm.boards.leases.database import BOARDS, TICKETS, USERS, LeaseDatabase
from crossfarm.boards.leases.health import Health
from crossfarm.boards.leases.rules import Waiting, assign


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaseRequest:
    """What somebody asks for.

    Attributes:
        ticket: an id that nobody else has.
        owner: id of the farm that is notified when a board is granted.
        user: who asks; boards are shared out fairly between users.
        purpose: what for, one line.
        priority: higher goes first.
        is_probe: to look at a board, not to use it: it need not be healthy.
        boards: names of the boards that would do.
    """

    ticket: str
    owner: str
    user: str
    purpose: str
    priority: int
    is_probe: bool
    boards: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TicketRow:
    """A request as the database has it.

    Attributes:
        number: grows with every request.
        board: granted; None while it waits.
        token: of the grant.
        since: seconds since the epoch: when it was asked for or, with a board, granted.
    """

    number: int
    ticket: str
    owner: str
    user: str
    purpose: str
    priority: int
    is_probe: bool
    boards: tuple[str, ...]
    board: str | None
    token: int | None
    beat: int
    expires: float
    boot: str
    since: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardRow:
    """A board as the database has it; `ticket` may name one that is gone."""

    name: str
    token: int
    ticket: str | None
    health: Health


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """For how long things hold, in seconds.

    Attributes:
        ttl: after so long without a heartbeat a lease has ended.
        beat: between two heartbeats.
        take: within so long a grant must be followed by a heartbeat, lest a board be kept for one who is gone.
        grace: a ticket that has expired by a clock that can be set is also watched for so long without a heartbeat.
    """

    ttl: float
    beat: float
    take: float
    grace: float


def lease_times(ttl: float, *, is_clock_safe: bool) -> LeaseTimes:
    """Return the terms that belong to a time to live; 30 s gives heartbeats every 3 s."""
    return LeaseTimes(ttl=ttl, beat=ttl / 10, take=ttl / 3, grace=0.0 if is_clock_safe else ttl / 7.5)


class HeartbeatMonitor:
    """What one farm has seen of tickets' heartbeats, and when on its own steady clock.

    Where the database's clock can be set, it alone ends no lease: a jump forward must not free a live one, a jump back
    must not keep a dead one. A heartbeat that stays away by the steady clock of any one watcher proves a lease dead.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def silence(self, ticket: str, beat: int) -> float:
        """Return for how many seconds this farm has seen no new heartbeat of a ticket; 0 at the first look."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        known = self._seen.get(ticket)
        if known is None or known[0] != beat:
            self._seen[ticket] = (beat, now)
            return 0.0
        return now - known[1]

    def forget_all_but(self, tickets: Iterable[str]) -> None:
        """Drop what is known about tickets that are gone."""
        kept = set(tickets)
        self._seen = {ticket: seen for ticket, seen in self._seen.items() if ticket in kept}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaseQueue:
    """The transactions, for one database and one watcher."""

    database: LeaseDatabase
    times: LeaseTimes
    monitor: HeartbeatMonitor

    def ask(self, connection: sa.Connection, request: LeaseRequest) -> set[str]:
        """Enter a request, once however often this is called, and hand out boards; returns the owners to notify."""
        self._know(connection, request.boards)
        there = sa.select(TICKETS.c.ticket).where(TICKETS.c.ticket == request.ticket)
        if connection.execute(there).first() is None:
            connection.execute(
                sa.insert(TICKETS).values(
                    **dataclasses.asdict(request) | {"boards": json.dumps(request.boards)},
                    beat=0,
                    expires=self._expiry(self.database.now(connection)),
                    boot=self.database.boot,
                    since=time.time(),
                )
            )
        return self.grant_free_boards(connection)

    def beat(self, connection: sa.Connection, tickets: Sequence[str]) -> None:
        """Keep tickets alive."""
        if tickets:
            connection.execute(
                sa.update(TICKETS)
                .where(TICKETS.c.ticket.in_(tickets))
                .values(
                    beat=TICKETS.c.beat + 1,
                    expires=self._expiry(self.database.now(connection)),
                    boot=self.database.boot,
                )
            )

    def end(self, connection: sa.Connection, tickets: Sequence[str]) -> set[str]:
        """End tickets, waiting or granted, and hand out what becomes free; returns the owners to notify."""
        connection.execute(sa.delete(TICKETS).where(TICKETS.c.ticket.in_(tickets)))
        connection.execute(sa.update(BOARDS).where(BOARDS.c.ticket.in_(tickets)).values(ticket=None))
        return self.grant_free_boards(connection)

    def holds(self, connection: sa.Connection, *, ticket: str, board: str, token: int) -> bool:
        """Return whether a ticket holds a board with this token, and keep it alive."""
        self.beat(connection, [ticket])
        row = connection.execute(
            sa.select(BOARDS.c.token)
            .join(TICKETS, TICKETS.c.ticket == BOARDS.c.ticket)
            .where(BOARDS.c.name == board, BOARDS.c.ticket == ticket, BOARDS.c.token == token)
        ).first()
        return row is not None

    def grant_free_boards(self, connection: sa.Connection) -> set[str]:
        """End what has expired, grant free boards to those who wait; returns the owners to notify."""
        now = self.database.now(connection)
        rows = self._alive(connection, now)
        tickets = {row.ticket: row for row in rows}
        boards = self.boards(connection)
        free = [board.name for board in boards if board.ticket not in tickets]
        good = {board.name for board in boards if board.health.state == "good"}
        held: dict[str, int] = {}
        for row in rows:
            if row.board is not None:
                held[row.user] = held.get(row.user, 0) + 1
        waiting = [
            Waiting(
                ticket=row.ticket,
                number=row.number,
                user=row.user,
                priority=row.priority,
                boards=frozenset(row.boards) if row.is_probe else good.intersection(row.boards),
            )
            for row in rows
            if row.board is None
        ]
        last = {user: int(number) for user, number in connection.execute(sa.select(USERS.c.user, USERS.c.last))}
        tokens = {board.name: board.token for board in boards}
        made = assign(free=free, waiting=waiting, held=held, last=last)
        for grant in made:
            token = tokens[grant.board] + 1
            connection.execute(
                sa.update(BOARDS).where(BOARDS.c.name == grant.board).values(ticket=grant.ticket, token=token)
            )
            connection.execute(
                sa.update(TICKETS)
                .where(TICKETS.c.ticket == grant.ticket)
                .values(
                    board=grant.board,
                    token=token,
                    since=time.time(),
                    expires=min(tickets[grant.ticket].expires, now + self.times.take - self.times.grace),
                )
            )
            _count_grant(connection, grant.user, last)
        return {tickets[grant.ticket].owner for grant in made}

    def rows(self, connection: sa.Connection, *, owner: str | None = None) -> list[TicketRow]:
        """Return all tickets, or those of one owner, in the order of asking."""
        wanted = sa.select(TICKETS).order_by(TICKETS.c.number)
        if owner is not None:
            wanted = wanted.where(TICKETS.c.owner == owner)
        found = connection.execute(wanted).mappings()
        return [TicketRow(**{**row, "boards": tuple(json.loads(row["boards"]))}) for row in found]

    def boards(self, connection: sa.Connection) -> list[BoardRow]:
        """Return every board that was ever heard of, the one with the fewest grants first."""
        rows = connection.execute(sa.select(BOARDS).order_by(BOARDS.c.token, BOARDS.c.name))
        return [
            BoardRow(name=row.name, token=int(row.token), ticket=row.ticket, health=_read_health(row.health))
            for row in rows
        ]

    def health(self, connection: sa.Connection, board: str) -> Health:
        """Return the health of a board; one that was never heard of is good."""
        text = connection.execute(sa.select(BOARDS.c.health).where(BOARDS.c.name == board)).scalar()
        return _read_health(text or "{}")

    def set_health(self, connection: sa.Connection, board: str, health: Health) -> set[str]:
        """Write the health of a board, and hand it out if it became good; returns the owners to notify."""
        self._know(connection, [board])
        text = json.dumps(dataclasses.asdict(health))
        connection.execute(sa.update(BOARDS).where(BOARDS.c.name == board).values(health=text))
        return self.grant_free_boards(connection)

    def _alive(self, connection: sa.Connection, now: float) -> list[TicketRow]:
        """Return all tickets that live; those that have expired go, unless a heartbeat came between."""
        alive: list[TicketRow] = []
        for row in self.rows(connection):
            if not self._is_dead(row, now):
                alive.append(row)
                continue
            gone = connection.execute(
                sa.delete(TICKETS).where(TICKETS.c.ticket == row.ticket, TICKETS.c.beat == row.beat)
            )
            if gone.rowcount == 0:
                alive.append(row)
            else:
                connection.execute(sa.update(BOARDS).where(BOARDS.c.ticket == row.ticket).values(ticket=None))
        self.monitor.forget_all_but(row.ticket for row in alive)
        return alive

    def _is_dead(self, row: TicketRow, now: float) -> bool:
        if self.database.is_sqlite:
            return row.boot != self.database.boot or row.expires <= now
        silence = self.monitor.silence(row.ticket, row.beat)
        return silence >= self.times.ttl or (row.expires <= now and silence >= self.times.grace)

    def _expiry(self, now: float) -> float:
        return now + self.times.ttl - self.times.grace

    def _know(self, connection: sa.Connection, names: Iterable[str]) -> None:
        """Enter boards that were never heard of."""
        wanted = set(names)
        known = set(connection.execute(sa.select(BOARDS.c.name).where(BOARDS.c.name.in_(wanted))).scalars())
        for name in sorted(wanted - known):
            connection.execute(sa.insert(BOARDS).values(name=name))


def _count_grant(connection: sa.Connection, user: str, last: dict[str, int]) -> None:
    number = max(last.values(), default=0) + 1
    if user in last:
        connection.execute(sa.update(USERS).where(USERS.c.user == user).values(last=number))
    else:
        connection.execute(sa.insert(USERS).values(user=user, last=number))
    last[user] = number


def _read_health(text: str) -> Health:
    raw = json.loads(text)
    return Health(**raw | {"falls": tuple(raw.get("falls", ()))})
