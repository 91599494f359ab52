"""Laws of the differences: what must never pass, and what must not depend on scale or order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from crossfarm.stages.check.comparison import Difference, OutputScale, Spread, argmax_agrees, channel_axis, compare

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
    # The smallest channel is held against a thousandth of the scale.
    assert compare(output, tensor, tolerance=0.21).within(0.21)


@given(TENSORS, TENSORS, st.sampled_from([1e-4, 0.05]))
def test_a_scale_for_each_channel_is_never_more_lenient_than_one_for_all(
    tensor: Floats, other: Floats, tolerance: float
) -> None:
    output = tensor + np.resize(other, tensor.shape) * np.float32(1e-3)
    found = compare(output, tensor, tolerance=tolerance)
    assert found.relative >= found.max_abs / found.scale * (1 - 1e-12)


def yolo_head(anchors: int = 60) -> Floats:
    """Return (cases, 1, anchors, 85): boxes in pixels of an image of 640, then 81 scores of 0 to 1."""
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 640, (3, 1, anchors, 4))
    scores = random.uniform(0, 1, (3, 1, anchors, 81)) ** 4
    return np.concatenate([boxes, scores], axis=-1).astype(np.float32)


@pytest.mark.parametrize("tolerance", [1e-4, 0.05])
def test_scores_that_are_all_zero_beside_boxes_in_pixels_are_caught(tolerance: float) -> None:
    reference = yolo_head()
    output = reference.copy()
    output[..., 4:] = 0
    found = compare(output, reference, tolerance=tolerance)
    assert not found.within(tolerance)
    assert found.max_abs / found.scale < 0.05, "one scale for all would let it pass"
    assert found.channel is not None and found.channel >= 4
    assert found.channel_scale < 10
    assert found.axis == 2


def test_channels_along_another_axis_are_judged_where_that_axis_is_declared() -> None:
    reference = np.ascontiguousarray(np.swapaxes(yolo_head(), 2, 3))
    output = reference.copy()
    output[:, :, 4:] = 0
    for axis in (1, -2):
        found = compare(output, reference, tolerance=0.05, yardstick=OutputScale(axis=axis))
        assert not found.within(0.05)
        assert found.axis == 1 and found.channel is not None and found.channel >= 4


def test_scales_that_differ_much_are_told_along_every_axis() -> None:
    reference = yolo_head()
    (spread,) = compare(reference, reference, tolerance=0.05).spreads
    assert spread.axis == 2
    assert spread.largest[0] < 4 <= spread.smallest[0]
    assert spread.largest[1] > 600 and spread.smallest[1] <= 1
    turned = np.ascontiguousarray(np.swapaxes(reference, 2, 3))
    assert [spread.axis for spread in compare(turned, turned, tolerance=0.05).spreads] == [1]
    scaled = compare(reference, reference, tolerance=0.05, yardstick=OutputScale(scale=(640.0,) * 4 + (1.0,) * 81))
    assert scaled.spreads == ()


@pytest.mark.parametrize(("noise", "passes"), [(3.2e-7, True), (9e-7, True), (1.2e-6, False), (1e-4, False)])
def test_a_channel_of_nothing_but_rounding_passes_and_one_of_more_does_not(noise: float, passes: bool) -> None:
    reference = np.array([[1000.0, 1e-6], [-900.0, -2e-6]])
    output = reference + np.array([[0.0, noise * 1000], [0.0, 0.0]])
    assert compare(output, reference, tolerance=1e-4).within(1e-4) is passes


@pytest.mark.parametrize(("noise", "passes"), [(4e-5, True), (6e-5, False)])
def test_a_channel_below_a_thousandth_of_the_output_is_held_against_a_thousandth(noise: float, passes: bool) -> None:
    reference = np.array([[1.0, 0.0], [0.5, 0.0]])
    assert compare(reference + np.array([0.0, noise]), reference, tolerance=0.05).within(0.05) is passes


def test_the_classes_of_a_distribution_have_one_scale_and_other_channels_their_own() -> None:
    likely = np.array([[0.9, 0.1, 0.0], [0.05, 0.947, 0.003]])
    output = likely + np.array([0.0, -0.002, 0.002])
    assert compare(output, likely, tolerance=0.05).within(0.05), "a rare class in int8 errs by its own size"
    assert not compare(output * 2, likely * 2, tolerance=0.05).within(0.05)
    assert not compare(np.zeros_like(likely), likely, tolerance=0.05).within(0.05)


def test_a_declared_scale_holds_in_place_of_what_is_seen() -> None:
    reference = np.array([[10.0, 0.5]])
    output = reference + np.array([0.2, 0.02])
    assert compare(output, reference, tolerance=0.03).relative == pytest.approx(0.04)
    assert compare(output, reference, tolerance=0.03, yardstick=OutputScale(scale=1.0)).relative == pytest.approx(0.2)
    own = OutputScale(scale=(10.0, 1.0))
    assert compare(output, reference, tolerance=0.03, yardstick=own).relative == pytest.approx(0.02)


def test_one_step_of_an_output_stored_in_integers_is_granted_and_two_are_not() -> None:
    reference = np.array([[100.0, 0.5], [-50.0, 0.0]])
    for steps, passes in ((1, True), (2, False)):
        output = reference + np.array([0.0, 0.5 * steps])
        assert compare(output, reference, tolerance=0.01, yardstick=OutputScale(step=0.5)).within(0.01) is passes


@pytest.mark.parametrize(
    ("axis", "scale", "message"),
    [
        (2, None, r"axis 2 is none of the axes of \[3, 4\]"),
        (-3, None, "axis -3 is none of the axes"),
        (-1, (1.0, 2.0), "scale has 2 numbers, but .* has 4 channels along axis 1"),
    ],
)
def test_a_yardstick_for_another_shape_is_refused(axis: int, scale: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), tolerance=0.1, yardstick=OutputScale(axis=axis, scale=scale))


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 5), (3, 0), (3, 0, 4), (3, 4, 0), (0, 4)])
def test_scalars_vectors_and_empty_outputs_are_compared(shape: tuple[int, ...]) -> None:
    reference = np.ones(shape, np.float32)
    assert compare(reference, reference, tolerance=1e-4).within(1e-4)
    if reference.size:
        found = compare(reference * np.float32(1.001), reference, tolerance=1e-4)
        assert not found.within(1e-4)
        assert (found.channel is None) == (len(shape) == 1 or shape[-1] == 1)


def test_integers_beyond_the_exact_floats_differ_where_they_differ() -> None:
    reference = np.array([[2**62, 5]], np.int64)
    found = compare(reference + np.array([1, 0]), reference, tolerance=0.0)
    assert not found.within(0.0)
    assert found.correct == 0.5
    assert compare(reference, reference, tolerance=0.0).within(0.0)


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


def test_the_cosine_is_that_of_the_angle() -> None:
    reference = np.array([[3.0, 4.0]])
    cosines = {(4.0, 3.0): 0.96, (-3.0, -4.0): -1.0, (4.0, -3.0): 0.0, (6.0, 8.0): 1.0, (0.0, 0.0): 0.0}
    for output, cosine in cosines.items():
        found = compare(np.array([output]), reference, tolerance=0.1).cosine
        assert found == pytest.approx(cosine, abs=1e-15)
        assert abs(found) <= 1.0
    zeros = np.zeros((1, 2))
    assert compare(zeros, zeros, tolerance=0.1).cosine == 1.0
    assert compare(reference, zeros, tolerance=0.1).cosine == 0.0
    assert np.isnan(compare(np.array([[np.nan, 4.0]]), reference, tolerance=0.1).cosine)


def test_the_cosine_of_what_is_parallel_is_one_though_its_parts_are_rounded() -> None:
    one = np.array([[1.0, 6.0]])  # the plain quotient is 1 + 2^-52
    assert compare(one, one, tolerance=0.1).cosine == 1.0
    assert compare(-one, one, tolerance=0.1).cosine == -1.0


def test_the_cosine_neither_overflows_nor_vanishes() -> None:
    for factor in (1e300, 1e-300):
        found = compare(np.array([[4.0, 3.0]]) * factor, np.array([[3.0, 4.0]]) * factor, tolerance=0.1)
        assert found.cosine == pytest.approx(0.96)


def test_the_worst_case_and_the_worst_channel_are_named() -> None:
    reference = np.array([[1.0, 10.0, 100.0], [1.0, 10.0, 100.0], [-1.0, -10.0, 100.0]])
    output = reference + np.array([[0.0, 0.0, 9.0], [0.2, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = compare(output, reference, tolerance=0.1, argmax=True)
    assert found == Difference(
        scale=100.0,
        max_abs=9.0,
        relative=found.relative,
        mean_abs=pytest.approx(10.2 / 9),
        cosine=found.cosine,
        correct=pytest.approx(8 / 9),
        argmax=1.0,
        worst_case=1,
        channel=0,
        channel_scale=1.0,
        axis=0,
        spreads=(),
        not_finite=0,
        cases=3,
        elements=9,
    )
    assert found.relative == pytest.approx(0.2)
    assert compare(output, reference, tolerance=0.1).argmax is None


def test_what_is_not_finite_is_counted_and_differs_infinitely() -> None:
    reference = np.array([[1.0, 2.0], [3.0, 4.0]])
    output = np.array([[1.0, np.inf], [np.nan, 4.0]])
    found = compare(output, reference, tolerance=0.1, argmax=True)
    assert (found.max_abs, found.relative, found.mean_abs) == (np.inf, np.inf, np.inf)
    assert (found.not_finite, found.correct, found.argmax) == (2, 0.5, 0.0)


def test_an_output_without_elements_is_good_and_has_the_scale_one() -> None:
    for shape in ((0, 4), (3, 0), (3, 0, 4)):
        empty = np.ones(shape, np.float32)
        found = compare(empty, empty, tolerance=0.1, argmax=not shape[0])
        assert found == Difference(
            scale=1.0,
            max_abs=0.0,
            relative=0.0,
            mean_abs=0.0,
            cosine=1.0,
            correct=1.0,
            argmax=None,
            worst_case=0,
            channel=0 if shape[-1] else None,
            channel_scale=1.0,
            axis=len(shape) - 2,
            spreads=(),
            not_finite=0,
            elements=0,
            cases=shape[0],
        )


@pytest.mark.parametrize(
    ("shape", "axis", "found"),
    [((3, 4), -1, 1), ((3, 4), -2, 0), ((3, 4), 0, 0), ((3, 4), 1, 1), ((), 0, 0), ((), -1, 0), ((5,), 0, 0)],
)
def test_the_channel_axis_is_counted_from_the_first(shape: tuple[int, ...], axis: int, found: int) -> None:
    assert channel_axis(shape, OutputScale(axis=axis)) == found


@pytest.mark.parametrize(("shape", "axis"), [((3, 4), 2), ((3, 4), -3), ((), 1), ((), -2), ((5,), 1), ((5,), -2)])
def test_an_axis_that_is_not_there_is_refused_with_those_that_are(shape: tuple[int, ...], axis: int) -> None:
    with pytest.raises(ValueError, match=f"give one from {-len(shape)} to {len(shape) - 1}$"):
        channel_axis(shape, OutputScale(axis=axis))


def test_a_scale_for_each_channel_needs_as_many_as_there_are() -> None:
    assert channel_axis((3, 4), OutputScale(axis=0, scale=(1.0, 2.0, 3.0))) == 0
    assert channel_axis((), OutputScale(scale=(1.0,))) == 0
    for shape, scale in (((3, 4), (1.0, 2.0, 3.0, 4.0)), ((), (1.0, 2.0))):
        with pytest.raises(ValueError, match="give one number, or one for each"):
            channel_axis(shape, OutputScale(axis=0, scale=scale))


def test_a_distribution_may_err_by_two_hundredths_and_has_two_classes_and_no_negative_one() -> None:
    """Only the channels of a distribution share the scale of the largest; others have their own."""
    found = {}
    for total in (0.97, 0.981, 1.019, 1.03):
        reference = np.array([[0.1, total - 0.1]])
        output = reference + np.array([[0.05, 0.0]])
        found[total] = compare(output, reference, tolerance=0.1).channel_scale == pytest.approx(total - 0.1)
    assert found == {0.97: False, 0.981: True, 1.019: True, 1.03: False}
    signed = np.array([[-0.1, 1.1]])
    assert compare(signed + np.array([[0.05, 0.0]]), signed, tolerance=0.1).channel_scale == pytest.approx(0.1)
    one = np.array([[[1.0], [0.5]]])
    assert compare(one, one, tolerance=0.1, yardstick=OutputScale(axis=0)).channel_scale == 1.0
    mixed = np.array([[0.1, 0.9], [0.1, 0.5]])
    assert compare(mixed + np.array([0.05, 0.0]), mixed, tolerance=0.1).channel_scale == pytest.approx(0.1)


@pytest.mark.parametrize(("smallest", "told"), [(0.0099, True), (0.01, False), (0.0, False)])
def test_a_spread_is_told_from_more_than_a_hundred_on(smallest: float, told: bool) -> None:
    reference = np.array([[0.5, smallest, -1.0, 0.0], [0.5, 0.0, 0.3, 0.0]])
    spreads = compare(reference, reference, tolerance=0.1).spreads
    assert spreads == ((Spread(axis=0, largest=(2, 1.0), smallest=(1, smallest)),) if told else ())


def test_the_argmax_is_that_of_the_last_axis_of_each_case() -> None:
    reference = np.array([[1, 3, 2], [4, 1, 0]])
    assert argmax_agrees(reference * 2, reference).tolist() == [True, True]
    assert argmax_agrees(np.array([[1, 3, 2], [0, 1, 0]]), reference).tolist() == [True, False]
    assert argmax_agrees(np.array([[1.0, np.inf, 2.0], [4.0, 1.0, np.nan]]), reference).tolist() == [False, False]


def test_a_tolerance_of_zero_grants_no_rounding() -> None:
    reference = np.array([[1.0, 2.0]])
    output = np.nextafter(reference, 3.0)
    assert not compare(output, reference, tolerance=0.0).within(0.0)
    assert compare(output, reference, tolerance=1e-6).within(1e-6)
    assert compare(output, reference, tolerance=0.0).correct == 0.0
