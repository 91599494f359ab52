"""Winograd's algorithm in integers: its algebra, and where it is taken."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.tvm.int8 import numpy_reference
from crossfarm.backends.tvm.int8.dot_instructions import DOTS, IntegerUnit
from crossfarm.backends.tvm.int8.windows import Window
from crossfarm.backends.tvm.int8.winograd import LARGEST, pays, transformed
from crossfarm.backends.tvm.schedules.winograd import IMAGE, SUM

Array = np.ndarray[Any, Any]
AVX2 = IntegerUnit(activation="uint8", dots=(DOTS["pairs8"], DOTS["pairs4"]), registers=16)
NEON = IntegerUnit(activation="int8", dots=(DOTS["plain4"],), registers=32)
VNNI = IntegerUnit(activation="uint8", dots=(DOTS["vnni16"], DOTS["vnni8"], DOTS["vnni4"]), registers=32)
SAME = Window(kernel=(3, 3), padding=(1, 1, 1, 1))


def any_weights(depth: int, channels: int) -> Array:
    return np.random.default_rng(depth).integers(-128, 128, (3, 3, depth, channels)).astype(np.int8)


@given(st.integers(0, 2**32 - 1), st.sampled_from([-128, 0]), st.booleans())
def test_a_tile_of_integers_gives_four_times_the_sums_and_stays_within_16_bits(
    seed: int, least: int, is_extreme: bool
) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(least, least + 256, (1, 4, 4, 3))
    weights = generator.integers(-128, 128, (3, 3, 3, 2)).astype(np.int8)
    if is_extreme:
        image = np.where(image > least + 127, least + 255, least)
        weights = np.where(weights > 0, 127, -128).astype(np.int8)
    there, back = np.array(IMAGE[2], np.int64), np.array(SUM[2], np.int64)
    values, by = np.einsum("ai,bj,ijk->abk", there, there, image[0]), transformed(weights)
    product = np.einsum("abk,abkc->abc", values, by.astype(np.int64))
    sums = numpy_reference.convolve(
        image, weights, zero=0, strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1
    )
    assert np.array_equal(np.einsum("pa,qb,abc->pqc", back, back, product), 4 * sums[0])
    assert np.abs(values).max() <= LARGEST
    assert np.abs(by).max() < 2**15


@pytest.mark.parametrize("unit", [AVX2, NEON])
@pytest.mark.parametrize("shape", [(14, 32, 64), (7, 64, 128), (13, 16, 32)])
def test_it_pays_for_many_channels_where_the_instruction_multiplies_16_bits(
    unit: IntegerUnit, shape: tuple[int, int, int]
) -> None:
    size, depth, channels = shape
    assert pays((1, size, size, depth), any_weights(depth, channels), window=SAME, groups=1, unit=unit)


def test_it_does_not_pay_for_few_pixels_or_channels_or_where_four_bytes_are_multiplied_at_once() -> None:
    weights = any_weights(32, 64)
    assert not pays((1, 1, 1, 32), weights, window=SAME, groups=1, unit=AVX2)
    assert not pays((1, 28, 28, 2), any_weights(2, 64), window=SAME, groups=1, unit=AVX2)
    assert not pays((1, 14, 14, 32), weights, window=SAME, groups=1, unit=VNNI)


def test_it_is_for_windows_of_3x3_with_stride_1_of_one_image() -> None:
    weights = any_weights(32, 64)
    strided = dataclasses.replace(SAME, strides=(2, 2))
    dilated = dataclasses.replace(SAME, dilation=(2, 2))
    assert not pays((1, 14, 14, 32), weights, window=strided, groups=1, unit=AVX2)
    assert not pays((1, 14, 14, 32), weights, window=dilated, groups=1, unit=AVX2)
    assert not pays((1, 14, 14, 64), weights, window=SAME, groups=2, unit=AVX2)
    assert not pays((2, 14, 14, 32), weights, window=SAME, groups=1, unit=AVX2)


def test_it_is_not_taken_when_a_sum_of_some_image_could_leave_32_bits() -> None:
    weights = np.where(np.indices((3, 3)).sum(axis=0) % 2, -128, 127).astype(np.int8)[..., None, None]
    fitting = 2**31 // (int(np.abs(transformed(weights)).sum()) * LARGEST) // 16 * 16
    for depth, is_taken in ((fitting, True), (fitting + 16, False)):
        many = np.ascontiguousarray(np.broadcast_to(weights, (3, 3, depth, 32)))
        assert pays((1, 8, 8, depth), many, window=SAME, groups=1, unit=AVX2) == is_taken
