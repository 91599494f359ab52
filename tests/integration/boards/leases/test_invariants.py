"""The six invariants of the leases, with real processes that are stopped and killed, on both databases."""

from __future__ import annotations

import collections
import contextlib
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import pytest

from crossfarm.boards.leases.health import quarantined, released
from crossfarm.boards.leases.leases import Lease, Leases
from crossfarm.errors import LeaseError
from tests.waiting import stretched, wait_until

pytestmark = pytest.mark.integration

TTL = 2.0
SLACK = 2.5
"""Seconds that a machine may take to look, beyond what is promised."""
ENOUGH = 60
"""So many grants, and so many results that a holder would store."""
BOARDS = ("a", "b")


def torment(farms: Any, database: str, generator: random.Random) -> None:
    """Stop, continue and kill farms at random; a killed one is followed by a new one. Goes on until enough happened."""
    users = ("ada", "ada", "bob", "cyd", "cyd")
    running = [farms.start("run", database, *BOARDS, ttl=TTL, user=user) for user in users]
    farms.wait_for(lambda events: len({event.process for event in events}) >= 3)
    stopped: dict[subprocess.Popen[bytes], float] = {}
    kills, started = 0, time.monotonic()

    def due() -> list[subprocess.Popen[bytes]]:
        return [process for process, until in stopped.items() if time.monotonic() > until]

    while not (kills > 2 and is_enough(farms)):
        assert time.monotonic() - started < stretched(120), "too little happened"
        number = len(farms.events()) + generator.randint(1, 5)
        farms.wait_for(lambda events, number=number: bool(due()) or len(events) >= number)
        for process in due():
            del stopped[process]
            process.send_signal(signal.SIGCONT)
        victim = generator.choice(running)
        if generator.random() < 0.1:
            kills += 1
            running.remove(victim)
            stopped.pop(victim, None)
            victim.kill()
            running.append(farms.start("run", database, *BOARDS, ttl=TTL, user=generator.choice(users)))
        elif victim not in stopped and len(stopped) < 3:
            victim.send_signal(signal.SIGSTOP)
            stopped[victim] = time.monotonic() + generator.uniform(0.2, 2.5 * TTL)
    so_far = farms.events()
    last = {event.process: event.event for event in so_far}
    for process in stopped:
        process.send_signal(signal.SIGCONT)
    # Those that were stopped while they held a board come back late, and must be heard.
    late = {process.pid for process in stopped if last.get(process.pid) in ("granted", "confirmed")}
    farms.wait_for(lambda events: late <= {event.process for event in events[len(so_far) :]})


def is_enough(farms: Any) -> bool:
    """Return whether boards changed hands often, and some holder came too late."""
    seen = collections.Counter(event.event for event in farms.events())
    return seen["granted"] > ENOUGH and seen["confirmed"] > ENOUGH and seen["refused"] > 0


def test_never_two_live_holders_and_no_result_of_a_late_one_whoever_is_stopped_or_killed(
    farms: Any, database: str
) -> None:
    torment(farms, database, random.Random())
    farms.end()
    grants: dict[tuple[str, int], float] = {}
    for event in farms.events():
        if event.event == "granted":
            assert (event.board, event.token) not in grants, f"{event.board} was granted twice with one token"
            grants[event.board, event.token] = event.after
    # A farm may die between its grant and its line in the journal, so the next grant may have a larger token.
    tokens = {board: sorted(token for name, token in grants if name == board) for board in BOARDS}
    for event in farms.events():
        if event.event == "confirmed":
            later = [token for token in tokens[event.board] if token > event.token]
            # What `before` says is a moment at which the holder had yet to ask. The database said yes after it.
            assert not later or event.before < grants[event.board, later[0]], f"{event} was confirmed after {later[0]}"


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_farm_that_dies_with_four_boards_loses_them_all_within_the_ttl(
    farms: Any, database: str, blow: signal.Signals
) -> None:
    four = ("a", "b", "c", "d")
    first = farms.start("hold", database, *four, ttl=TTL)
    farms.wait_for(lambda events: count(events, "granted") == 4)
    for board in four:
        farms.start("hold", database, board, ttl=TTL, user="bob")
    with Leases(database, ttl=TTL) as leases:
        wait_until(lambda: len(leases.status().waiting) == 4)
        blow_at(first, blow, database)
        farms.wait_for(lambda events: count(events, "granted") == 8, seconds=TTL + SLACK)
        if blow == signal.SIGSTOP:
            first.send_signal(signal.SIGCONT)
            farms.wait_for(lambda events: count(events, "refused") == count(events, "released") == 4)
        status = leases.status()
        assert {status.boards[board].holder.user for board in four} == {"bob"}, "a late holder took a board away"


def test_a_holder_that_lives_keeps_its_board_for_many_times_the_ttl(farms: Any, database: str) -> None:
    farms.start("hold", database, "a", ttl=TTL)
    farms.wait_for(bool)
    with Leases(database, ttl=TTL) as leases, pytest.raises(LeaseError):
        leases.acquire(["a"], user="bob", purpose="a test", timeout=2.5 * TTL)
    assert count(farms.events(), "granted") == 1
    assert count(farms.events(), "refused") == 0


def test_first_come_first_served_and_a_dead_one_in_the_queue_holds_nobody_up(farms: Any, database: str) -> None:
    with Leases(database, ttl=TTL) as leases:
        lease = leases.acquire(["a"], user="cyd", purpose="a test", timeout=10)
        waiting = []
        for number in range(3):
            waiting.append(farms.start("hold", database, "a", ttl=TTL, user="ada"))
            wait_until(lambda number=number: len(leases.status().waiting) == number + 1)
        waiting[0].kill()
        leases.release(lease)
        farms.wait_for(bool, seconds=TTL + SLACK)
        assert farms.events()[0].process == waiting[1].pid


def test_users_take_turns_however_much_one_of_them_asks_for(database: str) -> None:
    order: list[str] = []
    with Leases(database, ttl=TTL * 5) as leases:
        first = leases.acquire(["a"], user="cyd", purpose="a test", timeout=10)
        held: list[Lease] = []

        def told(user: str) -> Any:
            def note(lease: Lease | None) -> None:
                assert lease is not None
                order.append(user)
                held.append(lease)

            return note

        for user in ("ada",) * 6 + ("bob",) * 3:
            leases.request(["a"], user=user, purpose="a test", callback=told(user))
        leases.release(first)
        for number in range(9):
            wait_until(lambda number=number: len(held) == number + 1)
            leases.release(held[-1])
    assert order == ["ada", "bob"] * 3 + ["ada"] * 3


def test_a_restart_of_all_farms_loses_neither_tokens_nor_health(farms: Any, database: str) -> None:
    farms.start("hold", database, "a", "b", ttl=TTL)
    farms.wait_for(lambda events: count(events, "granted") == 2)
    with Leases(database, ttl=TTL) as leases:
        leases.change_health("b", lambda health, now: quarantined(reason="the fan is broken", wall=1.0))
    farms.end()
    with Leases(database, ttl=TTL) as leases:
        assert leases.acquire(["a"], user="bob", purpose="a test", timeout=TTL + SLACK).token == 2
        assert leases.status().boards["b"].health.reason == "the fan is broken"


def test_a_board_that_is_not_good_is_never_granted_and_always_told(farms: Any, database: str) -> None:
    for user in ("ada", "bob"):
        farms.start("run", database, *BOARDS, ttl=TTL, user=user)
    farms.wait_for(lambda events: len(events) > 5)
    with Leases(database, ttl=TTL) as leases:
        for _ in range(5):
            leases.change_health("a", lambda health, now: quarantined(reason="x", wall=1.0))
            before = leases.status().boards["a"]
            number = len(farms.events())
            farms.wait_for(lambda events, number=number: len(events) > number + 10)
            after = leases.status().boards["a"]
            assert (before.token, before.health) == (after.token, after.health)
            assert (after.health.state, after.health.reason) == ("quarantined", "x")
            leases.change_health("a", lambda health, now: released(wall=2.0))
            farms.wait_for(lambda events, token=after.token: any(e.board == "a" and e.token > token for e in events))


def blow_at(process: subprocess.Popen[bytes], blow: signal.Signals, database: str) -> None:
    """Send a signal; one that stops a farm does so between its transactions on SQLite, whose lock nobody can break."""
    process.send_signal(blow)
    if blow == signal.SIGSTOP and database.startswith("sqlite"):
        wait_until(lambda: is_unlocked_or_goes_on(process, database))


def is_unlocked_or_goes_on(process: subprocess.Popen[bytes], database: str) -> bool:
    """Return whether a stopped farm left SQLite's lock free; else let it end its transaction and stop it again."""
    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"), timeout=0.5)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE").close()
            return True
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
        connection.execute("PRAGMA busy_timeout = 60000")
        connection.execute("BEGIN IMMEDIATE").close()  # waits for the end of its transaction
    process.send_signal(signal.SIGSTOP)
    return False


def count(events: Sequence[Any], name: str) -> int:
    return sum(event.event == name for event in events)
