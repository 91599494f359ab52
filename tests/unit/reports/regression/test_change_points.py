"""Steps of a series: found where they are, and none in noise."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Sequence
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.reports.regression import change_points
from crossfarm.reports.regression.change_points import FEWEST_RUNS, steps


def _series(seed: int, *levels: tuple[int, float], cv: float = 0.02) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(level, cv * level) for count, level in levels for _ in range(count)]


def test_a_step_is_found_where_it_is() -> None:
    for seed in range(50):
        (step,) = steps(_series(seed, (20, 100.0), (20, 115.0)), relative=0.03)
        assert abs(step.at - 20) <= 1
        assert step.change == pytest.approx(0.15, abs=0.03)


def test_two_steps_are_found_up_and_down() -> None:
    found = steps(_series(1, (15, 100.0), (15, 120.0), (15, 90.0)), relative=0.03)
    assert [step.at for step in found] == [15, 30]
    assert [step.change > 0 for step in found] == [True, False]


def test_noise_has_no_steps() -> None:
    found = [steps(_series(seed, (60, 100.0)), relative=0.03) for seed in range(300)]
    assert sum(map(bool, found)) == 0


def test_one_odd_run_is_no_step() -> None:
    values = _series(2, (20, 100.0))
    values[10] = 300.0
    assert steps(values, relative=0.03) == ()
    values[19] = 300.0
    assert steps(values, relative=0.03) == ()


def test_a_step_below_what_the_rule_allows_is_left_out() -> None:
    values = [100.0] * 10 + [102.0] * 10
    assert steps(values, relative=0.03) == ()
    assert [step.at for step in steps(values, relative=0.01)] == [10]


def test_what_is_not_finite_is_passed_over() -> None:
    values = [math.nan, *[100.0] * 5, math.inf, 0.0, *[120.0] * 5, -1.0]
    assert [step.at for step in steps(values, relative=0.03)] == [8]


@pytest.mark.parametrize("count", range(2 * FEWEST_RUNS))
def test_a_few_runs_have_no_steps(count: int) -> None:
    assert steps([1.0, 9.0] * count, relative=0.03)[:0] == ()
    assert steps([float(1 + number) for number in range(count)], relative=0.03) == ()


def _cost(values: Sequence[float], bounds: Sequence[int], penalty: float) -> float:
    parts = [values[start:end] for start, end in itertools.pairwise(bounds)]
    return sum(sum(abs(value - median(part)) for value in part) for part in parts) + penalty * (len(parts) - 1)


@given(st.lists(st.integers(0, 5), min_size=6, max_size=11), st.floats(0.1, 5.0))
def test_the_fit_is_the_best_of_all(whole: list[int], penalty: float) -> None:
    values = [float(value) for value in whole]
    inner = range(FEWEST_RUNS, len(values) - FEWEST_RUNS + 1)
    every = [
        [0, *chosen, len(values)]
        for count in range(len(values) // FEWEST_RUNS)
        for chosen in itertools.combinations(inner, count)
    ]
    allowed = [bounds for bounds in every if all(b - a >= FEWEST_RUNS for a, b in itertools.pairwise(bounds))]
    best = min(_cost(values, bounds, penalty) for bounds in allowed)
    found = change_points._fit(values, penalty=penalty)
    assert _cost(values, found, penalty) == pytest.approx(best)


def test_ten_thousand_runs_take_no_time() -> None:
    started = time.process_time()
    steps(_series(1, (10_000, 100.0)), relative=0.03)
    assert time.process_time() - started < 2
