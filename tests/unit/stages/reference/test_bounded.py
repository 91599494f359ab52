"""Outputs in the largest extents that are stated for them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.stages.reference.bounded import bounded

extents = st.lists(st.integers(0, 4), min_size=2, max_size=2)


@given(given_shape=extents, stated=extents)
def test_what_is_shared_stays_and_the_rest_is_zeros(given_shape: list[int], stated: list[int]) -> None:
    value = np.arange(1, 1 + given_shape[0] * given_shape[1]).reshape(given_shape)
    result = bounded(value, stated)
    assert result.shape == tuple(stated)
    rows, columns = (min(one, other) for one, other in zip(given_shape, stated, strict=True))
    np.testing.assert_array_equal(result[:rows, :columns], value[:rows, :columns])
    assert np.count_nonzero(result) == rows * columns


def test_an_output_of_that_shape_is_not_copied() -> None:
    value = np.ones((2, 3), np.float32)
    assert bounded(value, (2, 3)) is value
