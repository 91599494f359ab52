"""Whether a tuned program is faster than the untuned one: pairs of runs in turn, and the interval of their ratio."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from pathlib import Path

from crossfarm.tuning.layer_times import Run
from crossfarm.tuning.successive_halving import Interval, median_interval

FIRST_PAIRS, MOST_PAIRS = 11, 33
"""Pairs before the first look, and before the last. Three looks at 95 % each are not 95 % together, so what is nearly
equal may be taken for faster by chance; that costs nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confirmation:
    """A paired comparison.

    Attributes:
        interval: of the tuned time over the untuned one.
        pairs: that were measured.
        runs: what the programs said: untuned and tuned, pair by pair.
    """

    interval: Interval
    pairs: int
    runs: tuple[tuple[Run, Run], ...]

    @property
    def is_faster(self) -> bool:
        """The whole interval lies below 1."""
        return self.interval.high < 1.0


def confirm(untuned: Path, tuned: Path, *, run: Callable[[Path], Run], pairs: int = FIRST_PAIRS) -> Confirmation:
    """Compare two programs until the interval leaves 1, or pairs run out.

    Args:
        untuned: folder of the one.
        tuned: folder of the other.
        run: runs a program.
        pairs: between two looks.
    """
    found: list[tuple[Run, Run]] = []
    while True:
        for number in range(pairs):
            if (len(found) + number) % 2:
                second, first = run(tuned), run(untuned)
            else:
                first, second = run(untuned), run(tuned)
            found.append((first, second))
        ratios = [statistics.median(new.latency) / statistics.median(old.latency) for old, new in found]
        interval = median_interval(ratios)
        if interval.high < 1.0 or interval.low > 1.0 or len(found) + pairs > MOST_PAIRS:
            return Confirmation(interval=interval, pairs=len(found), runs=tuple(found))
