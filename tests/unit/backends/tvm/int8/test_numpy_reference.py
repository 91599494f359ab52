"""The integer arithmetic in NumPy, held against real numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crossfarm.backends.tvm.int8 import numpy_reference
from crossfarm.backends.tvm.int8.numpy_reference import QuantParams

scales = st.floats(2.0**-12, 2.0**2).map(lambda scale: float(np.float32(scale)))
params = st.builds(QuantParams, scale=scales, zero=st.integers(0, 255))


@given(params, st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_what_is_dequantised_is_quantised_to_the_same(how: QuantParams, stored: list[int]) -> None:
    array = np.array(stored, np.uint8)
    assert np.array_equal(
        numpy_reference.quantise(numpy_reference.dequantise(array, params=how), params=how, dtype="uint8"), array
    )


@given(params, st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=50))
def test_quantising_errs_by_half_a_step_at_most(how: QuantParams, values: list[float]) -> None:
    array = np.array(values, np.float32)
    stored = numpy_reference.quantise(array, params=how, dtype="uint8")
    for value, found in zip(array.tolist(), stored.tolist(), strict=True):
        exact = Fraction(value) / Fraction(how.scale) + how.zero
        nearest = min(max(exact, Fraction(0)), Fraction(255))
        assert abs(nearest - found) <= Fraction(501, 1000)


@given(params, params, params, st.integers(0, 255), st.integers(0, 255))
def test_a_sum_errs_by_half_a_step_at_most(
    left: QuantParams, right: QuantParams, result: QuantParams, x: int, y: int
) -> None:
    how = numpy_reference.add_params(left, right, result)
    low, high = result.bounds("uint8")
    found = numpy_reference.add(
        np.array([x], np.uint8),
        np.array([y], np.uint8),
        params=how,
        low=low,
        high=high,
        zero=result.zero,
        dtype="uint8",
    )
    exact = (Fraction(left.scale) * (x - left.zero) + Fraction(right.scale) * (y - right.zero)) / Fraction(
        result.scale
    ) + result.zero
    assert abs(min(max(exact, Fraction(0)), Fraction(255)) - int(found[0])) <= Fraction(52, 100)


@st.composite
def hard_swishes(draw: st.DrawFn) -> tuple[float, float, float, QuantParams]:
    """Draw shift, top and factor, mostly those of HardSwish, and params of the result that have integers for it."""
    hard = (3.0, 6.0, 1 / 6)
    shift, top, factor = draw(
        st.one_of(st.just(hard), st.tuples(st.floats(0.5, 4), st.floats(4.5, 10), st.floats(0.05, 2)))
    )
    # Most scales between 2**-9 and 2 have integers, few of the others.
    scale = 2.0 ** draw(st.one_of(st.floats(-9, 1), st.floats(-12, 12)))
    result = QuantParams(scale=float(np.float32(scale)), zero=draw(st.integers(0, 255)))
    assume(
        numpy_reference.hard_swish_params(shift=shift, top=top, factor=factor, result=result, dtype="uint8") is not None
    )
    return shift, top, factor, result


@given(hard_swishes(), st.lists(st.one_of(st.floats(-5, 5), st.floats(-1e3, 1e3)), min_size=1, max_size=50))
def test_a_hard_swish_errs_by_little_more_than_half_a_step(
    drawn: tuple[float, float, float, QuantParams], values: list[float]
) -> None:
    shift, top, factor, result = drawn
    how = numpy_reference.hard_swish_params(shift=shift, top=top, factor=factor, result=result, dtype="uint8")
    assert how is not None
    x = np.array(values)
    int16_values = np.clip(np.rint(x / how.step), -(2**15), 2**15 - 1).astype(np.int16)
    real = x * np.clip(x + shift, 0, top) * factor / result.scale + result.zero
    found = numpy_reference.hard_swish(int16_values, params=how, dtype="uint8")
    assert np.abs(found - np.clip(real, 0, 255)).max() <= 0.8


@given(hard_swishes(), st.integers(-(2**15), 2**15 - 1))
def test_a_hard_swish_has_the_same_numbers_stored_with_a_sign_and_without(
    drawn: tuple[float, float, float, QuantParams], value: int
) -> None:
    shift, top, factor, result = drawn
    signed = QuantParams(scale=result.scale, zero=result.zero - 128)
    one = numpy_reference.hard_swish_params(shift=shift, top=top, factor=factor, result=result, dtype="uint8")
    other = numpy_reference.hard_swish_params(shift=shift, top=top, factor=factor, result=signed, dtype="int8")
    assert one is not None and other is not None
    half = np.array([value], np.int16)
    assert (
        int(numpy_reference.hard_swish(half, params=one, dtype="uint8")[0])
        == int(numpy_reference.hard_swish(half, params=other, dtype="int8")[0]) + 128
    )


@pytest.mark.parametrize(
    ("scale", "zero", "top"),
    [(2.0**-14, 0, 6.0), (0.1, 255, 6.0), (4.0, 0, 6.0), (1e4, 0, 6.0), (0.1, 0, math.inf)],
    ids=["small results", "nothing above zero", "large results", "huge results", "no bound"],
)
def test_a_hard_swish_that_16_bits_do_not_hold_has_no_integers(scale: float, zero: int, top: float) -> None:
    result = QuantParams(scale=scale, zero=zero)
    assert numpy_reference.hard_swish_params(shift=3.0, top=top, factor=1 / 6, result=result, dtype="uint8") is None


def test_ties_go_to_the_even_neighbour_before_the_zero_point_is_added() -> None:
    how = QuantParams(scale=1.0, zero=3)
    values = np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert numpy_reference.quantise(values, params=how, dtype="uint8").tolist() == [1, 3, 3, 5, 5]


def test_a_real_bound_is_a_bound_of_what_is_stored() -> None:
    how = QuantParams(scale=0.5, zero=10)
    assert how.bounds("uint8", 0.0, 6.0) == (0.0, 12.0)
    assert how.bounds("uint8") == (-10.0, 245.0)
    assert how.bounds("int8", -1000.0, 1000.0) == (-138.0, 117.0)


@pytest.mark.parametrize("zero", [0, 3, 128])
def test_what_stands_around_an_image_is_its_zero_point(zero: int) -> None:
    """A padded image is the same as one with its zero point written around it, on the side that is said."""
    rng = np.random.default_rng(zero)
    image = rng.integers(0, 256, (1, 4, 5, 2), dtype=np.uint8)
    weights = rng.integers(-128, 128, (3, 3, 2, 4), dtype=np.int8)
    how = {"zero": zero, "strides": (1, 1), "dilation": (1, 1), "groups": 1}
    for padding in ((1, 1, 1, 1), (1, 0, 2, 3), (0, 2, 0, 1)):
        top, left, bottom, right = padding
        around = np.full((1, 4 + top + bottom, 5 + left + right, 2), zero, np.uint8)
        around[:, top : top + 4, left : left + 5] = image
        found = numpy_reference.convolve(image, weights, padding=padding, **how)
        assert np.array_equal(found, numpy_reference.convolve(around, weights, padding=(0, 0, 0, 0), **how))


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 0, 2, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize(("strides", "dilation"), [((1, 1), (1, 1)), ((2, 1), (1, 2)), ((1, 2), (2, 1))])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_is_the_sum_over_its_window_with_zeros_outside_of_the_image(
    padding: tuple[int, int, int, int], strides: tuple[int, int], dilation: tuple[int, int], groups: int
) -> None:
    """Held against the definition, one multiplication after another in Python's own integers."""
    rng = np.random.default_rng(5)
    zero = 7
    image = rng.integers(0, 256, (1, 6, 7, 4), dtype=np.uint8)
    weights = rng.integers(-128, 128, (2, 3, 4 // groups, 4), dtype=np.int8)
    found = numpy_reference.convolve(
        image, weights, zero=zero, strides=strides, padding=padding, dilation=dilation, groups=groups
    )
    top, left, bottom, right = padding
    assert found.shape[1] == (6 + top + bottom - dilation[0] - 1) // strides[0] + 1
    assert found.shape[2] == (7 + left + right - 2 * dilation[1] - 1) // strides[1] + 1
    depth = 4 // groups
    for (_, row, column, channel), total in np.ndenumerate(found):
        exact = 0
        for ky, kx, inner in np.ndindex(2, 3, depth):
            y, x = row * strides[0] - top + ky * dilation[0], column * strides[1] - left + kx * dilation[1]
            if 0 <= y < 6 and 0 <= x < 7:
                source = channel // (4 // groups) * depth + inner
                exact += (int(image[0, y, x, source]) - zero) * int(weights[ky, kx, inner, channel])
        assert total == exact
