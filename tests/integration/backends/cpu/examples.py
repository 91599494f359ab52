"""Random small graphs of every family of operators, each with what NumPy says of it, side by side in one model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from crossfarm.backends import integer
from crossfarm.backends.integer import Steps

Array = np.ndarray[Any, Any]
node = helper.make_node
WEIGHT_SCALE = np.float32(2.0**-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A graph and its answer.

    Attributes:
        nodes: with names of their own; the last one makes the output.
        inputs: name -> array.
        constants: name -> array.
        expected: of NumPy; float64 where the graph computes in float32.
        words: what was drawn, for a failure.
    """

    nodes: Sequence[onnx.NodeProto]
    inputs: Mapping[str, Array]
    constants: Mapping[str, Array]
    expected: Array
    words: str

    @property
    def output(self) -> str:
        """Name of the output."""
        return str(self.nodes[-1].output[0])


class Draw:
    """Random numbers for one example, whose names begin with a prefix."""

    def __init__(self, generator: np.random.Generator, prefix: str) -> None:
        self.generator, self.prefix = generator, prefix

    def one(self, *choices: Any) -> Any:
        """Return one of some values."""
        return choices[int(self.generator.integers(len(choices)))]

    def extent(self, most: int, *, least: int = 1) -> int:
        """Return an integer from `least` to `most`."""
        return int(self.generator.integers(least, most + 1))

    def floats(self, *shape: int) -> Array:
        """Return float32 numbers."""
        return self.generator.standard_normal(shape).astype(np.float32)

    def integers(self, dtype: str, *shape: int, least: int | None = None) -> Array:
        """Return integers of a type."""
        info = np.iinfo(dtype)
        return self.generator.integers(info.min if least is None else least, info.max, shape, dtype, endpoint=True)

    def steps(self) -> Steps:
        """Return scale and zero point of uint8."""
        return Steps(
            scale=float(np.float32(self.generator.uniform(0.01, 0.2))), zero=self.one(0, 255, self.extent(254))
        )

    def name(self, name: str) -> str:
        """Return a name that no other example has."""
        return f"{self.prefix}_{name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """How a convolution goes over an image."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]

    def attributes(self) -> dict[str, Any]:
        """Return it as attributes of Conv."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "pads": self.pads,
            "dilations": self.dilations,
        }


def window(draw: Draw) -> tuple[Window, int, int]:
    """Return a window, and height and width of an image that it fits into."""
    found = Window(
        kernel=(draw.extent(4), draw.extent(4)),
        strides=(draw.extent(3), draw.extent(3)),
        pads=(draw.extent(2, least=0), draw.extent(2, least=0), draw.extent(2, least=0), draw.extent(2, least=0)),
        dilations=(draw.one(1, 1, 2), draw.one(1, 1, 2)),
    )
    height, width = (d * (k - 1) + draw.extent(12) for k, d in zip(found.kernel, found.dilations, strict=True))
    return found, height, width


def convolved(image: Array, weights: Array, how: Window, groups: int) -> Array:
    """Return a convolution in float64; image NCHW, weights OIHW."""
    top, left, bottom, right = how.pads
    wide = np.pad(image.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = (
        (extent - dilation * (kernel - 1) - 1) // stride + 1
        for extent, dilation, kernel, stride in zip(wide.shape[2:], how.dilations, how.kernel, how.strides, strict=True)
    )
    depth, per_group = weights.shape[1], len(weights) // groups
    sums = np.zeros((len(image), len(weights), rows, columns))
    for ky, kx in np.ndindex(*how.kernel):
        part = wide[:, :, ky * how.dilations[0] :: how.strides[0], kx * how.dilations[1] :: how.strides[1]]
        for group in range(groups):
            source = part[:, group * depth : (group + 1) * depth, :rows, :columns]
            of_group = slice(group * per_group, (group + 1) * per_group)
            sums[:, of_group] += np.einsum("nihw,oi->nohw", source, weights[of_group, :, ky, kx].astype(np.float64))
    return sums


def convolution(draw: Draw) -> Example:
    """Return a convolution with bias and Relu, perhaps in groups."""
    how, height, width = window(draw)
    groups, depth, per_group = draw.one(1, 1, 2, 3), draw.extent(9), draw.extent(20)
    image, weights = draw.floats(draw.extent(2), groups * depth, height, width), (groups * per_group, depth)
    return _convolution(draw, how, image, draw.floats(*weights, *how.kernel), groups)


def depthwise(draw: Draw) -> Example:
    """Return a depthwise convolution with bias and Relu."""
    how, height, width = window(draw)
    channels = draw.extent(40)
    weights = draw.floats(channels * draw.one(1, 1, 2), 1, *how.kernel)
    return _convolution(draw, how, draw.floats(1, channels, height, width), weights, channels)


def _convolution(draw: Draw, how: Window, image: Array, weights: Array, groups: int) -> Example:
    bias = draw.floats(len(weights))
    x, w, b, c, y = map(draw.name, "xwbcy")
    return Example(
        nodes=[node("Conv", [x, w, b], [c], group=groups, **how.attributes()), node("Relu", [c], [y])],
        inputs={x: image},
        constants={w: weights, b: bias},
        expected=np.maximum(convolved(image, weights, how, groups) + bias.reshape(1, -1, 1, 1), 0),
        words=f"{how}, image {image.shape}, weights {weights.shape}, groups {groups}",
    )


def dense(draw: Draw) -> Example:
    """Return a product with constant weights, bias and Relu."""
    rows, depth, columns = draw.extent(9), draw.extent(70), draw.extent(70)
    left, weights, bias = draw.floats(rows, depth), draw.floats(depth, columns), draw.floats(columns)
    x, w, b, m, a, y = map(draw.name, "xwbmay")
    return Example(
        nodes=[node("MatMul", [x, w], [m]), node("Add", [m, b], [a]), node("Relu", [a], [y])],
        inputs={x: left},
        constants={w: weights, b: bias},
        expected=np.maximum(left.astype(np.float64) @ weights + bias, 0),
        words=f"{rows}x{depth}x{columns}",
    )


def product(draw: Draw) -> Example:
    """Return a product of two computed matrices, perhaps a stack of them."""
    stack, rows, depth, columns = draw.one((), (3,), (2, 1)), draw.extent(20), draw.extent(20), draw.extent(40)
    left, right = draw.floats(*stack, rows, depth), draw.floats(*stack, depth, columns)
    x, z, y = map(draw.name, "xzy")
    return Example(
        nodes=[node("MatMul", [x, z], [y])],
        inputs={x: left, z: right},
        constants={},
        expected=left.astype(np.float64) @ right.astype(np.float64),
        words=f"{stack} {rows}x{depth}x{columns}",
    )


def softmax(draw: Draw) -> Example:
    """Return a softmax over any axis, mostly the last."""
    shape = (draw.extent(4), draw.extent(7), draw.extent(70))
    axis = draw.one(-1, -1, 1)
    values = 20 * draw.floats(*shape)
    powers = np.exp(values.astype(np.float64) - values.max(axis=axis, keepdims=True))
    x, y = map(draw.name, "xy")
    return Example(
        nodes=[node("Softmax", [x], [y], axis=axis)],
        inputs={x: values},
        constants={},
        expected=powers / powers.sum(axis=axis, keepdims=True),
        words=f"{shape} over {axis}",
    )


def reduction(draw: Draw) -> Example:
    """Return a mean, maximum or minimum over some axes."""
    shape = (draw.extent(5), draw.extent(9), draw.one(draw.extent(9), 32, 48))
    axes = draw.one((2,), (1,), (0, 2), (1, 2), (0, 1, 2))
    operator, reduce = draw.one(("ReduceMean", np.mean), ("ReduceMax", np.max), ("ReduceMin", np.min))
    values = draw.floats(*shape)
    x, y = map(draw.name, "xy")
    return Example(
        nodes=[node(operator, [x], [y], axes=axes, keepdims=1)],
        inputs={x: values},
        constants={},
        expected=reduce(values.astype(np.float64), axis=axes, keepdims=True),
        words=f"{operator} of {shape} over {axes}",
    )


def quantised_convolution(draw: Draw) -> Example:
    """Return a quantised convolution, perhaps depthwise, with Relu."""
    how, height, width = window(draw)
    groups, depth, per_group = draw.one((1, draw.extent(19), draw.extent(30)), (draw.extent(40, least=2), 1, 1))
    image = draw.integers("uint8", 1, groups * depth, height, width)
    weights = draw.integers("int8", groups * per_group, depth, *how.kernel, least=-127)
    return _quantised_convolution(draw, how, image, weights, groups)


def quantised_small_kernel(draw: Draw) -> Example:
    """Return a quantised convolution of 3x3 with stride 1 and many channels, perhaps of extreme numbers."""
    how = Window(kernel=(3, 3), strides=(1, 1), pads=draw.one((1, 1, 1, 1), (0, 2, 1, 0)), dilations=(1, 1))
    depth, channels = 8 * draw.extent(4, least=2), 4 * draw.extent(8, least=4)
    image = draw.integers("uint8", 1, depth, draw.extent(9, least=4), draw.extent(9, least=4))
    weights = draw.integers("int8", channels, depth, 3, 3)
    if draw.one(True, False):
        image = np.where(image > 127, 255, 0).astype(np.uint8)
        weights = np.where(weights > 0, 127, -128).astype(np.int8)
    return _quantised_convolution(draw, how, image, weights, groups=1)


def _quantised_convolution(draw: Draw, how: Window, image: Array, weights: Array, groups: int) -> Example:
    source, result = draw.steps(), draw.steps()
    x, w, y = map(draw.name, "xwy")
    r, v, c, a = map(draw.name, "rvca")
    sums = integer.convolve(
        image.transpose(0, 2, 3, 1),
        weights.transpose(2, 3, 1, 0),
        zero=source.zero,
        strides=how.strides,
        padding=how.pads,
        dilation=how.dilations,
        groups=groups,
    )
    return Example(
        nodes=[
            _dequantised(x, r, x),
            _dequantised(w, v, draw.name("weights")),
            node("Conv", [r, v], [c], group=groups, **how.attributes()),
            node("Relu", [c], [a]),
            _quantised(a, y),
        ],
        inputs={x: image},
        constants={w: weights, **_weight_steps(draw), **_steps(x, source), **_steps(y, result)},
        expected=_requantised(sums, source, result, low=0.0).transpose(0, 3, 1, 2),
        words=f"{how}, image {image.shape}, weights {weights.shape}, groups {groups}, {source}, {result}",
    )


def quantised_dense(draw: Draw) -> Example:
    """Return a quantised product with constant weights."""
    rows, depth, columns = draw.extent(9), draw.extent(70), draw.extent(70)
    source, result = draw.steps(), draw.steps()
    left, weights = draw.integers("uint8", rows, depth), draw.integers("int8", columns, depth, least=-127)
    x, w, y = map(draw.name, "xwy")
    r, v, c = map(draw.name, "rvc")
    sums = (left.astype(np.int32) - source.zero) @ weights.T.astype(np.int32)
    return Example(
        nodes=[
            _dequantised(x, r, x),
            _dequantised(w, v, draw.name("weights")),
            node("Gemm", [r, v], [c], transB=1),
            _quantised(c, y),
        ],
        inputs={x: left},
        constants={w: weights, **_weight_steps(draw), **_steps(x, source), **_steps(y, result)},
        expected=_requantised(sums, source, result, low=-math.inf),
        words=f"{rows}x{depth}x{columns}, {source}, {result}",
    )


def quantised_pair(draw: Draw) -> Example:
    """Return a sum of two quantised tensors, or both behind each other."""
    shape = (draw.extent(3), draw.extent(9), draw.extent(5), draw.extent(40))
    left, right, result = draw.steps(), draw.steps(), draw.steps()
    x, z, y = map(draw.name, "xzy")
    r, s, c = map(draw.name, "rsc")
    first, second = draw.integers("uint8", *shape), draw.integers("uint8", *shape)
    if draw.one(True, False):
        joint, words = node("Add", [r, s], [c]), "sum"
        low, high = result.bounds("uint8")
        how = integer.addition(left, right, result)
        expected = integer.add(first, second, how=how, low=low, high=high, zero=result.zero, dtype="uint8")
    else:
        joint, words = node("Concat", [r, s], [c], axis=1), "concatenation"
        parts = [
            integer.quantise(integer.dequantise(part, steps=steps), steps=result, dtype="uint8")
            for part, steps in ((first, left), (second, right))
        ]
        expected = np.concatenate(parts, axis=1)
    return Example(
        nodes=[_dequantised(x, r, x), _dequantised(z, s, z), joint, _quantised(c, y)],
        inputs={x: first, z: second},
        constants={**_steps(x, left), **_steps(z, right), **_steps(y, result)},
        expected=expected,
        words=f"{words} of {shape}, {left}, {right}, {result}",
    )


def quantised_gates(draw: Draw) -> Example:
    """Return a quantised tensor times one quantised number for each channel."""
    batch, channels, height, width = draw.extent(2), draw.extent(40), draw.extent(6, least=2), draw.extent(9)
    image, gate, result = draw.steps(), draw.steps(), draw.steps()
    while (how := integer.gating(image, gate, result, dtype="uint8")) is None:
        result = draw.steps()
    x, z, y = map(draw.name, "xzy")
    r, s, m = map(draw.name, "rsm")
    pixels = draw.integers("uint8", batch, height, width, channels)
    gates = draw.integers("uint8", batch, 1, 1, channels)
    return Example(
        nodes=[_dequantised(x, r, x), _dequantised(z, s, z), node("Mul", [r, s], [m]), _quantised(m, y)],
        inputs={x: pixels.transpose(0, 3, 1, 2), z: gates.transpose(0, 3, 1, 2)},
        constants={**_steps(x, image), **_steps(z, gate), **_steps(y, result)},
        expected=integer.gate(pixels, gates, how=how, dtype="uint8").transpose(0, 3, 1, 2),
        words=f"{pixels.shape}, {image}, {gate}, {result}",
    )


def _dequantised(source: str, result: str, steps: str) -> onnx.NodeProto:
    return node("DequantizeLinear", [source, f"{steps}_scale", f"{steps}_zero"], [result])


def _quantised(source: str, result: str) -> onnx.NodeProto:
    return node("QuantizeLinear", [source, f"{result}_scale", f"{result}_zero"], [result])


def _steps(name: str, steps: Steps) -> dict[str, Array]:
    return {
        f"{name}_scale": np.asarray(steps.scale, np.float32),
        f"{name}_zero": np.asarray(steps.zero, np.uint8),
    }


def _weight_steps(draw: Draw) -> dict[str, Array]:
    name = draw.name("weights")
    return {f"{name}_scale": np.asarray(WEIGHT_SCALE), f"{name}_zero": np.asarray(0, np.int8)}


def _requantised(sums: Array, source: Steps, result: Steps, *, low: float) -> Array:
    channels = sums.shape[-1]
    bounds = result.bounds("uint8", low)
    scale = np.full(channels, np.float64(source.scale) * np.float64(WEIGHT_SCALE))
    return integer.requantise(
        sums,
        np.zeros(channels, np.int32),
        integer.multipliers(scale, result.scale),
        low=bounds[0],
        high=bounds[1],
        zero=result.zero,
        dtype="uint8",
    )


FLOATS: tuple[Callable[[Draw], Example], ...] = (convolution, depthwise, dense, product, softmax, reduction)
INTEGERS: tuple[Callable[[Draw], Example], ...] = (
    quantised_convolution,
    quantised_small_kernel,
    quantised_dense,
    quantised_pair,
    quantised_gates,
)


def draw_examples(families: Sequence[Callable[[Draw], Example]], *, count: int, seed: int) -> dict[str, Example]:
    """Return `count` examples of each family by their prefix."""
    generator = np.random.default_rng(seed)
    names = [(family, f"{family.__name__}_{number}") for family in families for number in range(count)]
    return {name: family(Draw(generator, name)) for family, name in names}


def model_of(examples: Sequence[Example]) -> onnx.ModelProto:
    """Return one model that holds all examples side by side."""
    inputs = {name: array for example in examples for name, array in example.inputs.items()}
    constants = {name: array for example in examples for name, array in example.constants.items()}
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    graph = helper.make_graph(
        [each for example in examples for each in example.nodes],
        "graph",
        [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=example.output) for example in examples],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)
