"""Random small graphs of every family of operators, each with what NumPy says of it, side by side in one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from crossfarm.backends.tvm.int8.numpy_reference import QuantParams

Array = np.ndarray[Any, Any]
node = helper.make_node


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

    def quant_params(self) -> QuantParams:
        """Return scale and zero point of uint8."""
        return QuantParams(
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


def attention(draw: Draw) -> Example:
    """Return an attention over heads that are split and joined by transposes, perhaps with a mask."""
    heads, queries, keys = draw.extent(3), draw.extent(20), draw.extent(40)
    depth, columns = draw.extent(20), draw.extent(40)
    sides = [draw.floats(1, length, heads, size) for length, size in ((queries, depth), (keys, depth), (keys, columns))]
    mask = draw.one(np.zeros((1, 1), np.float32), draw.floats(queries, keys))
    q, k, v, m, qt, kt, vt, p, s, a, w, y = map(draw.name, ("q", "k", "v", "m", "qt", "kt", "vt", *"psawy"))
    query, key, value = (side.astype(np.float64).transpose(0, 2, 1, 3) for side in sides)
    scores = query @ key.swapaxes(2, 3) + mask
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return Example(
        nodes=[
            node("Transpose", [q], [qt], perm=[0, 2, 1, 3]),
            node("Transpose", [k], [kt], perm=[0, 2, 3, 1]),
            node("Transpose", [v], [vt], perm=[0, 2, 1, 3]),
            node("MatMul", [qt, kt], [p]),
            node("Add", [p, m], [s]),
            node("Softmax", [s], [a], axis=-1),
            node("MatMul", [a, vt], [w]),
            node("Transpose", [w], [y], perm=[0, 2, 1, 3]),
        ],
        inputs=dict(zip((q, k, v), sides, strict=True)),
        constants={m: mask},
        expected=(powers / powers.sum(axis=-1, keepdims=True) @ value).transpose(0, 2, 1, 3),
        words=f"{heads} heads, {queries}x{depth}x{keys}x{columns}, mask {mask.shape}",
    )


def layer_norm(draw: Draw) -> Example:
    """Return a LayerNormalization with an activation that is a polynomial behind it."""
    shape = (draw.extent(4), draw.extent(7), draw.extent(70, least=2))
    operator, function = draw.one(("Tanh", np.tanh), ("Sigmoid", lambda x: 1 / (1 + np.exp(-x))), ("Exp", np.exp))
    values, scale, bias = draw.floats(*shape), draw.floats(shape[-1]), draw.floats(shape[-1])
    x, s, b, n, y = map(draw.name, "xsbny")
    wide = values.astype(np.float64)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-3) * scale + bias
    return Example(
        nodes=[node("LayerNormalization", [x, s, b], [n], axis=-1, epsilon=1e-3), node(operator, [n], [y])],
        inputs={x: values},
        constants={s: scale, b: bias},
        expected=function(normal),
        words=f"{shape} and {operator}",
    )


FLOATS: tuple[Callable[[Draw], Example], ...] = (
    convolution, depthwise, dense, product, softmax, reduction, attention, layer_norm
)  # fmt: skip


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
