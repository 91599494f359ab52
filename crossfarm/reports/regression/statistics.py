"""Are two sets of samples different, and by how much: Mann-Whitney U, and a bootstrap interval of the ratio of medians.

NumPy is enough for both; SciPy would bring 40 MB into every image for these two functions.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from statistics import median

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_RESAMPLES = 4000
_SEED = 20260101


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How two sets of samples differ.

    Attributes:
        ratio: median of the new ones over median of the old ones.
        low: lower end of the interval of the ratio; `high` is the upper one.
        p_value: of the Mann-Whitney U test, two-sided: how often samples of one and the same program differ that much.
    """

    ratio: float
    low: float
    high: float
    p_value: float


def difference(old: Sequence[float] | Values, new: Sequence[float] | Values, *, confidence: float) -> Difference:
    """Return how two sets of samples differ.

    Args:
        old: finite samples, at least one, whose median is positive.
        new: likewise.
        confidence: of the interval, 0.99 for instance.
    """
    before, after = np.sort(np.asarray(old, dtype=float)), np.sort(np.asarray(new, dtype=float))
    ratios = _medians(after) / _medians(before)[_turned(_RESAMPLES)]
    ratios.sort()
    outside = round((1 - confidence) / 2 * _RESAMPLES)
    return Difference(
        ratio=_middle(after) / _middle(before),
        low=float(ratios[outside]),
        high=float(ratios[-1 - outside]),
        p_value=mann_whitney(before, after),
    )


def mann_whitney(first: Sequence[float] | Values, second: Sequence[float] | Values) -> float:
    """Return the two-sided p-value of the Mann-Whitney U test, by the normal approximation.

    With the correction for ties and for continuity. Samples of 10 and more are enough for the approximation.

    Sources: H. B. Mann, D. R. Whitney, "On a test of whether one of two random variables is stochastically larger than
    the other", Annals of Mathematical Statistics 18 (1947); ties as in M. Hollander, D. A. Wolfe, "Nonparametric
    Statistical Methods", section 4.1.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    count, other = len(a), len(b)
    _, place, ties = np.unique(np.concatenate([a, b]), return_inverse=True, return_counts=True)
    # Equal values share the mean of the ranks that they take together.
    ranks = np.cumsum(ties) - (ties - 1) / 2
    statistic = float(ranks[place[:count]].sum()) - count * (count + 1) / 2
    total = count + other
    tied = float((ties.astype(float) ** 3 - ties).sum()) / (total * (total - 1))
    variance = count * other / 12 * (total + 1 - tied)
    if variance <= 0:
        return 1.0
    distance = max(0.0, abs(statistic - count * other / 2) - 0.5)
    return math.erfc(distance / math.sqrt(2 * variance))


def robust_spread(values: Sequence[float]) -> float:
    """Return the standard deviation that the median absolute deviation stands for: 1.4826 times it.

    Source: F. R. Hampel, "The influence curve and its role in robust estimation", JASA 69 (1974).
    """
    if len(values) == 0:
        return 0.0
    centre = median(values)
    return 1.4826 * median(abs(value - centre) for value in values)


def _middle(ordered: Values) -> float:
    """Return the median of sorted samples."""
    count = len(ordered)
    return float(ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _medians(ordered: Values) -> Values:
    """Return the medians of resamples of sorted samples.

    Bootstrap: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979). Which of the
    sorted samples is the median of a resample depends on their number alone, so the places are drawn once for each.
    """
    places = _median_places(len(ordered))
    return (ordered[places[:, 0]] + ordered[places[:, 1]]) / 2


@functools.lru_cache(maxsize=64)
def _median_places(count: int) -> npt.NDArray[np.int64]:
    """Return, for each resample of `count` sorted samples, the places of the two that its median is the mean of."""
    drawn = np.sort(np.random.default_rng(_SEED + count).integers(0, count, size=(_RESAMPLES, count)), axis=1)
    return drawn[:, [(count - 1) // 2, count // 2]]


@functools.lru_cache(maxsize=1)
def _turned(count: int) -> npt.NDArray[np.int64]:
    """Return another order of the resamples: two sets of one size must not be resampled alike."""
    return np.random.default_rng(_SEED).permutation(count)
