"""Interrupts: at once while nothing has begun, held and told once afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from crossfarm.pipeline.interrupts import Interrupts

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _nothing_is_ignored() -> Iterator[None]:
    """Under nohup the tests themselves ignore SIGHUP, and so would what they test."""
    before = [signal.signal(number, signal.default_int_handler) for number in NUMBERS]
    yield
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_before_anything_has_begun_it_stops_at_once(number: signal.Signals) -> None:
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", NUMBERS)
def test_later_it_is_held_and_the_subscriber_is_told_once(number: signal.Signals) -> None:
    told = []
    with Interrupts() as interrupts:
        interrupts.hold()
        with interrupts.told_to(lambda: told.append(number)):
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), number)
    assert told == [number]
    assert interrupts.asked


def test_whoever_subscribes_late_is_told_too() -> None:
    told = []
    with Interrupts() as interrupts:
        interrupts.hold()
        os.kill(os.getpid(), signal.SIGINT)
        with interrupts.told_to(lambda: told.append("late")):
            assert told == ["late"]


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with Interrupts():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupts.asked
    finally:
        signal.signal(signal.SIGHUP, before)
