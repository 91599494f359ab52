"""The form of quantised models whose operators take integers, scales and zero points: QLinearConv and its like.

Where the integer kernels know the product (int8/rewrite.py), the node becomes what they look for: DequantizeLinear, the
operator, QuantizeLinear. They compute the same integers; elsewhere it would be computed in float32, whose sums round.
So products over weights that are no constants or have a zero point are left to operators/integer_products.py.
"""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from crossfarm.backends.tvm.operators.graph_rewriting import Rewrite, Rewriting
from crossfarm.backends.tvm.types import Array


def _real(graph: Rewriting, number: int, *, axis: int = 1) -> str:
    """Return the real numbers of three inputs from `number` on: integers, scale, zero point."""
    value, scale, zero = (graph.input(number + place) for place in range(3))
    return graph.add("DequantizeLinear", value, scale, zero, axis=axis)


def _quantised(graph: Rewriting, real: str, number: int) -> bool:
    """Write the output: `real` in the scale and zero point of two inputs from `number` on."""
    graph.add("QuantizeLinear", real, graph.input(number), graph.input(number + 1), gives=graph.output(0))
    return True


def _weights(graph: Rewriting, number: int, zero_number: int) -> Array | None:
    """Return constant weights as int8 around 0; None when they are none, or do not fit."""
    weights, zero = graph.array(number), graph.array(zero_number)
    if weights is None or (graph.input(zero_number) and zero is None):
        return None
    shift = np.zeros(1, np.int64) if zero is None else zero.reshape(-1).astype(np.int64)
    if np.any(shift != shift[0]):
        return None
    moved = weights.astype(np.int64) - shift[0]
    return moved.astype(np.int8) if moved.min(initial=0) >= -128 and moved.max(initial=0) <= 127 else None


def _conv(graph: Rewriting) -> bool:
    weights, scale = graph.array(3), graph.array(4)
    input_scale, shape = graph.array(1), graph.shape(graph.input(0))
    known = [graph.array(number) for number in (2, 6, 7)]
    if weights is None or scale is None or input_scale is None or shape is None or len(shape) != 4:
        return False
    centred = _weights(graph, 3, 5)
    if centred is None or any(each is None for each in known) or input_scale.size != 1:
        return False
    x = _real(graph, 0)
    per_channel = scale.size > 1
    zeros = graph.constant(np.zeros(scale.shape, np.int8))
    w = graph.add("DequantizeLinear", graph.constant(centred), graph.input(4), zeros, axis=0)
    inputs = [x, w]
    bias = graph.array(8)
    if graph.input(8):
        if bias is None:
            return False
        factor = (input_scale.reshape(-1)[0] * scale).astype(np.float32)
        factor = factor.reshape(-1) if per_channel else factor.reshape(())
        zero = graph.constant(np.zeros(factor.shape, np.int32))
        inputs.append(graph.add("DequantizeLinear", graph.constant(bias), graph.constant(factor), zero, axis=0))
    return _quantised(graph, graph.add("Conv", *inputs, **graph.attributes), 6)


def _matmul(graph: Rewriting) -> bool:
    scale, input_scale, weights = graph.array(4), graph.array(1), graph.array(3)
    if scale is None or input_scale is None or weights is None or weights.ndim != 2 or input_scale.size != 1:
        return False
    centred = _weights(graph, 3, 5)
    output = [graph.array(6), graph.array(7)]
    if centred is None or graph.array(2) is None or any(each is None or each.size != 1 for each in output):
        return False
    axis = 1
    flat = scale.reshape(-1) if scale.size > 1 else scale.reshape(())
    zeros = graph.constant(np.zeros(flat.shape, np.int8))
    w = graph.add("DequantizeLinear", graph.constant(centred), graph.constant(flat), zeros, axis=axis)
    return _quantised(graph, graph.add("MatMul", _real(graph, 0), w), 6)


def _of_two(operator: str) -> Rewrite:
    def rewrite(graph: Rewriting) -> bool:
        return _quantised(graph, graph.add(operator, _real(graph, 0), _real(graph, 3)), 6)

    return rewrite


def _of_one(operator: str, *passed: str) -> Rewrite:
    def rewrite(graph: Rewriting) -> bool:
        if graph.attributes.get("channels_last", 0):
            return False
        kept = {name: value for name, value in graph.attributes.items() if name in passed}
        return _quantised(graph, graph.add(operator, _real(graph, 0), **kept), 3)

    return rewrite


def _concat(graph: Rewriting) -> bool:
    parts = [_real(graph, number) for number in range(2, len(graph.node.input), 3)]
    return _quantised(graph, graph.add("Concat", *parts, axis=graph.attributes["axis"]), 0)


def _same(operator: str) -> Rewrite:
    """Return what makes an operator of com.microsoft the one of ONNX with the same name and meaning."""

    def rewrite(graph: Rewriting) -> bool:
        graph.add(operator, *graph.node.input, gives=graph.output(0), **graph.attributes)
        return True

    return rewrite


def _dynamic_matmul(graph: Rewriting) -> bool:
    """DynamicQuantizeMatMul: A, B, scale and zero point of B, bias."""
    names = [graph.constant(0.0, np.float32)]  # a name of its own for each of the three outputs
    quantised, scale, zero = (f"{names[0]}/{part}" for part in ("y", "scale", "zero"))
    from onnx import helper

    graph.nodes.append(helper.make_node("DynamicQuantizeLinear", [graph.input(0)], [quantised, scale, zero]))
    return _scaled_product(
        graph, (quantised, scale, zero), bias=graph.input(4), scale=graph.input(2), zero=graph.input(3)
    )


def _to_float(graph: Rewriting) -> bool:
    """MatMulIntegerToFloat: A, B, their scales and zero points, bias."""
    given = (graph.input(0), graph.input(2), graph.input(4))
    return _scaled_product(graph, given, bias=graph.input(6), scale=graph.input(3), zero=graph.input(5))


def _scaled_product(graph: Rewriting, left: tuple[str, str, str], *, bias: str, scale: str, zero: str) -> bool:
    product = graph.add("MatMulInteger", left[0], graph.input(1), left[2], zero)
    factor = graph.add("Mul", left[1], scale)
    real = graph.add("Mul", graph.add("Cast", product, to=1), factor, gives="" if bias else graph.output(0))
    if bias:
        graph.add("Add", real, bias, gives=graph.output(0))
    return True


def as_eight_bits(tensor: object) -> Array:
    """Return the content of an initialiser, numbers of four bits in the dtype of eight that holds them.

    Args:
        tensor: onnx.TensorProto.
    """
    array: Array = numpy_helper.to_array(tensor)  # type: ignore[arg-type]
    wider = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8}.get(array.dtype.name)
    return array if wider is None else array.astype(wider)


REWRITES: dict[str, Rewrite] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "com.microsoft.DequantizeLinear": _same("DequantizeLinear"),
    "com.microsoft.DynamicQuantizeMatMul": _dynamic_matmul,
    "com.microsoft.MatMulIntegerToFloat": _to_float,
    "com.microsoft.QLinearAdd": _of_two("Add"),
    "com.microsoft.QLinearAveragePool": _of_one(
        "AveragePool", "auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"
    ),
    "com.microsoft.QLinearConcat": _concat,
    "com.microsoft.QLinearGlobalAveragePool": _of_one("GlobalAveragePool"),
    "com.microsoft.QLinearLeakyRelu": _of_one("LeakyRelu", "alpha"),
    "com.microsoft.QLinearMul": _of_two("Mul"),
    "com.microsoft.QLinearSigmoid": _of_one("Sigmoid"),
    "com.microsoft.QLinearSoftmax": _of_one("Softmax", "axis"),
    "com.microsoft.QuantizeLinear": _same("QuantizeLinear"),
}
"""Operator -> what replaces it."""
