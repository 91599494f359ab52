"""Successive halving: many variants are measured a little, the better half of them more, until one is left.

Karnin, Koren and Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013, with medians in place of
means, because what disturbs a measurement only ever makes it longer, and sometimes much.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Mapping, Sequence

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
