"""Laws of the schedules: whatever the shapes and the processor, they compute what ONNX Runtime computes."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from crossfarm.backends.tvm.schedules import depthwise
from tests.integration.backends.tvm.running import PROCESSORS, Array, run_both

pytestmark = pytest.mark.integration

small = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
processors = st.sampled_from(list(PROCESSORS.values()))
extents = st.integers(1, 20)
node = helper.make_node


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


@st.composite
def windows(draw: st.DrawFn, *, height: int, width: int) -> dict[str, Any]:
    """Draw attributes of a Conv whose window fits into an image."""
    kernel = [draw(st.integers(1, 4)), draw(st.integers(1, 4))]
    dilations = [draw(st.integers(1, 2)), draw(st.integers(1, 2))]
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    assume(height + pads[0] + pads[2] > dilations[0] * (kernel[0] - 1))
    assume(width + pads[1] + pads[3] > dilations[1] * (kernel[1] - 1))
    strides = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    return {"kernel_shape": kernel, "dilations": dilations, "pads": pads, "strides": strides}


@st.composite
def activations(draw: st.DrawFn) -> tuple[list[Any], dict[str, Array]]:
    """Draw nodes from `c` to `y` as they stand behind convolutions."""
    kind = draw(st.sampled_from(["none", "relu", "clip", "hard swish", "gate"]))
    bounds = {"low": np.float32(0.0).reshape(()), "high": np.float32(6.0).reshape(())}
    if kind == "relu":
        return [node("Relu", ["c"], ["y"])], {}
    if kind == "clip":
        return [node("Clip", ["c", "low", "high"], ["y"])], bounds
    if kind == "hard swish":
        return [
            node("Add", ["c", "three"], ["t"]),
            node("Clip", ["t", "low", "high"], ["k"]),
            node("Mul", ["c", "k"], ["m"]),
            node("Div", ["m", "high"], ["y"]),
        ], bounds | {"three": np.float32(3.0).reshape(())}
    if kind == "gate":
        return [
            node("GlobalAveragePool", ["c"], ["g"]),
            node("Sigmoid", ["g"], ["s"]),
            node("Mul", ["c", "s"], ["y"]),
        ], {}
    return [node("Identity", ["c"], ["y"])], {}


@small
@given(st.data(), processors, st.integers(1, 2), extents, extents)
def test_a_convolution_is_right_for_any_shape(
    data: st.DataObject, processor: Any, batch: int, height: int, width: int
) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]), label="groups")
    depth, per_group = data.draw(st.integers(1, 9), label="depth"), data.draw(st.integers(1, 34), label="channels")
    attributes = data.draw(windows(height=height, width=width))
    nodes, constants = data.draw(activations())
    outcome = run_both(
        [node("Conv", ["x", "w", "b"], ["c"], group=groups, **attributes), *nodes],
        {"x": random(batch, groups * depth, height, width)},
        {
            "w": random(groups * per_group, depth, *attributes["kernel_shape"]),
            "b": random(groups * per_group),
            **constants,
        },
        processor=processor,
    )
    outcome.assert_close()
    assert not outcome.unscheduled


@small
@given(st.data(), processors, extents, extents, st.integers(1, 40))
def test_a_depthwise_convolution_is_right_for_any_shape(
    data: st.DataObject, processor: Any, height: int, width: int, channels: int
) -> None:
    attributes = data.draw(windows(height=height, width=width))
    multiplier = data.draw(st.sampled_from([1, 1, 2]), label="multiplier")
    nodes, constants = data.draw(activations())
    # A small frame cuts the channels of small images into parts, as that of every size does to those of large ones.
    padded_bytes = data.draw(st.sampled_from([depthwise.PADDED_BYTES, 1024]), label="bytes of a padded strip")
    with patch.object(depthwise, "PADDED_BYTES", padded_bytes):
        outcome = run_both(
            [node("Conv", ["x", "w"], ["c"], group=channels, **attributes), *nodes],
            {"x": random(1, channels, height, width)},
            {"w": random(channels * multiplier, 1, *attributes["kernel_shape"]), **constants},
            processor=processor,
        )
    outcome.assert_close()
    assert not outcome.unscheduled


@small
@given(
    processors,
    st.integers(1, 40),
    st.tuples(st.integers(1, 9), st.integers(1, 20)),
    st.integers(1, 4),
    st.integers(0, 2),
)
def test_a_convolution_of_a_signal_is_right(
    processor: Any, width: int, channels: tuple[int, int], kernel: int, padding: int
) -> None:
    assume(width + 2 * padding >= kernel)
    outcome = run_both(
        [node("Conv", ["x", "w"], ["c"], pads=[padding, padding], strides=[2]), node("Relu", ["c"], ["y"])],
        {"x": random(1, channels[0], width)},
        {"w": random(channels[1], channels[0], kernel)},
        processor=processor,
    )
    outcome.assert_close()
    assert not outcome.unscheduled


@small
@given(st.data(), processors, st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(1, 5), st.integers(1, 9))
def test_a_transposed_convolution_is_right_between_two_others(
    data: st.DataObject, processor: Any, image: tuple[int, int], kernel: int, channels: int
) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2]), label="groups")
    strides = [data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))]
    dilation = data.draw(st.integers(1, 2), label="dilation")
    padding = data.draw(st.integers(0, min(2, dilation * (kernel - 1) // 2)), label="padding")
    more = [data.draw(st.integers(0, stride - 1)) for stride in strides]
    reach = dilation * (kernel - 1) + 1
    assume(all((n - 1) * s - 2 * padding + reach + m > 0 for n, s, m in zip(image, strides, more, strict=True)))
    assume(all(m < max(s, dilation) for s, m in zip(strides, more, strict=True)))
    attributes = {"strides": strides, "dilations": [dilation] * 2, "pads": [padding] * 4, "output_padding": more}
    outcome = run_both(
        [
            node("Conv", ["x", "v"], ["a"]),
            node("ConvTranspose", ["a", "w", "b"], ["c"], group=groups, **attributes),
            node("Conv", ["c", "u"], ["y"]),
        ],
        {"x": random(1, 3, *image)},
        {
            "v": random(2 * groups, 3, 1, 1),
            "w": random(2 * groups, channels, kernel, kernel),
            "b": random(channels * groups),
            "u": random(5, channels * groups, 1, 1),
        },
        processor=processor,
    )
    outcome.assert_close()
    assert not outcome.unscheduled


@small
@given(st.data(), processors, st.integers(1, 50), st.integers(1, 70))
def test_a_dense_layer_is_right_for_any_shape(data: st.DataObject, processor: Any, depth: int, columns: int) -> None:
    leading = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3), label="leading")
    outcome = run_both(
        [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["a"]), node("Relu", ["a"], ["y"])],
        {"x": random(*leading, depth)},
        {"w": random(depth, columns), "b": random(columns)},
        processor=processor,
    )
    outcome.assert_close()
    assert not outcome.unscheduled


@small
@given(st.data(), processors, st.integers(1, 20), st.integers(1, 20), st.integers(1, 40))
def test_a_product_of_two_computed_matrices_is_right(
    data: st.DataObject, processor: Any, rows: int, depth: int, columns: int
) -> None:
    stack = data.draw(st.lists(st.integers(1, 3), max_size=2), label="stack")
    other = [data.draw(st.sampled_from([1, extent])) for extent in stack]
    outcome = run_both(
        [node("MatMul", ["x", "z"], ["m"]), node("Mul", ["m", "half"], ["s"]), node("Add", ["s", "mask"], ["y"])],
        {"x": random(*stack, rows, depth), "z": random(*other, depth, columns), "mask": random(rows, columns)},
        {"half": np.float32(0.5).reshape(())},
        processor=processor,
    )
    outcome.assert_close()
    assert not outcome.unscheduled


@small
@given(processors, st.lists(st.integers(1, 7), min_size=1, max_size=2), st.integers(1, 70))
def test_softmax_is_right_and_sums_to_one(processor: Any, leading: list[int], length: int) -> None:
    outcome = run_both(
        [node("Softmax", ["x"], ["y"], axis=-1)], {"x": 20 * random(*leading, length)}, {}, processor=processor
    )
    outcome.assert_close(1e-6)
    assert not outcome.unscheduled
    assert np.allclose(outcome.scheduled[0].sum(axis=-1), 1, atol=1e-5)


@small
@given(
    st.data(), processors, st.sampled_from(["MaxPool", "AveragePool"]), st.tuples(extents, extents), st.integers(1, 20)
)
def test_pooling_is_right_for_any_window(
    data: st.DataObject, processor: Any, operator: str, image: tuple[int, int], channels: int
) -> None:
    height, width = image
    kernel = [data.draw(st.integers(1, min(3, extent))) for extent in (height, width)]
    pads = [data.draw(st.integers(0, (extent - 1) // 2)) for extent in (*kernel, *kernel)]
    outcome = run_both(
        [
            node("Conv", ["x", "w"], ["c"]),
            node(operator, ["c"], ["y"], kernel_shape=kernel, pads=pads, strides=[2, data.draw(st.integers(1, 2))]),
        ],
        {"x": random(1, 2, height, width)},
        {"w": random(channels, 2, 1, 1)},
        processor=processor,
    )
    outcome.assert_close()


@small
@given(
    st.data(),
    processors,
    st.sampled_from(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"]),
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.booleans(),
)
def test_a_reduction_is_right_over_any_axes(
    data: st.DataObject, processor: Any, operator: str, shape: list[int], keep: bool
) -> None:
    shape = [*shape[:-1], data.draw(st.sampled_from([shape[-1], 32, 48, 64]), label="innermost")]
    axes = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1), label="axes"))
    outcome = run_both(
        [node(operator, ["x"], ["r"], axes=axes, keepdims=int(keep)), node("Abs", ["r"], ["y"])],
        {"x": random(*shape)},
        {},
        processor=processor,
    )
    outcome.assert_close()


@small
@given(
    st.data(),
    processors,
    st.sampled_from(["float32", "float64", "int32", "int64", "int8", "uint8"]),
    st.lists(st.integers(1, 17), min_size=1, max_size=4),
)
def test_arithmetic_with_broadcasting_and_transposes_is_right(
    data: st.DataObject, processor: Any, dtype: str, shape: list[int]
) -> None:
    axes = data.draw(st.permutations(range(len(shape))), label="axes")
    other = [data.draw(st.sampled_from([1, extent])) for extent in shape]
    values = np.arange(math.prod(shape)).reshape(shape)
    outcome = run_both(
        [
            node("Add", ["x", "z"], ["s"]),
            node("Transpose", ["s"], ["t"], perm=axes),
            node("Concat", ["t", "t"], ["u"], axis=axes.index(0)),
            node("Mul", ["u", "u"], ["y"]),
        ],
        {"x": (values % 7).astype(dtype), "z": (np.arange(math.prod(other)).reshape(other) % 3).astype(dtype)},
        {},
        processor=processor,
    )
    outcome.assert_close(0.0)


def test_two_convolutions_in_a_row_need_transposes_at_the_ends_only() -> None:
    outcome = run_both(
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Clip", ["a", "low", "high"], ["b"]),
            node("Conv", ["b", "v"], ["c"]),
            node("Add", ["b", "c"], ["y"]),
        ],
        {"x": random(1, 8, 9, 9)},
        {
            "w": random(16, 8, 3, 3),
            "v": random(16, 16, 1, 1),
            "low": np.zeros((), np.float32),
            "high": np.full((), 6, np.float32),
        },
        processor=PROCESSORS["AVX2"],
    )
    outcome.assert_close()
    assert sum("transpose" in name for name in outcome.functions) == 2
    assert len(outcome.functions) == 4


def test_a_gate_is_computed_once_and_not_for_every_pixel() -> None:
    """Squeeze and excite: the last Mul is fused behind the second convolution, whose result is a single pixel."""
    outcome = run_both(
        [
            node("GlobalAveragePool", ["x"], ["g"]),
            node("Conv", ["g", "w"], ["c"]),
            node("Sigmoid", ["c"], ["s"]),
            node("Mul", ["x", "s"], ["y"]),
        ],
        {"x": random(1, 16, 40, 40)},
        {"w": random(16, 16, 1, 1)},
        processor=PROCESSORS["AVX2"],
    )
    outcome.assert_close()
    assert not outcome.unscheduled


@pytest.mark.parametrize(("length", "left"), [(64, 0), (49, 1)])
def test_a_reduction_that_no_vector_divides_is_left_and_counted(length: int, left: int) -> None:
    outcome = run_both(
        [node("ReduceMax", ["x"], ["r"], axes=[-1]), node("Abs", ["r"], ["y"])],
        {"x": random(16, length)},
        {},
        processor=PROCESSORS["AVX2"],
    )
    outcome.assert_close()
    assert not outcome.unscheduled
    assert len(outcome.partly) == left


def test_without_vectors_a_reduction_has_no_better_form_and_is_not_counted() -> None:
    nodes = [node("ReduceMax", ["x"], ["y"], axes=[-1])]
    assert not run_both(nodes, {"x": random(16, 49)}, {}, processor=PROCESSORS["none"]).partly


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("channels", [16, 5])
def test_an_image_is_reduced_over_its_pixels_without_being_transposed(operator: str, keep: int, channels: int) -> None:
    outcome = run_both(
        [node("Conv", ["x", "w"], ["c"]), node(operator, ["c"], ["y"], axes=[2, 3], keepdims=keep)],
        {"x": random(2, 3, 7, 5)},
        {"w": random(channels, 3, 1, 1)},
        processor=PROCESSORS["AVX2"],
    )
    outcome.assert_close()
    assert sum("transpose" in name for name in outcome.functions) == 1, "of the input alone"
    assert len(outcome.partly) == (channels == 5)
