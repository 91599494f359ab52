"""The transactions of the leases, one after another on a real SQLite database, with tickets aged by hand."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from crossfarm.boards.leases.database import BOARDS, TICKETS, USERS, LeaseDatabase
from crossfarm.boards.leases.health import Health, quarantined
from crossfarm.boards.leases.queue import HeartbeatMonitor, LeaseQueue, LeaseRequest, TicketRow, lease_times

TTL = 30.0


class Farm:
    """One farm's view of a database, a transaction per call."""

    def __init__(self, path: Path) -> None:
        self.database = LeaseDatabase(f"sqlite:///{path}", retry_seconds=5.0)
        self.times = lease_times(TTL, is_clock_safe=True)
        self.queue = LeaseQueue(database=self.database, times=self.times, monitor=HeartbeatMonitor())

    def do(self, work: Callable[[sa.Connection], Any]) -> Any:
        return self.database.transaction(work)

    def ask(self, ticket: str, *boards: str, is_probe: bool = False, user: str = "ada") -> None:
        request = LeaseRequest(
            ticket=ticket,
            owner="farm",
            user=user,
            purpose="a test",
            priority=0,
            is_probe=is_probe,
            boards=boards or ("pi",),
        )
        self.do(lambda connection: self.queue.ask(connection, request))

    def rows(self) -> dict[str, TicketRow]:
        found: list[TicketRow] = self.do(self.queue.rows)
        return {row.ticket: row for row in found}

    def change(self, ticket: str, **values: object) -> None:
        self.do(
            lambda connection: connection.execute(sa.update(TICKETS).where(TICKETS.c.ticket == ticket).values(values))
        )

    def grant_free_boards(self) -> set[str]:
        owners: set[str] = self.do(self.queue.grant_free_boards)
        return owners

    def holds(self, ticket: str, token: int, board: str = "pi") -> bool:
        answer: bool = self.do(lambda connection: self.queue.holds(connection, ticket=ticket, board=board, token=token))
        return answer

    def now(self) -> float:
        clock: float = self.do(self.database.now)
        return clock


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path / "leases.db")
    yield made
    made.database.close()


def test_a_ticket_that_expired_goes_and_its_board_goes_to_who_waits(farm: Farm) -> None:
    farm.ask("one")
    farm.ask("other")
    assert (farm.rows()["one"].board, farm.rows()["other"].board) == ("pi", None)
    farm.change("one", expires=farm.now() - 0.001)
    assert farm.grant_free_boards() == {"farm"}
    assert list(farm.rows()) == ["other"]
    assert (farm.rows()["other"].board, farm.rows()["other"].token) == ("pi", 2)
    assert not farm.holds("one", 1)


def test_a_ticket_that_has_time_left_keeps_its_board(farm: Farm) -> None:
    farm.ask("one")
    farm.ask("other")
    farm.change("one", expires=farm.now() + 5)
    assert farm.grant_free_boards() == set()
    assert farm.rows()["one"].board == "pi"


def test_a_ticket_from_before_a_restart_of_this_host_is_dead_whatever_its_time(farm: Farm) -> None:
    farm.ask("one")
    farm.change("one", boot="another boot", expires=farm.now() + 1000)
    farm.grant_free_boards()
    assert farm.rows() == {}


def test_a_request_that_expired_while_it_waited_is_granted_nothing(farm: Farm) -> None:
    farm.ask("one")
    farm.ask("gone")
    farm.ask("third")
    farm.change("gone", expires=farm.now() - 1)
    farm.do(lambda connection: farm.queue.end(connection, ["one"]))
    assert list(farm.rows()) == ["third"]
    assert farm.rows()["third"].board == "pi"


def test_a_heartbeat_gives_a_whole_life_and_counts(farm: Farm) -> None:
    farm.ask("one")
    before = farm.rows()["one"]
    farm.do(lambda connection: farm.queue.beat(connection, ["one"]))
    after = farm.rows()["one"]
    assert after.beat == before.beat + 1
    assert TTL - 5 < after.expires - farm.now() <= TTL


def test_a_grant_without_a_heartbeat_lives_for_a_third_of_a_life_only(farm: Farm) -> None:
    farm.ask("one")
    left = farm.rows()["one"].expires - farm.now()
    assert 0 < left <= TTL / 3


def test_a_lease_is_confirmed_for_its_ticket_its_board_and_its_token_alone(farm: Farm) -> None:
    farm.ask("one", "pi")
    farm.ask("other", "pi2")
    assert farm.holds("one", 1)
    assert not farm.holds("one", 0)
    assert not farm.holds("one", 2)
    assert not farm.holds("one", 1, board="pi2")
    assert not farm.holds("other", 1)


def test_each_grant_of_a_board_has_the_next_token_and_other_boards_have_their_own(farm: Farm) -> None:
    for number in range(1, 4):
        farm.ask(f"ticket{number}")
        assert farm.rows()[f"ticket{number}"].token == number
        farm.do(lambda connection, number=number: farm.queue.end(connection, [f"ticket{number}"]))
    farm.ask("fresh", "pi2")
    assert farm.rows()["fresh"].token == 1
    tokens = dict(farm.do(lambda connection: connection.execute(sa.select(BOARDS.c.name, BOARDS.c.token)).all()))
    assert tokens == {"pi": 3, "pi2": 1}


@pytest.mark.parametrize("health", [Health(state="bad", reason="it fell"), quarantined(reason="the fan", wall=1.0)])
def test_a_board_that_is_not_good_is_granted_to_probes_alone(farm: Farm, health: Health) -> None:
    farm.do(lambda connection: farm.queue.set_health(connection, "pi", health))
    farm.ask("job")
    assert farm.rows()["job"].board is None
    farm.ask("probe", is_probe=True)
    assert farm.rows()["probe"].board == "pi"
    farm.do(lambda connection: farm.queue.end(connection, ["probe"]))
    assert farm.rows()["job"].board is None
    farm.do(lambda connection: farm.queue.set_health(connection, "pi", Health()))
    assert farm.rows()["job"].board == "pi"


def test_a_job_that_could_use_a_bad_board_or_a_good_one_gets_the_good_one(farm: Farm) -> None:
    farm.do(lambda connection: farm.queue.set_health(connection, "bad", Health(state="bad")))
    farm.ask("job", "bad", "good")
    assert farm.rows()["job"].board == "good"


def request(ticket: str, *boards: str, **changes: Any) -> LeaseRequest:
    fields: dict[str, Any] = {
        "ticket": ticket,
        "owner": "farm",
        "user": "ada",
        "purpose": "a test",
        "priority": 0,
        "is_probe": False,
        "boards": boards or ("pi",),
    }
    return LeaseRequest(**(fields | changes))


def test_terms_are_shares_of_the_time_to_live() -> None:
    assert dataclasses.asdict(lease_times(30.0, is_clock_safe=True)) == {
        "ttl": 30.0,
        "beat": 3.0,
        "take": 10.0,
        "grace": 0.0,
    }
    assert lease_times(30.0, is_clock_safe=False).grace == 4.0


def test_a_watcher_counts_the_seconds_since_it_saw_a_new_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock if which == time.CLOCK_BOOTTIME else None)
    watch = HeartbeatMonitor()
    assert watch.silence("one", 1) == 0.0
    assert watch.silence("other", 1) == 0.0
    clock = 103.0
    assert watch.silence("one", 1) == 3.0
    assert watch.silence("one", 2) == 0.0
    clock = 107.0
    assert watch.silence("one", 2) == 4.0
    watch.forget_all_but(["other"])
    assert watch.silence("one", 2) == 0.0
    assert watch.silence("other", 1) == 7.0


def test_a_request_is_entered_once_with_all_that_it_says(farm: Farm) -> None:
    asked = request("one", "pi", "pi2", owner="me", user="bob", purpose="why", priority=3)
    before, now = time.time(), farm.now()
    assert farm.do(lambda connection: farm.queue.ask(connection, asked)) == {"me"}
    first = farm.rows()["one"]
    assert first == TicketRow(
        number=1,
        ticket="one",
        owner="me",
        user="bob",
        purpose="why",
        priority=3,
        is_probe=False,
        boards=("pi", "pi2"),
        board="pi",
        token=1,
        beat=0,
        expires=first.expires,
        boot=farm.database.boot,
        since=first.since,
    )
    assert before <= first.since <= time.time()
    assert now + TTL / 3 - 0.001 <= first.expires <= farm.now() + TTL / 3
    assert farm.do(lambda connection: farm.queue.ask(connection, asked)) == set()
    assert farm.rows()["one"] == first
    farm.ask("waits", is_probe=True)
    waits = farm.rows()["waits"]
    assert (waits.number, waits.board, waits.token, waits.is_probe) == (2, None, None, True)
    assert TTL - 5 < waits.expires - farm.now() <= TTL


def test_tickets_of_one_owner_stand_in_the_order_of_asking(farm: Farm) -> None:
    for ticket, owner in (("c", "me"), ("b", "other"), ("a", "me")):
        asked = request(ticket, owner=owner)
        farm.do(lambda connection, asked=asked: farm.queue.ask(connection, asked))
    assert list(farm.rows()) == ["c", "b", "a"]
    mine = farm.do(lambda connection: farm.queue.rows(connection, owner="me"))
    assert [row.ticket for row in mine] == ["c", "a"]


def test_heartbeats_and_ends_are_for_those_tickets_alone(farm: Farm) -> None:
    for ticket in ("one", "two", "three"):
        farm.ask(ticket, f"board of {ticket}")
    farm.do(lambda connection: farm.queue.beat(connection, []))
    farm.change("two", boot="", beat=6)
    farm.do(lambda connection: farm.queue.beat(connection, ["one", "two"]))
    assert {name: row.beat for name, row in farm.rows().items()} == {"one": 1, "two": 7, "three": 0}
    assert farm.rows()["two"].boot == farm.database.boot
    assert farm.do(lambda connection: farm.queue.end(connection, ["one", "two"])) == set()
    assert list(farm.rows()) == ["three"]
    boards = {board.name: board.ticket for board in farm.do(farm.queue.boards)}
    assert boards == {"board of one": None, "board of two": None, "board of three": "three"}


def test_a_confirmation_is_a_heartbeat(farm: Farm) -> None:
    farm.ask("one")
    assert farm.holds("one", 1)
    row = farm.rows()["one"]
    assert row.beat == 1
    assert row.expires - farm.now() > TTL / 2


def test_boards_that_were_granted_less_often_come_first(farm: Farm) -> None:
    farm.ask("one", "b")
    farm.do(lambda connection: farm.queue.end(connection, ["one"]))
    farm.ask("two", "a", "c")
    assert farm.rows()["two"].board == "a"
    assert [(board.name, board.token) for board in farm.do(farm.queue.boards)] == [("c", 0), ("a", 1), ("b", 1)]


def test_who_holds_fewer_boards_is_served_first_and_then_whose_grant_lies_longer_back(farm: Farm) -> None:
    farm.ask("own", "own")
    for board in ("pi", "pi2"):
        farm.ask(f"holder of {board}", board, user="cyd")
    farm.ask("ada", "pi", "pi2")
    for number in range(2):
        farm.ask(f"bob{number}", "pi", "pi2", user="bob")
    farm.do(lambda connection: farm.queue.end(connection, ["holder of pi", "holder of pi2"]))
    boards = {ticket: row.board for ticket, row in farm.rows().items()}
    assert boards == {"own": "own", "ada": "pi2", "bob0": "pi", "bob1": None}
    last = farm.do(lambda connection: connection.execute(sa.select(USERS.c.user, USERS.c.last)).all())
    assert dict(last) == {"ada": 5, "bob": 4, "cyd": 3}


def test_two_users_take_turns_though_neither_holds_a_board(farm: Farm) -> None:
    farm.ask("holder", user="cyd")
    for number in range(2):
        for user in ("ada", "bob"):
            farm.ask(f"{user}{number}", user=user)
    order = []
    while rows := farm.rows():
        (held,) = (row.ticket for row in rows.values() if row.board)
        order.append(held)
        farm.do(lambda connection, held=held: farm.queue.end(connection, [held]))
    assert order == ["holder", "ada0", "bob0", "ada1", "bob1"]


def test_a_grant_counts_from_its_own_time_on(farm: Farm) -> None:
    farm.ask("one")
    farm.ask("waits")
    farm.change("waits", since=1.0)
    before = time.time()
    farm.do(lambda connection: farm.queue.end(connection, ["one"]))
    assert before <= farm.rows()["waits"].since <= time.time()


def test_a_higher_priority_goes_first(farm: Farm) -> None:
    farm.ask("holder")
    for ticket, priority in (("low", 1), ("high", 2)):
        asked = request(ticket, priority=priority)
        farm.do(lambda connection, asked=asked: farm.queue.ask(connection, asked))
    farm.do(lambda connection: farm.queue.end(connection, ["holder"]))
    assert farm.rows()["high"].board == "pi"


def test_health_is_kept_and_a_board_that_was_never_heard_of_is_good(farm: Farm) -> None:
    assert farm.do(lambda connection: farm.queue.health(connection, "pi")) == Health()
    fell = Health(state="bad", reason="it fell", since=1.5, failures=2, passed=1, next_probe=9.0, falls=(1.0, 2.5))
    farm.do(lambda connection: farm.queue.set_health(connection, "pi", fell))
    farm.ask("one", "other")
    assert farm.do(lambda connection: farm.queue.health(connection, "pi")) == fell
    assert farm.do(lambda connection: farm.queue.health(connection, "other")) == Health()
    assert {board.name: board.health for board in farm.do(farm.queue.boards)} == {"pi": fell, "other": Health()}


def test_a_board_that_becomes_good_rings_who_waits(farm: Farm) -> None:
    farm.do(lambda connection: farm.queue.set_health(connection, "pi", Health(state="bad")))
    farm.ask("one")
    assert farm.do(lambda connection: farm.queue.set_health(connection, "pi", Health())) == {"farm"}


def test_a_ticket_ends_at_its_time_and_not_before(farm: Farm) -> None:
    farm.ask("one")
    row = farm.rows()["one"]
    assert farm.queue._is_dead(row, row.expires)
    assert not farm.queue._is_dead(row, row.expires - 0.001)


def test_a_heartbeat_that_came_after_the_look_keeps_a_ticket_alive(farm: Farm) -> None:
    farm.ask("one")
    farm.change("one", expires=farm.now() - 1, beat=5)

    class Late(LeaseQueue):
        def rows(self, connection: sa.Connection, *, owner: str | None = None) -> list[TicketRow]:
            return [dataclasses.replace(row, beat=row.beat - 1) for row in super().rows(connection, owner=owner)]

    late = Late(database=farm.database, times=farm.times, monitor=HeartbeatMonitor())
    assert farm.do(late.grant_free_boards) == set()
    assert farm.rows()["one"].board == "pi"


@pytest.mark.parametrize(
    ("left", "silence", "dead"),
    [
        (1.0, 29.9, False),
        (1.0, 30.0, True),
        (0.0, 3.9, False),
        (0.0, 4.0, True),
        (-100.0, 3.9, False),
        (0.001, 4.0, False),
    ],
)
def test_where_the_clock_can_be_set_time_alone_ends_no_lease(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, left: float, silence: float, dead: bool
) -> None:
    """A server's clock may jump; what proves a lease dead is that this farm saw no heartbeat for so long."""
    farm.ask("one")
    server = cast(LeaseDatabase, SimpleNamespace(is_sqlite=False, boot=""))
    queue = LeaseQueue(database=server, times=lease_times(TTL, is_clock_safe=False), monitor=HeartbeatMonitor())
    row = farm.rows()["one"]
    clock = 50.0
    monkeypatch.setattr(time, "clock_gettime", lambda _: clock)
    assert not queue._is_dead(row, row.expires - left)
    clock += silence
    assert queue._is_dead(row, row.expires - left) is dead


def test_where_the_clock_can_be_set_a_ticket_expires_earlier_by_the_time_that_it_is_watched(farm: Farm) -> None:
    server = cast(LeaseDatabase, SimpleNamespace(is_sqlite=False, boot="", now=lambda _: 1000.0))
    queue = LeaseQueue(database=server, times=lease_times(TTL, is_clock_safe=False), monitor=HeartbeatMonitor())
    farm.do(lambda connection: queue.ask(connection, request("one")))
    farm.do(lambda connection: queue.ask(connection, request("waits")))
    assert (farm.rows()["one"].expires, farm.rows()["waits"].expires) == (1006.0, 1026.0)


def test_what_a_farm_saw_of_a_ticket_is_dropped_with_it(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    farm.ask("one")
    kept: list[set[str]] = []
    monkeypatch.setattr(farm.queue.monitor, "forget_all_but", lambda tickets: kept.append(set(tickets)))
    farm.ask("other")
    farm.do(lambda connection: farm.queue.end(connection, ["one"]))
    assert kept == [{"one", "other"}, {"other"}]
