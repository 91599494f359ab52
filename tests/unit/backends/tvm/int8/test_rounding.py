"""Rounding: kernels that are put together stay as long as the sum of their parts."""

from __future__ import annotations

import itertools

import pytest
from tvm import tirx

from crossfarm.backends.tvm.int8.rounding import Rounding


@pytest.mark.parametrize("converts", [False, True])
def test_functions_that_are_rounded_one_by_one_grow_by_as_much_each(converts: bool) -> None:
    rounding = Rounding(low=-128.0, high=127.0, zero=0, dtype="int8", converts=converts)
    lengths, value = [], tirx.Var("x", "float32")
    for _ in range(6):
        value = rounding.of(value * tirx.const(0.5, "float32")).astype("float32")
        lengths.append(len(str(value)))
    growth = [after - before for before, after in itertools.pairwise(lengths)]
    assert max(growth) <= 2 * lengths[0], lengths
