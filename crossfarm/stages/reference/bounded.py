"""Outputs whose extents depend on data, in the largest extents that are stated for them.

So the places that count are compared, and all others are zeros here and there; how many count is an output of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossfarm.stages.data.tensors import Array


def bounded(value: Array, shape: Sequence[int]) -> Array:
    """Return an array cut, or filled up with zeros, to a shape; the same array when it has the shape already.

    Args:
        value: of as many axes as the shape.
        shape: the stated one.
    """
    if value.shape == tuple(shape) or value.ndim != len(shape):
        return value
    result = np.zeros(shape, value.dtype)
    shared = tuple(slice(0, min(one, other)) for one, other in zip(value.shape, shape, strict=True))
    result[shared] = value[shared]
    return result
