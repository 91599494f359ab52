"""Laws of the latency statistics, and the values of a known list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.stages.check.statistics import coefficient_of_variation, quantile, summarise

SAMPLES = st.lists(st.integers(min_value=1, max_value=10**12), min_size=1, max_size=60)


@given(SAMPLES, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_numpys_linear_one(samples: list[int], share: float) -> None:
    assert quantile(samples, share) == pytest.approx(float(np.quantile(np.array(samples, float), share)), rel=1e-9)


@given(SAMPLES)
def test_quantiles_stay_within_the_samples_and_in_order(samples: list[int]) -> None:
    summary = summarise(samples)
    assert min(samples) == summary.minimum <= summary.p50 <= summary.p90 <= max(samples)
    assert summary.count == len(samples)


@given(SAMPLES, st.randoms())
def test_the_order_of_the_samples_does_not_matter(samples: list[int], random: object) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert summarise(shuffled) == summarise(samples)


@given(SAMPLES, st.integers(min_value=1, max_value=1000))
def test_the_variation_does_not_depend_on_the_unit(samples: list[int], factor: int) -> None:
    scaled = [sample * factor for sample in samples]
    assert coefficient_of_variation(scaled) == pytest.approx(coefficient_of_variation(samples), rel=1e-9, abs=1e-12)


def test_a_known_list_has_known_statistics() -> None:
    summary = summarise([2, 4, 4, 4, 5, 5, 7, 9])
    assert (summary.minimum, summary.mean, summary.p50) == (2, 5.0, 4.5)
    assert summary.p90 == pytest.approx(7.6)
    assert summary.variation == pytest.approx(2.138089935 / 5)


def test_a_single_sample_does_not_vary() -> None:
    assert summarise([3]).variation == 0.0


def test_no_sample_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        summarise([])
