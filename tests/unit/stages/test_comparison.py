"""Laws of the differences: what must never pass, and what must not depend on scale or order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from crossfarm.stages.comparison import argmax_agrees, compare

Floats = NDArray[np.float32]

TENSORS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5),
    elements=st.floats(min_value=-1000, max_value=1000, width=32, allow_subnormal=False),
)


@given(TENSORS)
def test_equal_outputs_differ_by_nothing(tensor: Floats) -> None:
    difference = compare(tensor, tensor, tolerance=1e-6, argmax=True)
    assert (difference.max_abs, difference.relative, difference.mean_abs) == (0, 0, 0)
    assert difference.cosine == pytest.approx(1.0)
    assert (difference.correct, difference.argmax, difference.not_finite) == (1, 1, 0)
    assert difference.within(1e-12)


@given(TENSORS, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_nan_and_infinity_never_pass(tensor: Floats, bad: float, data: st.DataObject) -> None:
    output = tensor.copy()
    place = data.draw(st.integers(min_value=0, max_value=output.size - 1))
    output.reshape(-1)[place] = bad
    difference = compare(output, tensor, tolerance=1.0, argmax=True)
    assert not difference.within(1e30)
    assert difference.not_finite == 1
    assert difference.correct < 1
    assert difference.argmax is not None and difference.argmax < 1


@given(TENSORS, st.integers(min_value=-20, max_value=20))
def test_the_relative_difference_does_not_depend_on_the_scale(tensor: Floats, exponent: int) -> None:
    output = tensor + np.float32(1)
    factor = 2.0**exponent
    one = compare(output, tensor, tolerance=1e-3)
    other = compare(output * np.float64(factor), tensor * np.float64(factor), tolerance=1e-3)
    if np.any(tensor):
        assert other.relative == pytest.approx(one.relative, rel=1e-9)
        assert other.scale == pytest.approx(one.scale * factor)
        assert other.correct == one.correct
    assert other.cosine == pytest.approx(one.cosine)


@given(TENSORS, st.integers(min_value=1, max_value=3))
def test_a_single_moved_element_is_caught_wherever_it_is(tensor: Floats, seed: int) -> None:
    output = tensor.astype(np.float64)
    place = np.random.Generator(np.random.PCG64(seed)).integers(output.size)
    scale = float(np.max(np.abs(tensor))) or 1.0
    output.reshape(-1)[place] += 2e-4 * scale
    assert not compare(output, tensor, tolerance=1e-4).within(1e-4)
    assert compare(output, tensor, tolerance=1e-3).within(1e-3)


def test_a_permuted_output_is_caught_by_the_largest_difference() -> None:
    reference = np.linspace(0, 1, 64, dtype=np.float32).reshape(2, 32)
    permuted = reference[:, ::-1].copy()
    difference = compare(permuted, reference, tolerance=1e-4, argmax=True)
    assert difference.cosine > 0.5
    assert difference.relative > 0.4
    assert difference.argmax == 0


def test_the_difference_is_measured_against_the_largest_reference_of_all_cases() -> None:
    reference = np.array([[1.0, 2.0], [100.0, -200.0]])
    output = reference + np.array([[0.0, 0.0], [0.0, 2.0]])
    difference = compare(output, reference, tolerance=0.005)
    assert difference.scale == 200
    assert difference.max_abs == 2
    assert difference.relative == 0.01
    assert difference.mean_abs == 0.5
    assert difference.correct == 0.75
    assert difference.worst_case == 1
    assert not difference.within(0.005)
    assert difference.within(0.01)


def test_a_reference_of_zeros_has_scale_one() -> None:
    zeros = np.zeros((1, 4), np.float32)
    difference = compare(zeros + np.float32(0.5), zeros, tolerance=1e-4)
    assert (difference.scale, difference.relative, difference.cosine) == (1, 0.5, 0)


def test_integers_and_booleans_are_compared_without_wrapping_around() -> None:
    reference = np.array([[0, 255]], np.uint8)
    assert compare(np.array([[255, 0]], np.uint8), reference, tolerance=0.1).max_abs == 255
    flags = np.array([[True, False]])
    assert compare(~flags, flags, tolerance=0.1).max_abs == 1


def test_a_sequence_of_scores_agrees_only_when_every_step_does() -> None:
    reference = np.array([[[0.1, 0.9], [0.8, 0.2]], [[0.7, 0.3], [0.6, 0.4]]])
    output = reference.copy()
    output[1, 1] = [0.4, 0.6]
    assert argmax_agrees(output, reference).tolist() == [True, False]


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        compare(np.zeros((1, 2)), np.zeros((2, 1)), tolerance=1e-4)
