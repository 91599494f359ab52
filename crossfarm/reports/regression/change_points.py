"""Where a history steps: the best fit of a few constant levels to a series of values. Pure functions.

A few dozen points need no library: ruptures, the usual one, would bring SciPy.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence
from statistics import median

from crossfarm.reports.regression.statistics import robust_spread

FEWEST_RUNS = 3
"""On each side of a step: one odd run is no step."""
MOST_POINTS = 400
"""The newest that are looked at: the time grows with the square of their number."""
_PENALTY = 3.0
_SMALLEST_SPREAD = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a series.

    Attributes:
        at: index of the first value behind it; the change came between that run and the one before.
        before: level before it, the median; `after` likewise.
    """

    at: int
    before: float
    after: float

    @property
    def change(self) -> float:
        """Return the level after over the one before, less 1."""
        return self.after / self.before - 1


def steps(values: Sequence[float], *, relative: float) -> tuple[Step, ...]:
    """Return the steps of a series of positive values, oldest first.

    The levels are those that make the sum of absolute distances, of the logarithms, plus a penalty for each step least
    (the L1 Potts functional), found by dynamic programming over the place of the last step. Source: F. Friedrich,
    A. Kempe, V. Liebscher, G. Winkler, "Complexity penalized M-estimation: fast computation", Journal of Computational
    and Graphical Statistics 17 (2008); asv uses the same. The penalty is the noise, from the differences of neighbours,
    times the logarithm of the number of values, as in the Bayesian information criterion.

    Args:
        values: what is not finite or not positive is passed over.
        relative: steps up to this share are left out.
    """
    usable = [index for index, value in enumerate(values) if math.isfinite(value) and value > 0][-MOST_POINTS:]
    logs = [math.log(values[index]) for index in usable]
    # Levels lie between the least and the greatest value; most series of a page are as flat as that.
    if len(logs) < 2 * FEWEST_RUNS or max(logs) - min(logs) <= math.log1p(relative):
        return ()
    # Neighbours differ by the noise of two values; a step is among few of the differences and moves no median of them.
    noise = robust_spread([after - before for before, after in itertools.pairwise(logs)]) / math.sqrt(2)
    bounds = _fit(logs, penalty=_PENALTY * max(noise, _SMALLEST_SPREAD) * math.log(len(logs)))
    bounds = _without_small(logs, bounds, smallest=math.log1p(relative))
    levels = [math.exp(median(logs[start:end])) for start, end in itertools.pairwise(bounds)]
    return tuple(
        Step(at=usable[at], before=before, after=after)
        for at, before, after in zip(bounds[1:-1], levels, levels[1:], strict=False)
    )


def _fit(values: Sequence[float], *, penalty: float) -> list[int]:
    """Return where the levels begin, and the end of the last one."""
    count = len(values)
    costs = [math.inf] * (count + 1)
    costs[0] = -penalty
    begins = [0] * (count + 1)
    # costs[end] is the least cost of the values before `end`. A start is final when its turn comes.
    for start in range(count - FEWEST_RUNS + 1):
        if math.isinf(costs[start]):
            continue
        for end, distance in _distances(values, start):
            cost = costs[start] + distance + penalty
            if cost < costs[end]:
                costs[end], begins[end] = cost, start
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(begins[bounds[-1]])
    return bounds[::-1]


def _distances(values: Sequence[float], start: int) -> list[tuple[int, float]]:
    """Return, for each end of a level that begins at `start`, the sum of the distances from its median."""
    ordered: list[float] = []
    low_sum = high_sum = 0.0
    found = []
    for end, value in enumerate(values[start:], start=start + 1):
        # The sums of the lower and of the upper half move by what crosses the middle.
        middle = len(ordered) // 2
        at = bisect.bisect_left(ordered, value)
        ordered.insert(at, value)
        if at < middle or (at == middle and len(ordered) % 2 == 0):
            low_sum += value
        else:
            high_sum += value
        wanted = len(ordered) // 2
        held = middle + (1 if at < middle or (at == middle and len(ordered) % 2 == 0) else 0)
        if held > wanted:
            low_sum, high_sum = low_sum - ordered[wanted], high_sum + ordered[wanted]
        elif held < wanted:
            low_sum, high_sum = low_sum + ordered[wanted - 1], high_sum - ordered[wanted - 1]
        odd = ordered[wanted] if len(ordered) % 2 else 0.0
        if end - start >= FEWEST_RUNS:
            found.append((end, max(0.0, high_sum - low_sum - odd)))
    return found


def _without_small(values: Sequence[float], bounds: list[int], *, smallest: float) -> list[int]:
    """Return the bounds without those steps that are too small, the smallest first."""
    while len(bounds) > 2:
        levels = [median(values[start:end]) for start, end in itertools.pairwise(bounds)]
        sizes = [abs(after - before) for before, after in itertools.pairwise(levels)]
        least = min(range(len(sizes)), key=sizes.__getitem__)
        if sizes[least] > smallest:
            break
        bounds = bounds[: least + 1] + bounds[least + 2 :]
    return bounds
