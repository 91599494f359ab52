"""Statistics of latencies: pure functions over samples of one unit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a list of samples says.

    Attributes:
        count: number of samples.
        minimum: the smallest.
        mean: their sum over their count.
        p50: the median.
        p90: the 90th percentile.
        variation: coefficient of variation, the sample standard deviation (n - 1) over the mean; 0 for one sample.
    """

    count: int
    minimum: float
    mean: float
    p50: float
    p90: float
    variation: float


def summarise(samples: Sequence[float]) -> Summary:
    """Return the statistics of at least one sample.

    Raises:
        ValueError: there is none.
    """
    median = quantile(samples, 0.5)
    return Summary(
        count=len(samples),
        minimum=min(samples),
        mean=math.fsum(samples) / len(samples),
        p50=median,
        p90=quantile(samples, 0.9),
        variation=coefficient_of_variation(samples),
    )


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the quantile by linear interpolation between order statistics.

    With x sorted and h = (n - 1) * share it is x[floor(h)] + (h - floor(h)) * (x[floor(h) + 1] - x[floor(h)]):
    definition 7 of Hyndman and Fan, Sample Quantiles in Statistical Packages, The American Statistician 50 (1996).

    Args:
        samples: at least one, in any order.
        share: 0 to 1.

    Raises:
        ValueError: there is no sample, or the share is outside 0 to 1.
    """
    if not samples or not 0.0 <= share <= 1.0:
        raise ValueError("a quantile needs at least one sample and a share from 0 to 1")
    ordered = sorted(samples)
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    value = ordered[below] + (place - below) * (ordered[above] - ordered[below])
    return min(max(value, ordered[below]), ordered[above])


def coefficient_of_variation(samples: Sequence[float]) -> float:
    """Return the sample standard deviation over the mean: sqrt(sum((x - mean)^2) / (n - 1)) / mean.

    0 for a single sample, and when the mean is 0.
    """
    mean = math.fsum(samples) / len(samples)
    if len(samples) < 2 or mean == 0.0:
        return 0.0
    squares = math.fsum((sample - mean) ** 2 for sample in samples)
    return math.sqrt(squares / (len(samples) - 1)) / mean
