from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.tvm.schedules import convolution, dense


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.sampled_from([1, 4, 8]))
def test_packed_weights_of_a_convolution_hold_every_weight_where_it_is_read(
    depth: int, groups: int, per_group: int, block: int
) -> None:
    padded = -(-per_group // block) * block
    weights = np.arange(1, 6 * depth * groups * per_group + 1).reshape(2, 3, depth, groups * per_group)
    packed = convolution.pack(weights, groups=groups, block=block)
    assert packed.shape == (groups * padded // block, 2, 3, depth, block)
    for channel in range(groups * per_group):
        place = channel // per_group * padded + channel % per_group
        assert np.array_equal(packed[place // block, :, :, :, place % block], weights[:, :, :, channel])
    assert np.count_nonzero(packed) == weights.size


@given(st.integers(1, 9), st.integers(1, 20), st.sampled_from([1, 4, 8]))
def test_a_packed_matrix_is_the_matrix_with_noughts_behind(depth: int, columns: int, block: int) -> None:
    padded = -(-columns // block) * block
    weights = np.arange(1, depth * columns + 1).reshape(depth, columns)
    packed = dense.pack(weights, block=block)
    unpacked = packed.transpose(1, 0, 2).reshape(depth, padded)
    assert np.array_equal(unpacked[:, :columns], weights)
    assert not unpacked[:, columns:].any()
