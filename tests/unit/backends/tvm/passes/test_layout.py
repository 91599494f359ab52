from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.tvm.passes.layout import inverse, only_moves_ones

shapes = st.lists(st.integers(1, 3), min_size=1, max_size=5)


@given(st.data(), shapes)
def test_the_inverse_of_a_transpose_undoes_it(data: st.DataObject, shape: list[int]) -> None:
    axes = data.draw(st.permutations(range(len(shape))))
    assert list(np.zeros(shape).transpose(axes).transpose(inverse(axes)).shape) == shape


@given(st.data(), shapes)
def test_a_transpose_that_moves_only_ones_leaves_memory_as_it_is(data: st.DataObject, shape: list[int]) -> None:
    axes = data.draw(st.permutations(range(len(shape))))
    values = np.arange(np.prod(shape)).reshape(shape)
    assert only_moves_ones(shape, axes) == bool(np.array_equal(values.transpose(axes).ravel(), values.ravel()))
