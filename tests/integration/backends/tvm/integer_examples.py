"""Random small graphs of quantised operators, each with the integers that NumPy has for it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import onnx

from crossfarm.backends.tvm.int8 import numpy_reference
from crossfarm.backends.tvm.int8.numpy_reference import QuantParams
from tests.integration.backends.tvm.examples import Array, Draw, Example, Window, node, window

WEIGHT_SCALE = np.float32(2.0**-6)


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


def quantised_hard_swish(draw: Draw) -> Example:
    """Return a quantised convolution, perhaps depthwise, with HardSwish."""
    groups, depth, channels = draw.one((1, draw.extent(19), draw.extent(40)), (16, 1, 16), (9, 1, 9))
    how = Window(kernel=(3, 3), strides=(1, draw.extent(2)), pads=(1, 1, 1, 1), dilations=(1, 1))
    image = draw.integers("uint8", 1, groups * depth, draw.extent(5), draw.extent(20))
    weights = draw.integers("int8", channels, depth, 3, 3, least=-127)
    plain = _quantised_convolution(draw, how, image, weights, groups)
    source, result = draw.quant_params(), draw.quant_params()
    params_for = functools.partial(
        numpy_reference.hard_swish_params, shift=3.0, top=6.0, factor=float(np.float32(1 / 6)), dtype="uint8"
    )
    while (params := params_for(result=result)) is None:
        result = draw.quant_params()
    x, y = map(draw.name, "xy")
    sums = _sums(image, weights, source, how, groups)
    factors = numpy_reference.multipliers(_sums_scale(source, channels), params.step)
    nothing = np.zeros(channels, np.int32)
    int16_values = numpy_reference.to_int16(sums, nothing, factors)
    return dataclasses.replace(
        plain,
        nodes=[each if each.op_type != "Relu" else node("HardSwish", each.input, each.output) for each in plain.nodes],
        constants={**plain.constants, **_quant_params(x, source), **_quant_params(y, result)},
        expected=numpy_reference.hard_swish(int16_values, params=params, dtype="uint8").transpose(0, 3, 1, 2),
        words=f"HardSwish of {plain.words}, then {source}, {result}",
    )


def _quantised_convolution(draw: Draw, how: Window, image: Array, weights: Array, groups: int) -> Example:
    source, result = draw.quant_params(), draw.quant_params()
    x, w, y = map(draw.name, "xwy")
    r, v, c, a = map(draw.name, "rvca")
    sums = _sums(image, weights, source, how, groups)
    return Example(
        nodes=[
            _dequantised(x, r, x),
            _dequantised(w, v, draw.name("weights")),
            node("Conv", [r, v], [c], group=groups, **how.attributes()),
            node("Relu", [c], [a]),
            _quantised(a, y),
        ],
        inputs={x: image},
        constants={w: weights, **_weight_quant_params(draw), **_quant_params(x, source), **_quant_params(y, result)},
        expected=_requantised(sums, source, result, low=0.0).transpose(0, 3, 1, 2),
        words=f"{how}, image {image.shape}, weights {weights.shape}, groups {groups}, {source}, {result}",
    )


def _sums(image: Array, weights: Array, source: QuantParams, how: Window, groups: int) -> Array:
    """Return the sums with channels last; image NCHW, weights OIHW."""
    return numpy_reference.convolve(
        image.transpose(0, 2, 3, 1),
        weights.transpose(2, 3, 1, 0),
        zero=source.zero,
        strides=how.strides,
        padding=how.pads,
        dilation=how.dilations,
        groups=groups,
    )


def _sums_scale(source: QuantParams, channels: int) -> Array:
    return np.full(channels, np.float64(source.scale) * np.float64(WEIGHT_SCALE))


def quantised_dense(draw: Draw) -> Example:
    """Return a quantised product with constant weights."""
    rows, depth, columns = draw.extent(9), draw.extent(70), draw.extent(70)
    source, result = draw.quant_params(), draw.quant_params()
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
        constants={w: weights, **_weight_quant_params(draw), **_quant_params(x, source), **_quant_params(y, result)},
        expected=_requantised(sums, source, result, low=-math.inf),
        words=f"{rows}x{depth}x{columns}, {source}, {result}",
    )


def quantised_pair(draw: Draw) -> Example:
    """Return a sum of two quantised tensors, or both behind each other."""
    shape = (draw.extent(3), draw.extent(9), draw.extent(5), draw.extent(40))
    left, right, result = draw.quant_params(), draw.quant_params(), draw.quant_params()
    x, z, y = map(draw.name, "xzy")
    r, s, c = map(draw.name, "rsc")
    first, second = draw.integers("uint8", *shape), draw.integers("uint8", *shape)
    if draw.one(True, False):
        joint, words = node("Add", [r, s], [c]), "sum"
        low, high = result.bounds("uint8")
        how = numpy_reference.add_params(left, right, result)
        expected = numpy_reference.add(first, second, params=how, low=low, high=high, zero=result.zero, dtype="uint8")
    else:
        joint, words = node("Concat", [r, s], [c], axis=1), "concatenation"
        parts = [
            numpy_reference.quantise(numpy_reference.dequantise(part, params=params), params=result, dtype="uint8")
            for part, params in ((first, left), (second, right))
        ]
        expected = np.concatenate(parts, axis=1)
    return Example(
        nodes=[_dequantised(x, r, x), _dequantised(z, s, z), joint, _quantised(c, y)],
        inputs={x: first, z: second},
        constants={**_quant_params(x, left), **_quant_params(z, right), **_quant_params(y, result)},
        expected=expected,
        words=f"{words} of {shape}, {left}, {right}, {result}",
    )


def quantised_channel_scales(draw: Draw) -> Example:
    """Return a quantised tensor times one quantised number for each channel."""
    batch, channels, height, width = draw.extent(2), draw.extent(40), draw.extent(6, least=2), draw.extent(9)
    image, gate, result = draw.quant_params(), draw.quant_params(), draw.quant_params()
    while (how := numpy_reference.channel_scale_params(image, gate, result, dtype="uint8")) is None:
        image, gate, result = draw.quant_params(), draw.quant_params(), draw.quant_params()
    x, z, y = map(draw.name, "xzy")
    r, s, m = map(draw.name, "rsm")
    pixels = draw.integers("uint8", batch, height, width, channels)
    gates = draw.integers("uint8", batch, 1, 1, channels)
    return Example(
        nodes=[_dequantised(x, r, x), _dequantised(z, s, z), node("Mul", [r, s], [m]), _quantised(m, y)],
        inputs={x: pixels.transpose(0, 3, 1, 2), z: gates.transpose(0, 3, 1, 2)},
        constants={**_quant_params(x, image), **_quant_params(z, gate), **_quant_params(y, result)},
        expected=numpy_reference.scale_channels(pixels, gates, params=how, dtype="uint8").transpose(0, 3, 1, 2),
        words=f"{pixels.shape}, {image}, {gate}, {result}",
    )


def _dequantised(source: str, result: str, params: str) -> onnx.NodeProto:
    return node("DequantizeLinear", [source, f"{params}_scale", f"{params}_zero"], [result])


def _quantised(source: str, result: str) -> onnx.NodeProto:
    return node("QuantizeLinear", [source, f"{result}_scale", f"{result}_zero"], [result])


def _quant_params(name: str, params: QuantParams) -> dict[str, Array]:
    return {
        f"{name}_scale": np.asarray(params.scale, np.float32),
        f"{name}_zero": np.asarray(params.zero, np.uint8),
    }


def _weight_quant_params(draw: Draw) -> dict[str, Array]:
    name = draw.name("weights")
    return {f"{name}_scale": np.asarray(WEIGHT_SCALE), f"{name}_zero": np.asarray(0, np.int8)}


def _requantised(sums: Array, source: QuantParams, result: QuantParams, *, low: float) -> Array:
    channels = sums.shape[-1]
    bounds = result.bounds("uint8", low)
    return numpy_reference.requantise(
        sums,
        np.zeros(channels, np.int32),
        numpy_reference.multipliers(_sums_scale(source, channels), result.scale),
        low=bounds[0],
        high=bounds[1],
        zero=result.zero,
        dtype="uint8",
    )


INTEGERS: tuple[Callable[[Draw], Example], ...] = (
    quantised_convolution,
    quantised_small_kernel,
    quantised_hard_swish,
    quantised_dense,
    quantised_pair,
    quantised_channel_scales,
)
