"""Products of integers with zero points, and numbers quantised by axis, by block or while the model runs.

What the integer kernels know (int8/rewrite.py) is left to them; here stands what they do not: any dtype of eight bits,
weights that are computed, zero points of both sides. Sums are exact, in int32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.operators.emitting import cast, one_axis, reshaped, tensor
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.passes.relax_utils import constant_array, dtype_of, static_shape
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr, Tensor, Var

_RANGES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1),
}
_PlaceOf = Callable[[Sequence[Var]], tuple[PrimExpr, ...]]
"""Returns the place of the scale of an element."""
_CODES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32"}
"""TensorProto.DataType -> dtype, of those that numbers are quantised to here."""


def _centred(node: Node, number: int, zero_number: int, *, axis: int | None = None) -> RelaxExpr:
    """Return an input in int32 without its zero point, which may be one for each place of an axis."""
    value = cast(node, node.input(number), "int32")
    if not node.has(zero_number):
        return value
    zero = cast(node, node.input(zero_number), "int32")
    known, array = constant_array(zero), constant_array(value)
    shape = static_shape(zero) or ()
    if axis is not None and math.prod(shape) > 1 and len(shape) == 1:
        rank = len(static_shape(value) or ())
        zero = reshaped(node, zero, [shape[0] if place == axis % rank else 1 for place in range(rank)])
    elif math.prod(shape) == 1:
        zero = reshaped(node, zero, [])
    known = constant_array(zero)
    if known is not None and array is not None:
        return tensor(array - known)
    return value if known is not None and not known.any() else node.emit(relax.op.subtract(value, zero))


def _matmul(node: Node, left: tuple[int, int], right: tuple[int, int]) -> RelaxExpr:
    a = _centred(node, *left, axis=-2 if len(node.shape(left[0])) > 1 else None)
    b = _centred(node, *right, axis=-1)
    return node.emit(relax.op.matmul(a, b))


def _matmul_integer(node: Node) -> RelaxExpr:
    return _matmul(node, (0, 2), (1, 3))


def _conv_integer(node: Node) -> RelaxExpr:
    return _convolution(node, _centred(node, 0, 2), _centred(node, 1, 3, axis=0))


def _qlinear_matmul(node: Node) -> RelaxExpr:
    sums = _matmul(node, (0, 2), (3, 5))
    rank = len(static_shape(sums) or ())
    left = _scale(node, 1, axis=rank - 2, rank=rank)
    return _requantised(node, sums, left, _scale(node, 4, axis=rank - 1, rank=rank), (6, 7))


def _qlinear_conv(node: Node) -> RelaxExpr:
    sums = _convolution(node, _centred(node, 0, 2), _centred(node, 3, 5, axis=0))
    rank = len(node.shape(0))
    if node.has(8):
        bias = reshaped(node, node.input(8), [1, node.shape(8)[0], *([1] * (rank - 2))])
        sums = node.emit(relax.op.add(sums, bias))
    return _requantised(node, sums, _scale(node, 1, axis=0, rank=rank), _scale(node, 4, axis=1, rank=rank), (6, 7))


def _scale(node: Node, number: int, *, axis: int, rank: int) -> RelaxExpr:
    """Return a scale in a shape that broadcasts over the result."""
    shape = node.shape(number)
    if math.prod(shape) == 1:
        return reshaped(node, node.input(number), [])
    if len(shape) > 1:
        return node.input(number)
    return reshaped(node, node.input(number), [shape[0] if place == axis else 1 for place in range(rank)])


def _requantised(node: Node, sums: RelaxExpr, left: RelaxExpr, right: RelaxExpr, target: tuple[int, int]) -> RelaxExpr:
    """Return sums as quantised numbers: one factor, rounded to the nearest even, as ONNX Runtime has it."""
    dtype, axis = node.dtype(target[1]), 1 if len(node.shape(0)) > 2 else -1
    rank = len(static_shape(sums) or ())
    scale = _scale(node, target[0], axis=axis % rank, rank=rank)
    factor = node.emit(relax.op.divide(node.emit(relax.op.multiply(left, right)), scale))
    scaled = node.emit(relax.op.multiply(cast(node, sums, "float32"), factor))
    low, high = _RANGES[dtype]

    def compute(values: Tensor, zeros: Tensor) -> Tensor:
        def element(*at: Var) -> PrimExpr:
            rounded = tirx.nearbyint(values[at]) + zeros[0].astype("float32")
            bounded = tirx.max(tirx.min(rounded, tirx.const(high, "float32")), tirx.const(low, "float32"))
            return bounded.astype("int32").astype(dtype)

        return te.compute(values.shape, element, name="requantised")

    if math.prod(node.shape(target[1])) != 1:
        raise UnsupportedForm("its result has a zero point for each channel")
    return node.compute(compute, scaled, reshaped(node, node.input(target[1]), [1]), name="requantise")


def _convolution(node: Node, image: RelaxExpr, weights: RelaxExpr) -> RelaxExpr:
    """Return the sums of a convolution over any number of axes, in int32; the padding is 0."""
    shape, kernel = static_shape(image) or (), static_shape(weights) or ()
    rank, attributes = len(shape) - 2, node.attributes
    groups = int(attributes.get("group", 1))
    strides, dilations = node.integers("strides", (1,) * rank), node.integers("dilations", (1,) * rank)
    pads = _pads(node, shape[2:], kernel[2:], strides, dilations)
    made = [
        (shape[2 + k] + pads[k] + pads[k + rank] - dilations[k] * (kernel[2 + k] - 1) - 1) // strides[k] + 1
        for k in range(rank)
    ]
    depth, outputs = kernel[1], kernel[0]

    def compute(values: Tensor, factors: Tensor) -> Tensor:
        channel = te.reduce_axis((0, depth), name="channel")
        taps = [te.reduce_axis((0, extent), name=f"tap{k}") for k, extent in enumerate(kernel[2:])]

        def element(n: Var, output: Var, *at: Var) -> PrimExpr:
            places = [at[k] * strides[k] + taps[k] * dilations[k] - pads[k] for k in range(rank)]
            inside = [tirx.all(place >= 0, place < shape[2 + k]) for k, place in enumerate(places)]
            first = output // (outputs // groups) * depth
            value = values[(n, first + channel, *places)]
            padded = tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, "int32"))
            return te.sum(padded * factors[(output, channel, *taps)], axis=[channel, *taps])

        return te.compute((shape[0], outputs, *made), element, name="sums")

    return node.compute(compute, image, weights, name="integer_convolution")


def _pads(
    node: Node, image: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    kind = node.attributes.get("auto_pad", "NOTSET")
    if kind == "NOTSET":
        return node.integers("pads", (0,) * (2 * len(image)))
    if kind == "VALID":
        return [0] * (2 * len(image))
    total = [
        max(0, (-(-extent // stride) - 1) * stride + dilation * (width - 1) + 1 - extent)
        for extent, width, stride, dilation in zip(image, kernel, strides, dilations, strict=True)
    ]
    halves = [each // 2 for each in total]
    rest = [each - half for each, half in zip(total, halves, strict=True)]
    return [*halves, *rest] if kind == "SAME_UPPER" else [*rest, *halves]


def _dynamic(node: Node) -> Sequence[RelaxExpr]:
    """Return numbers quantised to uint8 over their own range, which includes 0; its scale and zero point."""
    if not math.prod(node.shape(0)):
        raise UnsupportedForm("it quantises no elements")
    x, zero = node.input(0), relax.const(0.0, "float32")
    high = node.emit(relax.op.maximum(node.emit(relax.op.max(x)), zero))
    low = node.emit(relax.op.minimum(node.emit(relax.op.min(x)), zero))

    def scale_of(highest: Tensor, lowest: Tensor) -> Tensor:
        span = (highest[()] - lowest[()]) / tirx.const(255, "float32")
        return te.compute((1,), lambda _: tirx.Select(span == 0, tirx.const(1, "float32"), span), name="scale")

    def zero_of(lowest: Tensor, scales: Tensor) -> Tensor:
        def element(_: Var) -> PrimExpr:
            place = tirx.const(0, "float32") - lowest[()] / scales[0]
            bounded = tirx.max(tirx.min(place, tirx.const(255, "float32")), tirx.const(0, "float32"))
            return tirx.nearbyint(bounded).astype("int32").astype("uint8")

        return te.compute((1,), element, name="zero_point")

    scale = node.compute(scale_of, high, low, name="dynamic_scale")
    point = node.compute(zero_of, low, scale, name="dynamic_zero_point")
    quantised = _rounded(node, x, scale, point, dtype="uint8", place_of=lambda at: (0,))
    return [quantised, reshaped(node, scale, []), reshaped(node, point, [])]


def _rounded(
    node: Node, x: RelaxExpr, scale: RelaxExpr, zero: RelaxExpr | None, *, dtype: str, place_of: _PlaceOf
) -> RelaxExpr:
    """Return numbers divided by their scale, rounded to the nearest even, with the zero point added, saturated."""
    low, high = _RANGES[dtype]

    def compute(values: Tensor, scales: Tensor, *zeros: Tensor) -> Tensor:
        def element(*at: Var) -> PrimExpr:
            place = place_of(at)
            rounded = tirx.nearbyint(values[at].astype("float32") / scales[place].astype("float32"))
            if zeros:
                rounded = rounded + zeros[0][place].astype("float32")
            bounded = tirx.max(tirx.min(rounded, tirx.const(high, "float32")), tirx.const(low, "float32"))
            return bounded.astype("int32").astype(dtype)

        return te.compute(values.shape, element, name="quantised")

    return node.compute(compute, x, scale, *([] if zero is None else [zero]), name="quantise")


def _places(node: Node) -> tuple[tuple[int, ...], _PlaceOf]:
    """Return the shape that scales are seen in, and what gives the place of the scale of an element."""
    shape, scales = node.shape(0), node.shape(1)
    if math.prod(scales) == 1:
        return (1,), lambda at: (0,)
    axis = one_axis(int(node.attributes.get("axis", 1)), len(shape))
    if len(scales) == 1:
        return scales, lambda at: (at[axis],)
    block = int(node.attributes.get("block_size", 0)) or -(-shape[axis] // scales[axis])
    return scales, lambda at: (*at[:axis], at[axis] // block, *at[axis + 1 :])


def _is_plain(node: Node) -> bool:
    """Say whether the integer kernels, and TVM, have this form: a scale for all or for each place of an axis."""
    scales = node.shape(1)
    return len(scales) <= 1 and int(node.attributes.get("block_size", 0)) == 0


def _with_zero(node: Node, dtype: str) -> RelaxExpr:
    if node.has(2):
        return node.input(2)
    return tensor(np.zeros(node.shape(1), dtype))


def _axis(node: Node) -> int:
    rank = len(node.shape(0))
    axis = int(node.attributes.get("axis", 1))
    return 0 if rank <= 1 or math.prod(node.shape(1)) == 1 else one_axis(axis, rank)


def _quantize(node: Node) -> RelaxExpr:
    asked = int(node.attributes.get("output_dtype", 0))
    if node.has(2):
        dtype = node.dtype(2)
    elif asked:
        dtype = _CODES.get(asked, "")
    else:
        dtype = "uint8"
    if dtype not in _RANGES:
        raise UnsupportedForm("it quantises to a type that no tensor of a program has: 4 bits, or floats of 8")
    if _is_plain(node) and dtype in ("int8", "uint8") and node.dtype(0) == "float32":
        zero = _with_zero(node, dtype)
        if constant_array(node.input(1)) is not None and constant_array(zero) is not None:
            return relax.op.quantize(node.input(0), node.input(1), zero, axis=_axis(node), out_dtype=dtype)
    shape, place_of = _places(node)
    zero = reshaped(node, node.input(2), shape) if node.has(2) else None
    return _rounded(node, node.input(0), reshaped(node, node.input(1), shape), zero, dtype=dtype, place_of=place_of)


def _dequantize(node: Node) -> RelaxExpr:
    dtype, made = node.dtype(0), node.dtype(1)
    if dtype not in _RANGES or not made.startswith("float"):
        raise UnsupportedForm(f"it takes {dtype} with a scale of {made}")
    if _is_plain(node) and made == "float32":
        zero = _with_zero(node, dtype)
        if constant_array(node.input(1)) is not None and constant_array(zero) is not None:
            return relax.op.dequantize(node.input(0), node.input(1), zero, axis=_axis(node), out_dtype="float32")
    shape, place_of = _places(node)
    scale = reshaped(node, node.input(1), shape)
    zero = reshaped(node, node.input(2), shape) if node.has(2) else None
    arrays = [constant_array(each) for each in (node.input(0), scale, zero) if each is not None]
    if all(array is not None for array in arrays):
        return _known(node, shape, arrays)

    def compute(values: Tensor, scales: Tensor, *zeros: Tensor) -> Tensor:
        def element(*at: Var) -> PrimExpr:
            value = values[at].astype("int32")
            if zeros:
                value = value - zeros[0][place_of(at)].astype("int32")
            return value.astype(made) * scales[place_of(at)]

        return te.compute(values.shape, element, name="real")

    return node.compute(compute, node.input(0), scale, *([] if zero is None else [zero]), name="dequantise")


def _known(node: Node, shape: Sequence[int], arrays: Sequence[object]) -> RelaxExpr:
    """Return the real numbers of constants: a scale of a block stands for all of its elements."""
    value, scale, *zeros = (np.asarray(array) for array in arrays)
    spread = []
    for each in (scale, *zeros):
        if each.size == 1:
            spread.append(each.reshape(()))
        elif each.ndim == 1:
            axis = one_axis(int(node.attributes.get("axis", 1)), value.ndim)
            spread.append(each.reshape([-1 if place == axis else 1 for place in range(value.ndim)]))
        else:
            axis = one_axis(int(node.attributes.get("axis", 1)), value.ndim)
            block = int(node.attributes.get("block_size", 0)) or -(-value.shape[axis] // each.shape[axis])
            whole = np.repeat(each, block, axis=axis)
            spread.append(np.take(whole, np.arange(value.shape[axis]), axis=axis))
    centred = value.astype(np.int64) - (spread[1].astype(np.int64) if zeros else 0)
    return tensor((centred.astype(spread[0].dtype) * spread[0]).astype(dtype_of(node.input(1))))


CONVERTERS: dict[str, Converter] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
}
"""Operator -> its converter."""
