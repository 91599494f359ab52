"""Health of boards: what failures, probes and people make of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfarm.boards.leases.health import (
    GIVEN_UP_FAILURES,
    LONGEST_BETWEEN_PROBES,
    LOOPING_FALLS,
    LOOPING_PROBES,
    LOOPING_SECONDS,
    Health,
    after_failure,
    after_good_probe,
    quarantined,
    released,
)


def fail(health: Health, now: float) -> Health:
    return after_failure(health, reason="no answer", now=now, wall=now)


def test_a_board_that_failed_is_bad_with_reason_and_time_and_good_after_a_good_probe() -> None:
    bad = fail(Health(), 100.0)
    assert (bad.state, bad.reason, bad.since) == ("bad", "no answer", 100.0)
    good = after_good_probe(bad, now=110.0, wall=110.0)
    assert (good.state, good.reason, good.since) == ("good", "", 110.0)


def test_probes_of_a_dead_board_become_rarer_and_never_end() -> None:
    health, now, pauses = Health(), 0.0, []
    for _ in range(20):
        health = fail(health, now)
        pauses.append(health.next_probe - now)
        now = health.next_probe
    assert pauses == sorted(pauses)
    assert pauses[0] <= 5
    assert pauses[-1] == LONGEST_BETWEEN_PROBES
    assert health.state == "bad"
    assert health.since == 0.0


def test_nobody_waits_for_a_board_that_failed_three_times_in_a_row() -> None:
    health = Health()
    for _ in range(GIVEN_UP_FAILURES):
        assert health.is_hopeful
        health = fail(health, 0.0)
    assert not health.is_hopeful


def test_a_board_that_falls_again_and_again_is_looping_and_must_pass_several_probes() -> None:
    health = Health()
    for round_ in range(LOOPING_FALLS):
        assert health.state == "good"
        health = fail(health, 100.0 * round_)
        if round_ < LOOPING_FALLS - 1:
            health = after_good_probe(health, now=100.0 * round_ + 10, wall=0.0)
    assert health.state == "looping"
    for _ in range(LOOPING_PROBES):
        assert health.state == "looping"
        health = after_good_probe(health, now=1000.0, wall=0.0)
    assert health == Health()


def test_falls_that_lie_far_apart_make_no_loop() -> None:
    health = Health()
    for round_ in range(10):
        health = fail(health, LOOPING_SECONDS * round_)
        assert health.state == "bad"
        health = after_good_probe(health, now=LOOPING_SECONDS * round_ + 10, wall=0.0)


@given(events=st.lists(st.booleans(), max_size=30))
def test_only_a_person_ends_a_quarantine(events: list[bool]) -> None:
    health = quarantined(reason="the fan is broken", wall=5.0)
    for is_good in events:
        health = after_good_probe(health, now=9.0, wall=9.0) if is_good else fail(health, 9.0)
        assert health == quarantined(reason="the fan is broken", wall=5.0)
        assert not health.is_due(1e9)
    assert released(wall=10.0).state == "good"


def test_a_probe_that_was_planned_before_the_clock_began_anew_is_due() -> None:
    assert fail(Health(), 1e6).is_due(10.0)
    assert not fail(Health(), 10.0).is_due(11.0)
