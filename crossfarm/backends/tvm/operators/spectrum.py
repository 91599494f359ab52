"""DFT and STFT as products with matrices of cosines and sines, or as sums over a table of them when they are long."""

from __future__ import annotations

import math

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.operators.emitting import one_axis, permuted, reshaped, tensor
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.passes.relax_utils import constant_array
from crossfarm.backends.tvm.types import Array, PrimExpr, RelaxExpr, Tensor, Var

_LARGEST_MATRIX = 1 << 22
"""Elements of a matrix that is still written down: 16 MiB."""


def _dft(node: Node) -> RelaxExpr:
    shape, attributes = node.shape(0), node.attributes
    axis = int(attributes.get("axis", 1))
    if node.opset >= 20:
        axis = int(node.constant(2).reshape(-1)[0]) if node.has(2) else -2
    axis = one_axis(axis, len(shape))
    inverse, onesided = bool(attributes.get("inverse", 0)), bool(attributes.get("onesided", 0))
    if inverse and onesided:
        raise UnsupportedForm("it is inverse and onesided at once")
    length = int(node.constant(1).reshape(-1)[0]) if node.has(1) else shape[axis]
    order = [*(place for place in range(len(shape) - 1) if place != axis), axis, len(shape) - 1]
    lines = permuted(node, node.input(0), order)
    result = _transformed(node, lines, length=length, inverse=inverse, onesided=onesided, window=None)
    return permuted(node, result, [order.index(place) for place in range(len(shape))])


def _stft(node: Node) -> RelaxExpr:
    batch, samples, parts = (*node.shape(0), 1)[:3]
    step = int(node.constant(1).reshape(-1)[0])
    window = node.inputs[2] if node.has(2) else None
    length = (
        int(node.constant(3).reshape(-1)[0]) if node.has(3) else node.shape(2)[0] if window is not None else samples
    )
    frames = (samples - length) // step + 1
    signal = reshaped(node, node.input(0), [batch, samples, parts])

    def compute(values: Tensor) -> Tensor:
        shape = (batch, frames, length, parts)
        return te.compute(shape, lambda b, frame, k, part: values[b, frame * step + k, part], name="frames")

    framed = node.compute(compute, signal, name="frames")
    known = None if window is None else constant_array(window)
    if window is not None and known is None:
        framed = node.emit(relax.op.multiply(framed, reshaped(node, window, [1, 1, length, 1])))
    onesided = bool(node.attributes.get("onesided", 1))
    return _transformed(node, framed, length=length, inverse=False, onesided=onesided, window=known)


def _transformed(
    node: Node, lines: RelaxExpr, *, length: int, inverse: bool, onesided: bool, window: Array | None
) -> RelaxExpr:
    """Return the transform along the axis before the last, which holds real and imaginary part.

    Args:
        node: that is imported.
        lines: [..., samples, 1 or 2].
        length: of the transform: samples are cut off, or taken as 0 behind the end.
        inverse: the sign of the exponent, and division by the length.
        onesided: gives the first half and one alone.
        window: factor of each sample.
    """
    *lead, samples, parts = lines.ty.shape.values
    count, dtype = int(samples), node.dtype(0)
    wanted, taken = length // 2 + 1 if onesided else length, min(int(samples), length)
    lead = [int(extent) for extent in lead]
    outer = math.prod(lead)
    if taken < count:
        lines = node.emit(relax.op.strided_slice(lines, axes=[len(lead)], begin=[0], end=[taken]))
    width = int(parts)
    flat = reshaped(node, lines, [outer, taken * width])
    if taken * width * wanted * 2 <= _LARGEST_MATRIX:
        matrix = _matrix(taken, width, wanted, length=length, inverse=inverse)
        if window is not None:
            matrix = matrix * np.repeat(window.astype(np.float64)[:taken], width)[:, None]
        made = node.emit(relax.op.matmul(flat, tensor(matrix.astype(dtype))))
    else:
        made = _by_table(node, flat, taken, width, wanted, length=length, inverse=inverse, window=window)
    return reshaped(node, made, [*lead, wanted, 2])


def _matrix(taken: int, parts: int, wanted: int, *, length: int, inverse: bool) -> Array:
    """Return [samples * parts, results * 2]: what each part of a sample adds to both parts of each result."""
    turns = np.outer(np.arange(taken), np.arange(wanted)) % length
    angle = turns * ((2 if inverse else -2) * np.pi / length)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.empty((taken, parts, wanted, 2))
    matrix[:, 0, :, 0], matrix[:, 0, :, 1] = cosine, sine
    if parts == 2:
        matrix[:, 1, :, 0], matrix[:, 1, :, 1] = -sine, cosine
    return matrix.reshape(taken * parts, wanted * 2) / (length if inverse else 1)


def _by_table(
    node: Node,
    flat: RelaxExpr,
    taken: int,
    parts: int,
    wanted: int,
    *,
    length: int,
    inverse: bool,
    window: Array | None,
) -> RelaxExpr:
    """Return [lines, results * 2] as sums of as many products, over one turn of cosines and sines."""
    dtype, outer = node.dtype(0), int(flat.ty.shape.values[0])
    angle = np.arange(length) * ((2 if inverse else -2) * np.pi / length)
    factor = 1 / length if inverse else 1.0
    table = tensor((np.stack([np.cos(angle), np.sin(angle)]) * factor).astype(dtype))
    factors = tensor(np.ones(taken, dtype) if window is None else window[:taken].astype(dtype))

    def compute(values: Tensor, turn: Tensor, weights: Tensor) -> Tensor:
        k = te.reduce_axis((0, taken), name="k")

        def element(line: Var, at: Var) -> PrimExpr:
            place = tirx.floormod(k.astype("int64") * (at // 2).astype("int64"), tirx.const(length, "int64"))
            is_real = at % 2 == 0
            cosine, sine = turn[0, place], turn[1, place]
            total = values[line, k * parts] * tirx.Select(is_real, cosine, sine)
            if parts == 2:
                total = total + values[line, k * parts + 1] * tirx.Select(is_real, -sine, cosine)
            return te.sum(total * weights[k], axis=k)

        return te.compute((outer, wanted * 2), element, name="transform")

    return node.compute(compute, flat, table, factors, name="transform")


CONVERTERS: dict[str, Converter] = {"DFT": _dft, "STFT": _stft}
"""Operator -> its converter."""
