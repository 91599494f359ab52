"""The transactions of the leases, one after another on a real SQLite database, with tickets aged by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from crossfarm.boards.health import Health, quarantined
from crossfarm.boards.lease_database import BOARDS, TICKETS, LeaseDatabase
from crossfarm.boards.lease_queue import LeaseQueue, Request, TicketRow, Watch, terms

TTL = 30.0


class Farm:
    """One farm's view of a database, a transaction per call."""

    def __init__(self, path: Path) -> None:
        self.database = LeaseDatabase(f"sqlite:///{path}", patience=5.0)
        self.terms = terms(TTL, is_clock_safe=True)
        self.queue = LeaseQueue(database=self.database, terms=self.terms, watch=Watch())

    def do(self, work: Callable[[sa.Connection], Any]) -> Any:
        return self.database.transaction(work)

    def ask(self, ticket: str, *boards: str, is_probe: bool = False, user: str = "ada") -> None:
        request = Request(
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

    def hand_out(self) -> set[str]:
        bells: set[str] = self.do(self.queue.hand_out)
        return bells

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
    assert farm.hand_out() == {"farm"}
    assert list(farm.rows()) == ["other"]
    assert (farm.rows()["other"].board, farm.rows()["other"].token) == ("pi", 2)
    assert not farm.holds("one", 1)


def test_a_ticket_that_has_time_left_keeps_its_board(farm: Farm) -> None:
    farm.ask("one")
    farm.ask("other")
    farm.change("one", expires=farm.now() + 5)
    assert farm.hand_out() == set()
    assert farm.rows()["one"].board == "pi"


def test_a_ticket_from_before_a_restart_of_this_host_is_dead_whatever_its_time(farm: Farm) -> None:
    farm.ask("one")
    farm.change("one", boot="another boot", expires=farm.now() + 1000)
    farm.hand_out()
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
