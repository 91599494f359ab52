"""NaN and infinities go through compiled operators as through ONNX Runtime's; docs/preparing.md has the exceptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crossfarm.backends.tvm.schedules.processor import Processor
from tests.integration.backends.tvm.not_numbers import (
    ACTIVATIONS,
    ELEMENTWISE,
    LENGTHS,
    Array,
    everywhere,
    node,
    one_each,
)
from tests.integration.backends.tvm.running import PROCESSORS, Outcome, run_both

pytestmark = pytest.mark.integration

processors = pytest.mark.parametrize(
    "processor", [PROCESSORS[name] for name in ("AVX-512", "AVX2", "none")], ids=["AVX-512", "AVX2", "no vectors"]
)


def assert_same(outcome: Outcome, expected: Array | None = None) -> None:
    (got,), wanted = outcome.scheduled, outcome.expected[0] if expected is None else expected
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


@processors
@pytest.mark.parametrize("operator", list(ELEMENTWISE))
def test_each_value_gives_what_it_gives_in_onnx_runtime_in_every_place(operator: str, processor: Processor) -> None:
    nodes, constants = ELEMENTWISE[operator]
    for length in LENGTHS:
        assert_same(run_both(nodes, {"x": everywhere(length)}, constants, processor=processor))


@processors
@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_sum_is_nan_where_onnx_runtime_s_is(operator: str, axis: int, processor: Processor) -> None:
    for length in LENGTHS:
        for value in (np.nan, np.inf, -np.inf):
            image = one_each(8, length, value)
            assert_same(run_both([node(operator, ["x"], ["y"], axes=[axis])], {"x": image}, {}, processor=processor))


@processors
@pytest.mark.parametrize(("operator", "reduce"), [("ReduceMax", np.max), ("ReduceMin", np.min)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_maximum_is_nan_wherever_the_nan_stands(
    operator: str, reduce: Callable[..., Array], axis: int, value: float, processor: Processor
) -> None:
    # ONNX Runtime's is NaN only when the first of the numbers is: NumPy says what is right.
    for length in (5, 16, 37, 128):
        values = one_each(length, length, value)
        outcome = run_both(
            [node(operator, ["x"], ["y"], axes=[axis], keepdims=0)], {"x": values}, {}, processor=processor
        )
        assert_same(outcome, reduce(values, axis=axis))


@processors
@pytest.mark.parametrize(("operator", "value"), [("ReduceMax", -np.inf), ("ReduceMin", np.inf)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_maximum_of_nothing_but_minus_infinity_is_that(
    operator: str, value: float, axis: int, processor: Processor
) -> None:
    values = np.full((32, 64), value, np.float32)
    assert_same(run_both([node(operator, ["x"], ["y"], axes=[axis])], {"x": values}, {}, processor=processor))


@processors
@pytest.mark.parametrize("channels", [16, 3])
@pytest.mark.parametrize("with_layout", [False, True], ids=["as it is", "channels last"])
def test_pooling_is_nan_wherever_its_window_holds_one(channels: int, with_layout: bool, processor: Processor) -> None:
    image = np.random.default_rng(0).standard_normal((1, channels, 9, 9)).astype(np.float32)
    image[0, channels // 2, 4, 4] = np.nan
    holds = {(y, x) for y in range(9) for x in range(9) if abs(y - 4) <= 1 and abs(x - 4) <= 1}
    eye = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    before, source = ([node("Conv", ["x", "w"], ["c"])], "c") if with_layout else ([], "x")
    for operator in ("MaxPool", "AveragePool"):
        outcome = run_both(
            [*before, node(operator, [source], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
            {"x": image},
            {"w": eye} if with_layout else {},
            processor=processor,
        )
        found = np.isnan(outcome.scheduled[0][0])
        # A product with NaN in it is NaN in all channels.
        of_channel = found[channels // 2]
        assert {(y, x) for y in range(9) for x in range(9) if of_channel[y, x]} == holds
        assert with_layout or found.sum() == len(holds)


@processors
@pytest.mark.parametrize("operator", ["GlobalMaxPool", "GlobalAveragePool"])
def test_pooling_of_a_whole_image_is_nan_when_it_holds_one(operator: str, processor: Processor) -> None:
    image = np.zeros((1, 8, 5, 7), np.float32)
    for channel in range(7):
        image[0, channel, channel % 5, channel] = np.nan
    outcome = run_both([node(operator, ["x"], ["y"])], {"x": image}, {}, processor=processor)
    assert np.isnan(outcome.scheduled[0]).ravel().tolist() == [True] * 7 + [False]


@processors
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("layer", ["convolution", "depthwise", "winograd", "dense"])
def test_nan_goes_through_what_is_fused_behind_a_product(layer: str, activation: str, processor: Processor) -> None:
    nodes, constants = ACTIVATIONS[activation]
    generator = np.random.default_rng(1)

    def random(*shape: int) -> Array:
        return generator.standard_normal(shape).astype(np.float32)

    if layer == "dense":
        first, image, weights = node("Gemm", ["x", "w", "b"], ["c"]), random(13, 20), random(20, 37)
        image[np.arange(9), np.arange(9)] = np.resize([np.nan, np.inf, -np.inf], 9)
    else:
        channels, per_group = (19, 1) if layer == "depthwise" else (16, 16)
        image, weights = random(1, channels, 12, 12), random(channels, per_group, 3, 3)
        attributes = {"pads": [1] * 4, "group": channels // per_group}
        first = node("Conv", ["x", "w", "b"], ["c"], **attributes)
        for place, value in enumerate([np.nan, np.inf, -np.inf]):
            image[0, place::3, 1 + 5 * place, :: 1 + 4 * place] = value
    bias = random(weights.shape[1] if layer == "dense" else len(weights))
    outcome = run_both([first, *nodes], {"x": image}, {"w": weights, "b": bias, **constants}, processor=processor)
    assert np.isnan(outcome.expected[0]).any()
    assert not np.isnan(outcome.expected[0]).all()
    assert_same(outcome)


@processors
@pytest.mark.parametrize("length", LENGTHS)
def test_a_masked_softmax_is_nan_and_a_guard_behind_it_finds_that(length: int, processor: Processor) -> None:
    mask = np.ones((3, length), bool)
    mask[1], mask[2, 1:] = False, False
    constants = {"zero": np.zeros(1, np.float32), "minus": np.array([-np.inf], np.float32)}
    nodes = [node("Where", ["x", "zero", "minus"], ["s"]), node("Softmax", ["s"], ["p"], axis=-1)]
    guard: list[Any] = [node("IsNaN", ["p"], ["q"]), node("Where", ["q", "zero", "p"], ["y"])]
    outcome = run_both([*nodes, *guard], {"x": mask}, constants, outputs=("p", "y"), processor=processor)
    plain, guarded = outcome.scheduled
    assert np.isnan(plain[1]).all()
    assert not guarded[1].any()
    assert plain[2].tolist() == [1.0, *[0.0] * (length - 1)]
    for got, wanted in zip(outcome.scheduled, outcome.expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-7)
