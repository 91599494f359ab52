"""How far a run is: what ended and how, what runs and since when, and how long the rest will take."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from crossfarm.util.text import one_line

ENDED: Mapping[str, str] = {
    "run": "run",
    "failed": "failed",
    "known failure": "known failure",
    "skipped": "skipped",
    "cancelled": "cancelled",
    "hit": "up to date",
}
"""The states in which a job ends, in the order in which they are told, and the words for them."""


def duration(seconds: float) -> str:
    """Return `seconds` as people say it: `0.3 s`, `4.1 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 59.95:  # what would round to 60.0 s is a minute
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def roughly(seconds: float) -> str:
    """Return `seconds` as an estimate is said: `4 s`, `50 s`, `3 min`, `1 h 20 min`; never less than a second."""
    if seconds < 55:
        return f"{max(1, round(seconds)) if seconds < 10 else round(seconds, -1):.0f} s"
    if seconds < 3570:
        return f"{max(1, round(seconds / 60))} min"
    tens = round(seconds / 600) * 10
    return f"{tens // 60} h {tens % 60:02} min"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
    """A job that runs: its id, for how long, and how long it took the last time; None when that is not known."""

    job: str
    seconds: float
    usual: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """What a display shows of a run at one moment.

    Attributes:
        counter: how many jobs ended, and of how many: `[ 3/12]`, or `[3]` when nobody said.
        done: how many ended, of `total`; the total is 0 when it is not known.
        counts: how many ended in each state.
        running: the jobs that run, oldest first.
        seconds: since the run began.
        left: seconds that the rest will take; None when nothing is known about that.
    """

    counter: str
    done: int
    total: int
    counts: Mapping[str, int]
    running: Sequence[Running]
    seconds: float
    left: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """What is known about the jobs that will run: seconds by id, and how many run at once.

    Attributes:
        measured: how long those took the last time that have run before.
        guessed: how long such jobs usually take.
        slots: how many run at once.
    """

    measured: Mapping[str, float] = dataclasses.field(default_factory=dict)
    guessed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    slots: int = 1


class Progress:
    """Counts what happens in a run. Times are readings of a clock that only grows, in seconds."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._running: dict[str, float] = {}
        self._total = 0
        self._expected: dict[str, float] = {}
        self._measured: frozenset[str] = frozenset()
        self._slots = 1
        self.counts: collections.Counter[str] = collections.Counter()

    def expect(self, total: int, plan: Expected) -> None:
        """Say how many jobs there are, and what is known about those that will run."""
        self._total, self._expected = total, {**plan.guessed, **plan.measured}
        self._measured, self._slots = frozenset(plan.measured), max(1, plan.slots)

    def started(self, job: str, now: float) -> None:
        """Count a job that began to run."""
        self._running[job] = now

    def finished(self, job: str, state: str) -> None:
        """Count a job that ended."""
        self._running.pop(job, None)
        self._expected.pop(job, None)
        self.counts[state] += 1

    def stop(self) -> None:
        """Forget what runs."""
        self._running.clear()

    @property
    def counter(self) -> str:
        """Return how many jobs ended: `[ 3/12]`, or `[3]` when nobody said how many there are."""
        done, size = self.counts.total(), len(str(self._total))
        return f"[{done:>{size}}/{self._total}]" if self._total else f"[{done}]"

    def seconds(self, now: float) -> float:
        """Return how long the run has lasted."""
        return now - self._began

    def frame(self, now: float) -> Frame:
        """Return what is to be shown."""
        running = [
            Running(job=job, seconds=now - since, usual=self._expected[job] if job in self._measured else None)
            for job, since in self._running.items()
        ]
        return Frame(
            counter=self.counter,
            done=self.counts.total(),
            total=self._total,
            counts=self.counts,
            running=running,
            seconds=self.seconds(now),
            left=self._left(running),
        )

    def _left(self, running: Sequence[Running]) -> float | None:
        """Return an estimate: all that is left shared between the slots, and no less than the longest job needs."""
        if not self._expected:
            return None
        rest = dict(self._expected)
        for item in running:
            if item.job in rest:
                # One that takes longer than it did is taken to need a quarter of its time more.
                rest[item.job] = max(rest[item.job] - item.seconds, item.seconds / 4)
        return max(sum(rest.values()) / self._slots, *rest.values())


def spoken(job: str) -> str:
    """Return the id of a job as it is shown: `compile armv7-mnist-float32`."""
    return one_line(job).replace(":", " ", 1)
