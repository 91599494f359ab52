"""How many elements of each window of a pooling count."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.tvm.operators.pooling import Windows


@given(
    extent=st.integers(1, 9),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    before=st.integers(0, 5),
    after=st.integers(0, 5),
    count=st.integers(1, 8),
    with_padding=st.booleans(),
)
def test_the_elements_of_windows_are_those_inside(
    *,
    extent: int,
    kernel: int,
    stride: int,
    dilation: int,
    before: int,
    after: int,
    count: int,
    with_padding: bool,
) -> None:
    one = Windows(
        extent=extent, kernel=kernel, stride=stride, dilation=dilation, before=before, after=after, count=count
    )
    places = [[k * stride - before + tap * dilation for tap in range(kernel)] for k in range(count)]
    low, high = (-before, extent + after) if with_padding else (0, extent)
    assert one.elements(with_padding=with_padding) == [sum(low <= at < high for at in window) for window in places]


def test_a_kernel_of_a_hundred_million_elements_is_not_counted_one_by_one() -> None:
    size = 100_000_000
    one = Windows(extent=4, kernel=size, stride=1, dilation=1, before=size, after=size, count=1000)
    started = time.perf_counter()
    assert one.elements(with_padding=False)[:3] == [0, 1, 2]
    assert time.perf_counter() - started < 1
