"""Leases on a SQLite database, within one process; the integration tests stop and kill processes."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossfarm.boards.leases.database import boot_time
from crossfarm.boards.leases.health import Health, quarantined, released
from crossfarm.boards.leases.leases import Lease, Leases
from crossfarm.errors import LeaseError
from tests.waiting import PATIENCE_SECONDS, wait_until

Make = Callable[..., Leases]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return what opens the same database again and again, as farms do."""
    made: list[Leases] = []

    def make_one(ttl: float = 30.0, clock: Callable[[], float] = boot_time) -> Leases:
        made.append(Leases(f"sqlite:///{tmp_path}/state/leases.db", ttl=ttl, clock=clock))
        return made[-1]

    yield make_one
    for leases in made:
        leases.close()


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def beats_of(leases: Leases) -> int:
    """Return how many heartbeats the holder of `pi` has sent."""
    holder = leases.status().boards["pi"].holder
    assert holder is not None and holder.user == "ada", "the lease ended although its holder lives"
    return holder.beat


def wait_for_heartbeats(leases: Leases) -> None:
    """Wait for a heartbeat that has surely read the clock after this call; one under way may have read it before."""
    before = beats_of(leases)
    wait_until(lambda: beats_of(leases) >= before + 2)


def take(leases: Leases, *boards: str, timeout: float = 5.0, user: str = "ada", is_probe: bool = False) -> Lease:
    return leases.acquire(boards, user=user, purpose="a test", timeout=timeout, is_probe=is_probe)


def test_a_board_is_held_by_one_and_goes_to_the_next_at_once(make: Make) -> None:
    first, second = make(), make()
    lease = take(first, "pi")
    with pytest.raises(LeaseError, match=r"none of pi was granted within 0.1 s"):
        take(second, "pi", timeout=0.1)
    told: queue.Queue[Lease | None] = queue.Queue()
    second.request(["pi"], user="bob", purpose="a test", callback=told.put)
    released_at = time.monotonic()
    first.release(lease)
    granted = told.get(timeout=5)
    assert time.monotonic() - released_at < 0.9, "no notification came; only the safety poll found the grant"
    assert granted is not None
    assert granted.token == lease.token + 1


def test_tokens_of_a_board_grow_across_farms_and_restarts(make: Make) -> None:
    tokens = []
    for _ in range(3):
        leases = make()
        tokens.append(take(leases, "pi").token)
        leases.close()
    assert tokens == [1, 2, 3]


def test_a_lease_that_ended_is_refused_and_its_release_changes_nothing(make: Make) -> None:
    leases = make()
    old = take(leases, "pi")
    leases.confirm(old)
    leases.release(old)
    new = take(leases, "pi")
    with pytest.raises(LeaseError, match="ended before"):
        leases.confirm(old)
    leases.release(old)
    leases.confirm(new)
    assert leases.is_live(new)
    assert not leases.is_live(old)


def test_what_a_farm_holds_and_asks_for_ends_with_it(make: Make) -> None:
    first, second = make(), make()
    take(first, "pi")
    first.request(["pi"], user="ada", purpose="a test", callback=lambda lease: None)
    first.close()
    take(second, "pi")
    assert second.status().waiting == ()


def test_a_lease_outlives_its_ttl_while_its_holder_lives(make: Make) -> None:
    # The clock of the leases stands still between the steps, so a busy machine changes nothing.
    clock = Clock()
    first, second = make(ttl=0.6, clock=clock), make(ttl=0.6, clock=clock)
    lease = take(first, "pi", timeout=PATIENCE_SECONDS)
    second.request(["pi"], user="bob", purpose="a test", callback=lambda lease: None)
    wait_for_heartbeats(first)  # a grant that no heartbeat follows ends after a third of the ttl
    for _ in range(4):
        clock.seconds += 0.45
        wait_for_heartbeats(first)
    first.confirm(lease)


def test_a_lease_whose_holder_sends_no_heartbeat_ends_after_its_ttl(make: Make) -> None:
    clock = Clock()
    first, second = make(clock=clock), make(clock=clock)
    lease = take(first, "pi")
    clock.seconds += 31.0
    assert take(second, "pi").token == lease.token + 1
    with pytest.raises(LeaseError, match="ended before"):
        first.confirm(lease)


def test_a_board_that_is_not_good_is_granted_to_probes_alone(make: Make) -> None:
    leases = make()
    leases.change_health("pi", lambda health, now: quarantined(reason="the fan is broken", wall=1.0))
    with pytest.raises(LeaseError):
        take(leases, "pi", timeout=0.2)
    assert take(leases, "pi", "pi2", timeout=5).board == "pi2"
    leases.release(take(leases, "pi", is_probe=True))
    status = leases.status().boards["pi"]
    assert (status.health.state, status.health.reason) == ("quarantined", "the fan is broken")


def test_a_board_that_becomes_good_goes_to_who_waits(make: Make) -> None:
    first, second = make(), make()
    first.change_health("pi", lambda health, now: quarantined(reason="x", wall=1.0))
    told: queue.Queue[Lease | None] = queue.Queue()
    second.request(["pi"], user="bob", purpose="a test", callback=told.put)
    assert first.change_health("pi", lambda health, now: released(wall=2.0)) == Health(since=2.0)
    assert told.get(timeout=5) is not None


def test_the_status_names_holder_and_queue(make: Make) -> None:
    first, second = make(), make()
    take(first, "pi", user="ada")
    second.request(["pi"], user="bob", purpose="measure:x", callback=lambda lease: None)
    status = first.status()
    holder = status.boards["pi"].holder
    assert holder is not None
    assert (holder.user, holder.purpose) == ("ada", "a test")
    assert abs(holder.since - time.time()) < 60
    assert [(row.user, row.purpose, row.boards) for row in status.waiting] == [("bob", "measure:x", ("pi",))]


def test_a_database_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LeaseError, match="cannot be made: File exists; name another database"):
        Leases(f"sqlite:///{tmp_path}/file/leases.db")
    (tmp_path / "leases.db").write_text("this is no database" * 100)
    with pytest.raises(LeaseError, match=r"leases\.db, cannot be used: file is not a database"):
        Leases(f"sqlite:///{tmp_path}/leases.db")


def test_farms_leave_nothing_beside_the_database(make: Make, tmp_path: Path) -> None:
    first, second = make(), make()
    second.release(take(second, "pi"))
    first.close()
    second.close()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["leases.db"]
