"""The two methods against independent ways to the same numbers: counting all orders, and resampling by hand."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.reports.regression.statistics import difference, mann_whitney, robust_spread
from tests.unit.reports.kept_runs import latencies


def _exact(first: list[float], second: list[float]) -> float:
    """Return the exact two-sided p-value: of all ways to split the values, those at least as far from the middle."""
    values, count = [*first, *second], len(first)

    def distance(chosen: tuple[int, ...]) -> float:
        ours = [values[index] for index in chosen]
        others = [values[index] for index in range(len(values)) if index not in chosen]
        wins = sum((a > b) + (a == b) / 2 for a in ours for b in others)
        return abs(wins - len(ours) * len(others) / 2)

    found = distance(tuple(range(count)))
    ways = [distance(chosen) for chosen in itertools.combinations(range(len(values)), count)]
    return sum(way >= found - 1e-9 for way in ways) / len(ways)


@pytest.mark.parametrize("seed", range(8))
def test_the_p_value_is_near_the_exact_one(seed: int) -> None:
    source = random.Random(seed)
    first = [round(source.gauss(0, 1), 1) for _ in range(7)]
    second = [round(source.gauss(0.8, 1), 1) for _ in range(7)]
    assert mann_whitney(first, second) == pytest.approx(_exact(first, second), abs=0.02)


def test_the_p_value_equals_a_published_example() -> None:
    # Hollander and Wolfe, example 4.1: permeability of the human chorioamnion at term and earlier; W = 30 has p 0.2544.
    term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    earlier = [1.15, 0.88, 0.90, 0.74, 1.21]
    assert mann_whitney(term, earlier) == pytest.approx(0.2544, abs=0.02)


@given(st.lists(st.integers(1, 9), min_size=10, max_size=30), st.lists(st.integers(1, 9), min_size=10, max_size=30))
def test_the_test_has_no_side_and_no_scale(first: list[int], second: list[int]) -> None:
    a, b = [float(value) for value in first], [float(value) for value in second]
    found = mann_whitney(a, b)
    assert 0 <= found <= 1
    assert found == pytest.approx(mann_whitney(b, a))
    assert found == pytest.approx(mann_whitney([3 * value + 1 for value in a], [3 * value + 1 for value in b]))


def test_equal_samples_do_not_differ() -> None:
    assert mann_whitney([5.0] * 30, [5.0] * 30) == 1.0
    found = difference([5.0] * 30, [5.0] * 30, confidence=0.99)
    assert (found.ratio, found.low, found.high) == (1.0, 1.0, 1.0)


def test_samples_that_do_not_overlap_differ_beyond_doubt() -> None:
    assert mann_whitney(latencies(1), latencies(2, median=2e6)) < 1e-9


@pytest.mark.parametrize(("before", "after"), [(30, 30), (31, 50), (360, 30)])
def test_the_interval_is_that_of_plain_resampling(before: int, after: int) -> None:
    old, new = latencies(1, count=before), latencies(2, median=1.05e6, count=after)
    source = np.random.default_rng(3)
    medians = [
        np.median(source.choice(new, size=after)) / np.median(source.choice(old, size=before)) for _ in range(4000)
    ]
    found = difference(old, new, confidence=0.99)
    assert found.ratio == pytest.approx(np.median(new) / np.median(old))
    assert found.low == pytest.approx(np.quantile(medians, 0.005), abs=0.002)
    assert found.high == pytest.approx(np.quantile(medians, 0.995), abs=0.002)


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(400):
        found = difference(latencies(2 * seed), latencies(2 * seed + 1, median=1.05e6), confidence=0.95)
        held += found.low <= 1.05 <= found.high
    assert 0.91 <= held / 400 <= 0.995


def test_the_same_samples_give_the_same_interval_again() -> None:
    old, new = latencies(1), latencies(2)
    assert difference(old, new, confidence=0.99) == difference(old, new, confidence=0.99)


def test_one_outlier_moves_the_robust_spread_little() -> None:
    values = [float(value) for value in latencies(1, count=200)]
    assert robust_spread(values) == pytest.approx(2e4, rel=0.2)
    assert robust_spread([*values, 1e12]) == pytest.approx(robust_spread(values), rel=0.02)
    assert robust_spread([]) == 0.0
    assert math.isfinite(robust_spread([1.0]))
