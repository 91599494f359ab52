"""Operators of com.microsoft that ONNX Runtime's optimiser and exporters write, as what they stand for.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

import math

import numpy as np

from crossfarm.backends.tvm.operators.few_bits import unpacked
from crossfarm.backends.tvm.operators.graph_rewriting import Rewrite, Rewriting
from crossfarm.backends.tvm.operators.node import UnsupportedForm
from crossfarm.backends.tvm.types import Array

_ROOT_OF_TWO_OVER_PI = math.sqrt(2 / math.pi)


def _number(graph: Rewriting, value: float) -> str:
    return graph.constant(value, graph.dtype(graph.input(0)))


def _gelu(graph: Rewriting) -> bool:
    """x / 2 * (1 + erf(x / sqrt 2)), of x plus the second input when there is one."""
    x = graph.add("Add", graph.input(0), graph.input(1)) if graph.input(1) else graph.input(0)
    inner = graph.add("Erf", graph.add("Mul", x, _number(graph, math.sqrt(0.5))))
    half = graph.add("Mul", x, _number(graph, 0.5))
    graph.add("Mul", half, graph.add("Add", inner, _number(graph, 1)), gives=graph.output(0))
    return True


def _fast_gelu(graph: Rewriting) -> bool:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    x = graph.add("Add", graph.input(0), graph.input(1)) if graph.input(1) else graph.input(0)
    square = graph.add("Mul", graph.add("Mul", x, x), _number(graph, 0.044715 * _ROOT_OF_TWO_OVER_PI))
    factor = graph.add("Add", square, _number(graph, _ROOT_OF_TWO_OVER_PI))
    inner = graph.add("Tanh", graph.add("Mul", x, factor))
    half = graph.add("Mul", x, _number(graph, 0.5))
    graph.add("Mul", half, graph.add("Add", inner, _number(graph, 1)), gives=graph.output(0))
    return True


def _quick_gelu(graph: Rewriting) -> bool:
    scaled = graph.add("Mul", graph.input(0), _number(graph, graph.attributes.get("alpha", 1.702)))
    graph.add("Mul", graph.input(0), graph.add("Sigmoid", scaled), gives=graph.output(0))
    return True


def _fused_matmul(graph: Rewriting) -> bool:
    attributes = graph.attributes
    if attributes.get("transBatchA", 0) or attributes.get("transBatchB", 0):
        return False
    sides = []
    for number, name in ((0, "transA"), (1, "transB")):
        side, shape = graph.input(number), graph.shape(graph.input(number))
        if attributes.get(name, 0):
            if shape is None:
                return False
            if len(shape) > 1:
                order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
                side = graph.add("Transpose", side, perm=order)
        sides.append(side)
    alpha = attributes.get("alpha", 1.0)
    product = graph.add("MatMul", *sides, gives=graph.output(0) if alpha == 1 else "")
    if alpha != 1:
        graph.add("Mul", product, _number(graph, alpha), gives=graph.output(0))
    return True


def _activated(graph: Rewriting, value: str, name: str, numbers: list[float]) -> bool:
    """Write the output: an activation of `value`; False when it is unknown."""
    made = graph.output(0)
    if name in ("Relu", "Sigmoid", "Tanh"):
        graph.add(name, value, gives=made)
    elif name == "LeakyRelu":
        graph.add(name, value, gives=made, alpha=numbers[0] if numbers else 0.01)
    elif name == "HardSigmoid":
        alpha, beta = numbers or [0.2, 0.5]
        graph.add(name, value, gives=made, alpha=alpha, beta=beta)
    elif name == "Clip" and len(numbers) == 2:
        graph.add(name, value, *(_number(graph, number) for number in numbers), gives=made)
    else:
        return False
    return True


def _fused_conv(graph: Rewriting) -> bool:
    own = ("activation", "activation_params")
    attributes = {name: value for name, value in graph.attributes.items() if name not in own}
    bias = [graph.input(2)] if graph.input(2) else []
    value = graph.add("Conv", graph.input(0), graph.input(1), *bias, **attributes)
    if graph.input(3):
        value = graph.add("Add", value, graph.input(3))
    name = graph.attributes.get("activation", "")
    return _activated(graph, value, name, list(graph.attributes.get("activation_params", ())))


def _fused_gemm(graph: Rewriting) -> bool:
    known = ("alpha", "beta", "transA", "transB")
    attributes = {name: value for name, value in graph.attributes.items() if name in known}
    value = graph.add("Gemm", *graph.node.input, **attributes)
    numbers = [
        graph.attributes[f"activation_{name}"] for name in ("alpha", "beta") if f"activation_{name}" in graph.attributes
    ]
    return _activated(graph, value, graph.attributes.get("activation", ""), numbers)


def _skip_normalisation(graph: Rewriting) -> bool:
    total = graph.add("Add", graph.input(0), graph.input(1))
    is_simple = graph.node.op_type == "SkipSimplifiedLayerNormalization"
    bias = graph.input(3 if is_simple else 4)
    if bias:
        total = graph.add("Add", total, bias)
    if any(graph.output(number) for number in (1, 2)):
        return False
    if graph.output(3):
        graph.add("Identity", total, gives=graph.output(3))
    epsilon = graph.attributes.get("epsilon", 1e-12)
    if is_simple:
        return _simplified(graph, total, graph.input(2), axes=[-1], epsilon=epsilon)
    scale = [graph.input(2), *([graph.input(3)] if graph.input(3) else [])]
    graph.add("LayerNormalization", total, *scale, gives=graph.output(0), axis=-1, epsilon=epsilon)
    return True


def _simplified(graph: Rewriting, x: str, scale: str, *, axes: list[int], epsilon: float) -> bool:
    """x / sqrt(mean(x^2) + epsilon) * scale."""
    square = graph.add("Mul", x, x)
    mean = graph.reduced("ReduceMean", square, axes)
    root = graph.add("Sqrt", graph.add("Add", mean, _number(graph, epsilon)))
    graph.add("Mul", graph.add("Div", x, root), scale, gives=graph.output(0))
    return True


def _simplified_normalisation(graph: Rewriting) -> bool:
    shape = graph.shape(graph.input(0))
    if shape is None or graph.output(1):
        return False
    first = graph.attributes.get("axis", -1) % len(shape)
    axes = list(range(first, len(shape)))
    epsilon = graph.attributes.get("epsilon", 1e-5)
    return _simplified(graph, graph.input(0), graph.input(1), axes=axes, epsilon=epsilon)


def _embedding(graph: Rewriting) -> bool:
    shape = graph.shape(graph.input(0))
    if shape is None:
        return False
    total = graph.add("Gather", graph.input(2), graph.input(0))
    if graph.input(8):
        place = graph.input(8)
    else:
        place = graph.constant(np.arange(shape[1], dtype=np.int32)[None])
    total = graph.add("Add", total, graph.add("Gather", graph.input(3), place))
    if graph.input(1) and graph.input(4):
        total = graph.add("Add", total, graph.add("Gather", graph.input(4), graph.input(1)))
    if graph.output(2):
        graph.add("Identity", total, gives=graph.output(2))
    if graph.output(1):
        if graph.input(7):
            graph.reduced("ReduceSum", graph.input(7), [1], gives=graph.output(1), keepdims=0)
        else:
            graph.add("Identity", graph.constant(np.zeros(shape[0], np.int32)), gives=graph.output(1))
    epsilon = graph.attributes.get("epsilon", 1e-12)
    graph.add(
        "LayerNormalization", total, graph.input(5), graph.input(6), gives=graph.output(0), axis=-1, epsilon=epsilon
    )
    return True


def _attention(graph: Rewriting) -> bool:
    """Attention of com.microsoft: one product gives queries, keys and values, side by side."""
    shape, weights = graph.shape(graph.input(0)), graph.shape(graph.input(1))
    attributes, heads = graph.attributes, graph.attributes["num_heads"]
    if shape is None or weights is None or graph.input(4) or graph.output(1) or attributes.get("do_rotary", 0):
        raise UnsupportedForm("it has a cache, rotates its inputs, or has open shapes")
    batch, length, _ = shape
    sizes = list(attributes.get("qkv_hidden_sizes") or [weights[1] // 3] * 3)
    joined = graph.add("MatMul", graph.input(0), graph.input(1))
    if graph.input(2):
        joined = graph.add("Add", joined, graph.input(2))
    ends = np.cumsum(sizes).tolist()
    parts = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        parts.append(graph.sliced(joined, start, end, axis=2))
    mask = _mask(graph, graph.input(3), batch=batch, length=length)
    if mask is None:
        raise UnsupportedForm("its mask has a form that is not known here")
    masks = [mask] if mask else []
    if attributes.get("unidirectional", 0):
        above = np.triu(np.full((length, length), attributes.get("mask_filter_value", -10000.0)), 1)
        masks.append(graph.constant(above, graph.dtype(graph.input(0))))
    if graph.input(5):
        masks.append(graph.input(5))
    return _attended(graph, parts, heads=heads, sizes=sizes, batch=batch, lengths=(length, length), masks=masks)


def _multi_head(graph: Rewriting) -> bool:
    """MultiHeadAttention: queries, keys and values [batch, length, heads * size]."""
    shapes = [graph.shape(graph.input(number)) for number in range(3)]
    if any(shape is None or len(shape) != 3 for shape in shapes):
        raise UnsupportedForm("queries, keys and values are not three tensors of three axes")
    given = (*graph.node.input[6:], *graph.node.output[1:])
    if any(given) or graph.attributes.get("unidirectional", 0):
        raise UnsupportedForm("it has a cache, gives its scores, or looks only backwards")
    query, key, value = (shape or () for shape in shapes)
    sizes, batch = [query[2], key[2], value[2]], query[0]
    parts = [graph.input(number) for number in range(3)]
    if graph.input(3):
        start = 0
        for number, size in enumerate(sizes):
            parts[number] = graph.add("Add", parts[number], graph.sliced(graph.input(3), start, start + size))
            start += size
    mask = _mask(graph, graph.input(4), batch=batch, length=key[1])
    if mask is None:
        raise UnsupportedForm("its mask has a form that is not known here")
    masks = [*([mask] if mask else []), *([graph.input(5)] if graph.input(5) else [])]
    lengths, heads = (query[1], key[1]), graph.attributes["num_heads"]
    return _attended(graph, parts, heads=heads, sizes=sizes, batch=batch, lengths=lengths, masks=masks)


def _mask(graph: Rewriting, mask: str, *, batch: int, length: int) -> str | None:
    """Return what is added to the scores; empty for nothing, None for a form that is not known here."""
    if not mask:
        return ""
    shape = graph.shape(mask)
    filtered = graph.attributes.get("mask_filter_value", -10000.0)
    if shape == (batch,) and batch > 1:
        places = graph.constant(np.arange(length, dtype=np.int32)[None])
        row = graph.add("Less", places, graph.unsqueezed(mask, 1))
    elif shape == (batch, length):
        row = graph.add("Cast", mask, to=9)
    elif shape is not None and len(shape) == 3 and shape[0] == batch:
        kept = graph.unsqueezed(graph.add("Cast", mask, to=9), 1)
        return graph.add("Where", kept, _number(graph, 0), _number(graph, filtered))
    else:
        return None
    kept = graph.unsqueezed(row, 1, 2)
    return graph.add("Where", kept, _number(graph, 0), _number(graph, filtered))


def _attended(
    graph: Rewriting,
    parts: list[str],
    *,
    heads: int,
    sizes: list[int],
    batch: int,
    lengths: tuple[int, int],
    masks: list[str],
) -> bool:
    """softmax(Q K^T * scale + masks) V, head by head."""
    split = []
    for part, size, length, order in zip(
        parts, sizes, (lengths[0], lengths[1], lengths[1]), ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True
    ):
        shape = graph.constant([batch, length, heads, size // heads], np.int64)
        split.append(graph.add("Transpose", graph.add("Reshape", part, shape), perm=order))
    scale = graph.attributes.get("scale", 0.0) or 1 / math.sqrt(sizes[0] // heads)
    scores = graph.add("Mul", graph.add("MatMul", split[0], split[1]), _number(graph, scale))
    for mask in masks:
        scores = graph.add("Add", scores, mask)
    result = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), split[2])
    flat = graph.constant([batch, lengths[0], sizes[2]], np.int64)
    graph.add("Reshape", graph.add("Transpose", result, perm=[0, 2, 1, 3]), flat, gives=graph.output(0))
    return True


def _matmul_n_bits(graph: Rewriting) -> bool:
    """Y = A B^T with B in blocks of numbers of 2 or 8 bits; those of 4 stay packed (few_bits.py)."""
    attributes = graph.attributes
    rows, columns = attributes["K"], attributes["N"]
    bits, block = attributes.get("bits", 4), attributes["block_size"]
    packed, scales, zeros = graph.array(1), graph.array(2), graph.array(3)
    if packed is None or scales is None or (graph.input(3) and zeros is None) or graph.input(4) or bits not in (2, 8):
        return False
    blocks = -(-rows // block)
    numbers = unpacked(packed.reshape(columns, -1), bits)[:, : blocks * block].reshape(columns, blocks, block)
    if zeros is None:
        middle: Array = np.full((columns, blocks), float(1 << (bits - 1)))
    elif zeros.dtype == np.uint8:
        middle = unpacked(zeros.reshape(columns, -1), bits)[:, :blocks]
    else:
        middle = zeros.reshape(columns, blocks)
    real = (numbers - middle[..., None].astype(np.float32)) * scales.reshape(columns, blocks, 1).astype(np.float32)
    weights = real.reshape(columns, -1)[:, :rows].T
    bias = graph.input(5)
    made = graph.constant(np.ascontiguousarray(weights), graph.dtype(graph.input(0)))
    product = graph.add("MatMul", graph.input(0), made, gives="" if bias else graph.output(0))
    if bias:
        graph.add("Add", product, bias, gives=graph.output(0))
    return True


REWRITES: dict[str, Rewrite] = {
    "SimplifiedLayerNormalization": _simplified_normalisation,
    "com.microsoft.Attention": _attention,
    "com.microsoft.BiasGelu": _gelu,
    "com.microsoft.EmbedLayerNormalization": _embedding,
    "com.microsoft.FastGelu": _fast_gelu,
    "com.microsoft.FusedConv": _fused_conv,
    "com.microsoft.FusedGemm": _fused_gemm,
    "com.microsoft.FusedMatMul": _fused_matmul,
    "com.microsoft.Gelu": _gelu,
    "com.microsoft.MatMulNBits": _matmul_n_bits,
    "com.microsoft.MultiHeadAttention": _multi_head,
    "com.microsoft.QuickGelu": _quick_gelu,
    "com.microsoft.SkipLayerNormalization": _skip_normalisation,
    "com.microsoft.SkipSimplifiedLayerNormalization": _skip_normalisation,
    "com.microsoft.TransposeMatMul": _fused_matmul,
}
"""Operator -> what replaces it."""
