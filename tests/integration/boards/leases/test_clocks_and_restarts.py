"""Clocks that jump, and a database that goes away for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossfarm.boards.leases.leases import Leases
from crossfarm.errors import LeaseError
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

TTL = 3.0
SLACK = 2.5


@pytest.fixture
def clock(postgres: Any) -> tuple[str, Callable[[float], None]]:
    """Return a database whose clock can be set, and what sets it: by so many seconds off the true time."""
    import psycopg

    url: str = postgres.fresh()
    # A schema before pg_catalog in the search path stands in for the server's own clock.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA jump")
        connection.execute("CREATE TABLE jump.seconds AS SELECT 0.0::float8 AS off")
        connection.execute(
            "CREATE FUNCTION jump.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ "
            "SELECT pg_catalog.clock_timestamp() + (SELECT off FROM jump.seconds) * interval '1 second' $$"
        )

    def set_clock(seconds: float) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE jump.seconds SET off = %s", (seconds,))

    return f"{url}&options=-csearch_path%3Djump,public,pg_catalog", set_clock


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_jump_of_the_databases_clock_frees_no_live_lease_and_keeps_no_dead_one(
    farms: Any, clock: tuple[str, Callable[[float], None]], jump: float
) -> None:
    database, set_clock = clock
    holder = farms.start("hold", database, "a", ttl=TTL)
    farms.wait_for(bool)
    farms.start("hold", database, "a", ttl=TTL, user="bob")
    with Leases(database, ttl=TTL) as leases:
        wait_until(lambda: len(leases.status().waiting) == 1)
        set_clock(jump)
        later = time.clock_gettime(time.CLOCK_BOOTTIME) + 1.5 * TTL
        farms.wait_for(lambda events: events[-1].before > later)
        told = [(event.process, event.event) for event in farms.events()]
        assert set(told[1:]) == {(holder.pid, "confirmed")}, "a live holder lost its board, or was refused"
        holder.kill()
        farms.wait_for(lambda events: events[-1].process != holder.pid, seconds=TTL + SLACK)


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_jump_of_the_hosts_clock_does_nothing_to_leases_in_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    true = time.time
    with Leases(f"sqlite:///{tmp_path}/leases.db", ttl=1.0) as leases:
        live = leases.acquire(["a"], user="ada", purpose="a test", timeout=5)
        monkeypatch.setattr(time, "time", lambda: true() + jump)
        with pytest.raises(LeaseError):
            leases.acquire(["a"], user="bob", purpose="a test", timeout=2.0)
        leases.confirm(live)


def test_leases_outlive_a_crash_of_the_database(farms: Any, postgres: Any) -> None:
    database = postgres.fresh()
    ttl = 30.0
    with Leases(database, ttl=ttl) as leases:
        lease = leases.acquire(["a"], user="ada", purpose="a test", timeout=10)
        farms.start("hold", database, "a", ttl=ttl, user="bob")
        wait_until(lambda: len(leases.status().waiting) == 1)
        postgres.stop("immediate")
        restart = threading.Timer(2.0, postgres.start)
        restart.start()
        leases.confirm(lease)  # waits for the database
        restart.join()
        assert leases.is_live(lease)
        assert farms.events() == []
        leases.release(lease)
        farms.wait_for(lambda events: {event.token for event in events} == {2})


def test_a_database_that_stays_away_is_told_after_a_while(postgres: Any) -> None:
    database = postgres.fresh()
    with Leases(database, ttl=2.0) as leases:
        lease = leases.acquire(["a"], user="ada", purpose="a test", timeout=10)
        postgres.stop("immediate")
        try:
            with pytest.raises(LeaseError, match=r"cannot be used: .* .* see that it runs"):
                leases.confirm(lease)
            # A holder that cannot be heard must know that its lease may have ended.
            wait_until(lambda: not leases.is_live(lease), seconds=2.0 + SLACK)
        finally:
            postgres.start()
