"""Successive halving: many variants are measured a little, the better half of them more, until one is left.

Karnin, Koren and Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013, with medians in place of
means, because what disturbs a measurement only ever makes it longer, and sometimes much.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from crossfarm.tuning.layer_times import Run

ROUNDS = (1, 2, 3, 4)
"""Runs of each variant in each round; the last entry holds for all later rounds. With 16 variants these are
16 + 16 + 12 + 8 = 52 runs, fewer for layers with fewer variants."""


def runs_in(number: int) -> int:
    """Return how often each surviving variant is run in a round, counted from 0."""
    return ROUNDS[min(number, len(ROUNDS) - 1)]


def score(ratios: Sequence[float]) -> float:
    """Return how good a variant is by its ratios to a common baseline, smaller being better; infinite without any."""
    return statistics.median(ratios) if ratios else math.inf


def better_half(ratios: Mapping[int, Sequence[float]]) -> list[int]:
    """Return the variants that go on to the next round, the best first: half of them, rounded up.

    Args:
        ratios: variant -> all its ratios so far; at least one variant.
    """
    ranked = sorted(ratios, key=lambda variant: (score(ratios[variant]), variant))
    return ranked[: max(1, math.ceil(len(ranked) / 2))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A median and the bounds between which it lies with 95 % confidence."""

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return the median of values and its 95 % percentile bootstrap interval (Efron, 1979).

    Args:
        values: at least one.
        resamples: drawn with replacement.
        seed: of the draws, so that equal values give equal intervals.
    """
    draw = random.Random(seed)  # noqa: S311 (statistics, not secrets)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(resamples))
    cut = round(0.025 * (resamples - 1))
    return Interval(median=statistics.median(values), low=medians[cut], high=medians[-1 - cut])


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
