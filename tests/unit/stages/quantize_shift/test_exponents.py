"""The exponent of a scale: powers of two, the least error among some."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crossfarm.stages.quantize_shift.exponents import CANDIDATES, Samples, best_exponent, rounded

NUMBERS = arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e4, 1e4, width=32))


def _error(numbers: np.ndarray, exponent: int) -> float:
    return float(np.mean((rounded(numbers, exponent) * 2.0**exponent - numbers) ** 2))


@given(NUMBERS)
def test_no_candidate_is_better_than_the_one_that_is_taken(numbers: np.ndarray) -> None:
    largest = float(np.max(np.abs(numbers)))
    first = math.ceil(math.log2(largest / 127)) if largest else 0
    best = _error(numbers, best_exponent(numbers))
    assert all(best <= _error(numbers, max(-60, first - step)) for step in range(CANDIDATES))


@given(st.integers(-20, 10), st.integers(1, 127))
def test_numbers_of_8_bits_are_kept_as_they_are(exponent: int, largest: int) -> None:
    numbers = np.arange(-largest, largest + 1) * 2.0**exponent
    found = best_exponent(numbers)
    assert np.array_equal(rounded(numbers, found) * 2.0**found, numbers)


def test_a_tensor_of_zeros_has_a_scale_all_the_same() -> None:
    assert best_exponent(np.zeros(4, np.float32)) == 0


def test_ties_go_to_even_and_what_is_too_large_is_cut_off() -> None:
    assert rounded(np.array([0.5, 1.5, -2.5, 400.0, -400.0]), 0).tolist() == [0.0, 2.0, -2.0, 127.0, -128.0]


def test_one_rare_large_number_does_not_take_the_bits_of_all_others() -> None:
    numbers = np.concatenate([np.linspace(-1, 1, 100_000), [9.0]])
    assert best_exponent(numbers) <= -5, "the outlier would need a scale of 2**-3"


def test_samples_of_a_large_tensor_choose_as_all_of_it_does() -> None:
    generator = np.random.default_rng(0)
    inputs = [generator.normal(size=(8, 64, 64)).astype(np.float32) for _ in range(64)]
    samples = Samples(inputs=len(inputs))
    for tensor in inputs:
        samples.add(tensor)
    assert samples.exponent() == best_exponent(np.concatenate([np.ravel(tensor) for tensor in inputs]))
