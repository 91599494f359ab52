"""A running job's output is looked at, and a large one not so often that it costs much."""

from __future__ import annotations

import time

import pytest

from crossfarm.engines.output_watch import LOOK_SECONDS, OutputWatch
from crossfarm.errors import OutputError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of a clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_look_that_takes_long_is_followed_by_a_long_pause(clock: list[float]) -> None:
    looks: list[float] = []

    def look() -> None:
        looks.append(clock[0])
        clock[0] += 1.0

    watch = OutputWatch(look)
    watch.look()
    assert looks == []
    clock[0] += LOOK_SECONDS
    watch.look()
    assert len(looks) == 1
    clock[0] += 19.0
    watch.look()
    assert len(looks) == 1
    clock[0] += 1.0
    watch.look()
    assert len(looks) == 2


def test_too_much_is_an_error_that_says_so(clock: list[float]) -> None:
    watch = OutputWatch(lambda: "its output has too much")
    clock[0] += LOOK_SECONDS
    with pytest.raises(OutputError, match="its output has too much; the job was ended"):
        watch.look()
