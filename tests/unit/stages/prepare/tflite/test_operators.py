"""Converters of TFLite operators: each one is run and compared with the same operation written in NumPy."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput
from crossfarm.stages.prepare.tflite.convolutions import same_padding
from crossfarm.stages.prepare.tflite.graph import convert_graph
from crossfarm.stages.prepare.tflite.operators import CONVERTERS, INLINED, REASONS, SHAPE_ONLY, STATEFUL
from crossfarm.stages.prepare.tflite.options import OperatorOptions
from crossfarm.stages.prepare.tflite.reader import (
    Operator,
    TensorQuantisation,
    TfliteGraph,
    TfliteTensor,
)
from crossfarm.util.paths import HOME

Array = NDArray[Any]
RANDOM = np.random.default_rng(7)


class Net:
    """Builds a graph as the reader of TFLite files gives it, and runs it converted."""

    def __init__(self) -> None:
        self.tensors: list[TfliteTensor] = []
        self.operators: list[Operator] = []

    def tensor(
        self,
        shape: Sequence[int] = (),
        *,
        data: Array | None = None,
        steps: tuple[Any, Any] | None = None,
        axis: int = 0,
        dtype: str = "float32",
    ) -> int:
        quantisation = None
        if steps is not None:
            scale = np.atleast_1d(np.asarray(steps[0], np.float32))
            zero = np.broadcast_to(np.asarray(steps[1], np.int64), scale.shape)
            quantisation = TensorQuantisation(scale=scale, zero_point=zero, axis=axis)
        index = len(self.tensors)
        self.tensors.append(
            TfliteTensor(
                index=index,
                name=f"t{index}",
                shape=tuple(data.shape if data is not None else shape),
                dtype=str(data.dtype) if data is not None else dtype,
                quantisation=quantisation,
                data=data,
            )
        )
        return index

    def add(self, name: str, inputs: Sequence[int], output: int, **options: Any) -> None:
        index = len(self.operators)
        made = Operator(
            index=index, name=name, inputs=tuple(inputs), outputs=(output,), options=OperatorOptions(**options)
        )
        self.operators.append(made)

    def convert(self, inputs: Sequence[int], output: int, dtypes: Sequence[str] = ()) -> bytes:
        graph = TfliteGraph(
            tensors=tuple(self.tensors), operators=tuple(self.operators), inputs=tuple(inputs), outputs=(output,)
        )
        declared = [
            StaticInput(name=f"t{index}", shape=self.tensors[index].shape, dtype=dtype)
            for index, dtype in itertools.zip_longest(inputs, dtypes, fillvalue="float32")
        ]
        content = convert_graph(graph, declared)  # type: ignore[arg-type]
        onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
        return content

    def run(self, feeds: dict[int, Array], output: int, dtypes: Sequence[str] = ()) -> Array:
        content = self.convert(list(feeds), output, dtypes)
        session = onnxruntime.InferenceSession(content, _plain_options(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {f"t{index}": values for index, values in feeds.items()})[0])


def _plain_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return options


def _real(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def _windows(  # noqa: PLR0917
    image: Array, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], same: bool, fill: float
) -> Array:
    """Return [batch, rows, columns, height * width, channels]: every window of an image with the channels last."""
    pads = [same_padding(image.shape[1 + i], size[i], stride[i], dilation[i]) if same else (0, 0) for i in range(2)]
    padded = np.pad(image.astype(np.float64), [(0, 0), *pads, (0, 0)], constant_values=fill)
    reach = [(size[i] - 1) * dilation[i] + 1 for i in range(2)]
    counts = [(padded.shape[1 + i] - reach[i]) // stride[i] + 1 for i in range(2)]
    rows = []
    for row in range(counts[0]):
        columns = []
        for column in range(counts[1]):
            top, left = row * stride[0], column * stride[1]
            cut = padded[:, top : top + reach[0] : dilation[0], left : left + reach[1] : dilation[1], :]
            columns.append(cut.reshape(image.shape[0], -1, image.shape[3]))
        rows.append(np.stack(columns, axis=1))
    return np.stack(rows, axis=1)


STRIDES = [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 1), (1, 1)), ((1, 1), (2, 2))]


@pytest.mark.parametrize("same", [True, False], ids=["same", "valid"])
@pytest.mark.parametrize(("stride", "dilation"), STRIDES)
def test_a_convolution_with_bias(same: bool, stride: tuple[int, int], dilation: tuple[int, int]) -> None:
    image, weights, bias = _real(1, 9, 8, 3), _real(5, 3, 2, 3), _real(5)
    windows = _windows(image, (3, 2), stride, dilation, same, 0.0)
    expected = np.einsum("bxypc,opc->bxyo", windows, weights.reshape(5, 6, 3)) + bias
    net = Net()
    inputs = [net.tensor(image.shape), net.tensor(data=weights), net.tensor(data=bias)]
    output = net.tensor(expected.shape)
    net.add("CONV_2D", inputs, output, same_padding=same, stride=stride, dilation=dilation)
    np.testing.assert_allclose(net.run({0: image}, output), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("same", [True, False], ids=["same", "valid"])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(("stride", "dilation"), STRIDES)
def test_a_depthwise_convolution(
    same: bool, multiplier: int, stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    image, weights = _real(1, 8, 9, 3), _real(1, 3, 3, 3 * multiplier)
    windows = _windows(image, (3, 3), stride, dilation, same, 0.0)
    expected = np.einsum("bxypc,pcm->bxycm", windows, weights.reshape(9, 3, multiplier))
    expected = expected.reshape(*expected.shape[:3], -1)
    net = Net()
    inputs = [net.tensor(image.shape), net.tensor(data=weights), -1]
    output = net.tensor(expected.shape)
    net.add("DEPTHWISE_CONV_2D", inputs, output, same_padding=same, stride=stride, dilation=dilation)
    np.testing.assert_allclose(net.run({0: image}, output), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("same", [True, False], ids=["same", "valid"])
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_pooling_leaves_the_padding_out(kind: str, same: bool) -> None:
    image = _real(1, 7, 6, 2)
    windows = _windows(image, (3, 2), (2, 2), (1, 1), same, np.nan)
    expected = (np.nanmean if kind == "AVERAGE_POOL_2D" else np.nanmax)(windows, axis=3)
    net = Net()
    source, output = net.tensor(image.shape), net.tensor(expected.shape)
    net.add(kind, [source], output, same_padding=same, stride=(2, 2), window=(3, 2))
    np.testing.assert_allclose(net.run({source: image}, output), expected, rtol=1e-5, atol=1e-6)


ACTIVATIONS = {
    "NONE": lambda x: x,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "TANH": np.tanh,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("kind", "operation"), [("ADD", np.add), ("SUB", np.subtract), ("MUL", np.multiply)])
def test_arithmetic_with_a_fused_activation(kind: str, operation: Any, activation: str) -> None:
    left, right = _real(1, 3, 4, 5) * 4, _real(1, 3, 4, 5) * 4
    net = Net()
    inputs, output = [net.tensor(left.shape), net.tensor(right.shape)], net.tensor(left.shape)
    net.add(kind, inputs, output, activation=activation)
    found = net.run({0: left, 1: right}, output)
    np.testing.assert_allclose(found, ACTIVATIONS[activation](operation(left, right)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5,), (1, 4, 5), (1, 3, 4, 5), (1, 1, 1, 5), ()])
def test_a_constant_of_fewer_axes_is_spread_as_with_channels_last(shape: tuple[int, ...]) -> None:
    image, weights, constant = _real(1, 3, 4, 2), _real(5, 1, 1, 2), _real(*shape)
    net = Net()
    source, kernel, middle = net.tensor(image.shape), net.tensor(data=weights), net.tensor((1, 3, 4, 5))
    other, output = net.tensor(data=constant), net.tensor((1, 3, 4, 5))
    net.add("CONV_2D", [source, kernel, -1], middle)
    net.add("ADD", [middle, other], output)
    expected = np.einsum("bxyc,oc->bxyo", image, weights.reshape(5, 2)) + constant
    np.testing.assert_allclose(net.run({source: image}, output), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axes", [[1, 2], [2, 1], [-1], [1], [0, 3], [1, 2, 3]])
def test_a_mean_over_any_axes(axes: list[int], keep: bool) -> None:
    image = _real(1, 3, 4, 5)
    expected = image.mean(axis=tuple(axes), keepdims=keep)
    net = Net()
    source, named, output = (
        net.tensor(image.shape),
        net.tensor(data=np.array(axes, np.int32)),
        net.tensor(expected.shape),
    )
    net.add("MEAN", [source, named], output, keep_dims=keep)
    np.testing.assert_allclose(net.run({source: image}, output), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 6), (1, 2, 6), (2, 1, 2, 3)])
def test_a_fully_connected_layer_flattens_what_it_reads(shape: tuple[int, ...]) -> None:
    features, weights, bias = _real(*shape), _real(4, 6), _real(4)
    expected = features.reshape(-1, 6) @ weights.T + bias
    net = Net()
    inputs, output = [net.tensor(shape), net.tensor(data=weights), net.tensor(data=bias)], net.tensor(expected.shape)
    net.add("FULLY_CONNECTED", inputs, output)
    np.testing.assert_allclose(net.run({0: features}, output), expected, rtol=1e-4, atol=1e-5)


def test_a_fully_connected_layer_may_keep_its_axes() -> None:
    features, weights = _real(1, 3, 6), _real(4, 6)
    net = Net()
    inputs, output = [net.tensor(features.shape), net.tensor(data=weights), -1], net.tensor((1, 3, 4))
    net.add("FULLY_CONNECTED", inputs, output)
    np.testing.assert_allclose(net.run({0: features}, output), features @ weights.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_a_softmax_over_the_last_axis(beta: float) -> None:
    scores = _real(2, 7) * 3
    powers = np.exp(beta * scores)
    net = Net()
    source, output = net.tensor(scores.shape), net.tensor(scores.shape)
    net.add("SOFTMAX", [source], output, beta=beta)
    expected = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(net.run({source: scores}, output), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("after_convolution", [False, True])
@pytest.mark.parametrize("value", [None, 2.5])
def test_a_padding_keeps_its_axes_in_either_layout(after_convolution: bool, value: float | None) -> None:
    image = _real(1, 3, 4, 2)
    pairs = np.array([[0, 0], [1, 2], [0, 3], [1, 0]], np.int32)
    expected = np.pad(image, pairs, constant_values=value or 0.0)
    net = Net()
    source = middle = net.tensor(image.shape)
    if after_convolution:
        kernel, middle = net.tensor(data=np.eye(2, dtype=np.float32).reshape(2, 1, 1, 2)), net.tensor(image.shape)
        net.add("CONV_2D", [source, kernel, -1], middle)
    named, output = net.tensor(data=pairs), net.tensor(expected.shape)
    operands = [middle, named] if value is None else [middle, named, net.tensor(data=np.array(value, np.float32))]
    net.add("PAD" if value is None else "PADV2", operands, output)
    np.testing.assert_allclose(net.run({source: image}, output), expected, rtol=1e-6)


@pytest.mark.parametrize("after_convolution", [False, True])
@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_a_concatenation_keeps_its_axis_in_either_layout(after_convolution: bool, axis: int) -> None:
    image, other = _real(1, 3, 4, 2), _real(1, 3, 4, 2)
    expected = np.concatenate([image, other], axis=axis)
    net = Net()
    source, right = net.tensor(image.shape), net.tensor(other.shape)
    middle = source
    if after_convolution:
        kernel, middle = net.tensor(data=np.eye(2, dtype=np.float32).reshape(2, 1, 1, 2)), net.tensor(image.shape)
        net.add("CONV_2D", [source, kernel, -1], middle)
    output = net.tensor(expected.shape)
    net.add("CONCATENATION", [middle, right], output, axis=axis)
    np.testing.assert_allclose(net.run({source: image, right: other}, output), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "operation"),
    [
        ("RELU", ACTIVATIONS["RELU"]),
        ("RELU6", ACTIVATIONS["RELU6"]),
        ("LOGISTIC", lambda x: 1 / (1 + np.exp(-x))),
        ("TANH", np.tanh),
    ],
)
def test_an_activation_of_its_own(kind: str, operation: Any) -> None:
    values = _real(2, 30) * 5
    net = Net()
    source, output = net.tensor(values.shape), net.tensor(values.shape)
    net.add(kind, [source], output)
    np.testing.assert_allclose(net.run({source: values}, output), operation(values), rtol=1e-4, atol=1e-5)


def test_two_convolutions_in_a_row_need_no_transposition_between_them() -> None:
    net = Net()
    tensors = [net.tensor((1, 4, 4, 2)) for _ in range(4)]
    kernel = net.tensor(data=_real(2, 3, 3, 2))
    for before, after in itertools.pairwise(tensors):
        net.add("CONV_2D", [before, kernel, -1], after, same_padding=True, activation="RELU")
    graph = onnx.load_model_from_string(net.convert([tensors[0]], tensors[-1])).graph
    assert [node.op_type for node in graph.node if node.op_type in ("Transpose", "Conv")] == [
        *("Transpose", "Conv", "Conv", "Conv", "Transpose")
    ]


def test_a_transposition_of_a_single_pixel_copies_nothing() -> None:
    net = Net()
    source, output = net.tensor((1, 4, 4, 2)), net.tensor((1, 1, 1, 2))
    net.add("AVERAGE_POOL_2D", [source], output, window=(4, 4), stride=(4, 4))
    graph = onnx.load_model_from_string(net.convert([source], output)).graph
    assert [node.op_type for node in graph.node].count("Transpose") == 1


def test_a_quantised_convolution_equals_integer_arithmetic_with_one_scale_a_channel() -> None:
    image = RANDOM.integers(-128, 128, (1, 6, 6, 3)).astype(np.int8)
    weights = RANDOM.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    bias = RANDOM.integers(-2000, 2000, 4).astype(np.int32)
    scales = np.array([0.01, 0.02, 0.005, 0.03], np.float32)
    net = Net()
    source = net.tensor(image.shape, steps=(0.05, -3), dtype="int8")
    kernel = net.tensor(data=weights, steps=(scales, 0), axis=0)
    offsets = net.tensor(data=bias, steps=(scales * np.float32(0.05), 0))
    output = net.tensor((1, 6, 6, 4), steps=(0.2, 4), dtype="int8")
    net.add("CONV_2D", [source, kernel, offsets], output, same_padding=True, activation="RELU")
    windows = _windows(image, (3, 3), (1, 1), (1, 1), True, -3.0) + 3
    sums = np.einsum("bxypc,opc->bxyo", windows, weights.reshape(4, 9, 3).astype(np.float64)) + bias
    expected = np.clip(np.rint(np.maximum(sums * scales * 0.05, 0) / 0.2) + 4, -128, 127)
    found = net.run({source: image}, output, ["int8"])
    assert found.dtype == np.int8
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 0.02


def test_a_quantised_depthwise_convolution_scales_each_channel() -> None:
    image = RANDOM.integers(-128, 128, (1, 5, 5, 3)).astype(np.int8)
    weights = RANDOM.integers(-127, 128, (1, 3, 3, 3)).astype(np.int8)
    scales = np.array([0.01, 0.002, 0.03], np.float32)
    net = Net()
    source = net.tensor(image.shape, steps=(0.05, 0), dtype="int8")
    kernel = net.tensor(data=weights, steps=(scales, 0), axis=3)
    output = net.tensor((1, 3, 3, 3), steps=(0.1, 0), dtype="int8")
    net.add("DEPTHWISE_CONV_2D", [source, kernel, -1], output)
    windows = _windows(image, (3, 3), (1, 1), (1, 1), False, 0.0)
    sums = np.einsum("bxypc,pc->bxyc", windows, weights.reshape(9, 3).astype(np.float64))
    expected = np.clip(np.rint(sums * scales * 0.05 / 0.1), -128, 127)
    found = net.run({source: image}, output, ["int8"])
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_float_declaration_of_a_quantised_input_rounds_inside_and_gives_real_outputs() -> None:
    net = Net()
    source, output = (net.tensor((1, 8), steps=steps, dtype="int8") for steps in ((0.5, 1), (1 / 256, -128)))
    net.add("SOFTMAX", [source], output)
    real = np.array([[-3.1, 0.2, 0.26, 1.0, 2.2, 3.0, 9.9, 0.0]], np.float32)
    stored = np.clip(np.rint(real / 0.5) + 1, -128, 127).astype(np.int8)
    as_real = net.run({source: real}, output, ["float32"])
    as_stored = net.run({source: stored}, output, ["int8"])
    assert (as_real.dtype, as_stored.dtype) == (np.float32, np.int8)
    np.testing.assert_allclose(as_real, (as_stored.astype(np.float32) + 128) / 256, atol=1e-7)


def test_moving_numbers_of_the_same_quantisation_rounds_nothing() -> None:
    net = Net()
    steps = (0.1, 5)
    source, pooled, output = (
        net.tensor(shape, steps=steps, dtype="uint8") for shape in ((1, 4, 4, 2), (1, 2, 2, 2), (1, 8))
    )
    net.add("MAX_POOL_2D", [source], pooled, window=(2, 2), stride=(2, 2))
    net.add("RESHAPE", [pooled], output)
    kinds = [node.op_type for node in onnx.load_model_from_string(net.convert([source], output)).graph.node]
    assert kinds.count("QuantizeLinear") == 1
    image = RANDOM.integers(0, 256, (1, 4, 4, 2)).astype(np.uint8)
    expected = image.reshape(1, 2, 2, 2, 2, 2).max(axis=(2, 4)).reshape(1, 8)
    np.testing.assert_array_equal(net.run({source: image}, output, ["uint8"]), expected)


def test_quantize_and_dequantize_of_the_file_are_followed() -> None:
    net = Net()
    source, stored, output = net.tensor((1, 6)), net.tensor((1, 6), steps=(0.5, 0), dtype="int8"), net.tensor((1, 6))
    net.add("QUANTIZE", [source], stored)
    net.add("DEQUANTIZE", [stored], output)
    real = np.array([[0.2, 0.3, -0.8, 70.0, -70.0, 1.0]], np.float32)
    np.testing.assert_array_equal(net.run({source: real}, output), [[0.0, 0.5, -1.0, 63.5, -64.0, 1.0]])


def test_half_precision_weights_are_widened() -> None:
    weights = _real(4, 6).astype(np.float16)
    features = _real(1, 6)
    net = Net()
    source, half, wide, output = (
        net.tensor((1, 6)),
        net.tensor(data=weights),
        net.tensor((4, 6)),
        net.tensor((1, 4)),
    )
    net.add("DEQUANTIZE", [half], wide)
    net.add("FULLY_CONNECTED", [source, wide, -1], output)
    expected = features @ weights.astype(np.float32).T
    np.testing.assert_allclose(net.run({source: features}, output), expected, rtol=1e-5, atol=1e-6)


def test_operators_that_only_compute_a_shape_are_left_out() -> None:
    net = Net()
    source, shape, output = net.tensor((1, 6)), net.tensor((2,), dtype="int32"), net.tensor((2, 3))
    net.add("SHAPE", [source], shape)
    net.add("RESHAPE", [source, shape], output)
    values = _real(1, 6)
    np.testing.assert_array_equal(net.run({source: values}, output), values.reshape(2, 3))


def test_the_documentation_lists_the_operators_that_can_be_converted() -> None:
    text = (HOME / "docs/tflite.md").read_text(encoding="utf-8")
    listed = re.search(r"Operators: ([A-Z0-9_,\s]+)\.", text)
    assert listed is not None
    own = {"IDENTITY"}
    known = {name for name in {*CONVERTERS, *SHAPE_ONLY, *INLINED, *STATEFUL} - own if not name.startswith("CUSTOM")}
    assert listed[1].replace("\n", " ").split(", ") == sorted(known)


def test_the_documentation_gives_the_reason_of_every_refused_operator() -> None:
    text = (HOME / "docs/tflite.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z0-9_, ]+) \| (.+) \|$", text, re.MULTILINE)
    assert {name: reason for names, reason in rows for name in names.split(", ")} == REASONS


def test_an_unknown_operator_is_refused_with_its_name_and_number() -> None:
    net = Net()
    source, middle, output = (net.tensor((1, 6)) for _ in range(3))
    net.add("RELU", [source], middle)
    net.add("WHERE", [middle], output)
    with pytest.raises(ModelError, match=r"WHERE \(number 1, output 't2', tensor 2\): how many results it has depends"):
        net.convert([source], output)


@pytest.mark.parametrize(("dtype", "steps"), [("int32", None), ("int8", None), ("float64", None)])
def test_a_type_that_cannot_be_computed_with_is_refused(dtype: str, steps: tuple[float, int] | None) -> None:
    net = Net()
    source, output = net.tensor((1, 6)), net.tensor((1, 6), dtype=dtype, steps=steps)
    net.add("RELU", [source], output)
    with pytest.raises(ModelError, match=f"tensor 't1' \\({dtype}, .*cannot be computed with"):
        net.convert([source], output)


def test_shuffled_weights_are_refused() -> None:
    shuffled = Net()
    source, weights, output = shuffled.tensor((1, 6)), shuffled.tensor(data=_real(4, 6)), shuffled.tensor((1, 4))
    shuffled.add("FULLY_CONNECTED", [source, weights, -1], output, shuffled_weights=True)
    with pytest.raises(ModelError, match=r"operator 0 \(FULLY_CONNECTED, output 't2'\) has shuffled weights"):
        shuffled.convert([source], output)


@settings(max_examples=200)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_same_padding_gives_one_output_for_each_stride_begun(
    extent: int, window: int, stride: int, dilation: int
) -> None:
    before, after = same_padding(extent, window, stride, dilation)
    reach = (window - 1) * dilation + 1
    assert 0 <= before <= after <= before + 1
    assert (extent + before + after - reach) // stride + 1 == -(-extent // stride)
