"""Operators that move, cut and repeat: the forms that TVM's importer does not take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import helper
from tvm import relax, te, tirx

from crossfarm.backends.tvm.operators.node import (
    Converter,
    Node,
    UnsupportedForm,
    constant,
    is_float,
    positive_axes,
)
from crossfarm.backends.tvm.types import RelaxExpr


def _dropout(node: Node) -> Sequence[RelaxExpr]:
    """Return a Dropout of inference, which keeps everything, with its mask."""
    if node.has(2) and bool(node.constant(2)):
        ratio = node.optional_constant(1)
        if ratio is None or float(ratio) != 0:
            raise UnsupportedForm("training_mode is on, which draws random numbers")
    value = node.input(0)
    kind = "bool" if node.opset >= 10 else node.dtype(0)
    mask = relax.op.full(node.shape(0), constant(1, kind), kind)
    return [value, mask] if len(node.outputs) > 1 else [value]


def _squeeze(node: Node) -> RelaxExpr:
    shape = node.shape(0)
    given = node.optional_constant(1)
    axes = [int(axis) for axis in given.reshape(-1)] if given is not None else node.integers("axes", ())
    if given is None and "axes" not in node.attributes:
        axes = [axis for axis, extent in enumerate(shape) if extent == 1]
    return relax.op.squeeze(node.input(0), positive_axes(axes, len(shape)))


def _split(node: Node) -> Sequence[RelaxExpr]:
    """Return the parts of a tensor, each a slice; one may be empty."""
    shape = node.shape(0)
    axis = positive_axes([node.attributes.get("axis", 0)], len(shape))[0]
    given = node.optional_constant(1)
    sizes = [int(size) for size in given.reshape(-1)] if given is not None else node.integers("split", ())
    if not sizes:
        count = len(node.outputs)
        size = -(-shape[axis] // count)
        sizes = [max(0, min(size, shape[axis] - size * part)) for part in range(count)]
    parts, start = [], 0
    for size in sizes:
        extents = [size if place == axis else extent for place, extent in enumerate(shape)]
        if 0 in extents:
            parts.append(constant(np.zeros(extents), node.dtype(0)))
        elif len(sizes) == 1:
            parts.append(node.input(0))
        else:
            parts.append(relax.op.strided_slice(node.input(0), [axis], [start], [start + size], [1]))
        start += size
    return parts


def _split_or_none(node: Node) -> Sequence[RelaxExpr] | None:
    """Leave a Split into equal parts that are not empty to TVM."""
    given = node.optional_constant(1)
    sizes = [int(size) for size in given.reshape(-1)] if given is not None else node.integers("split", ())
    axis = positive_axes([node.attributes.get("axis", 0)], len(node.shape(0)))[0]
    extent = node.shape(0)[axis]
    even = not sizes and extent and extent % len(node.outputs) == 0
    if 0 not in node.shape(0) and (even or (sizes and min(sizes) > 0)) and len(node.outputs) > 1:
        return None
    return _split(node)


def _eye_like(node: Node) -> RelaxExpr:
    rows, columns = node.shape(0)
    kind = node.attributes.get("dtype")
    dtype = node.dtype(0) if kind is None else str(helper.tensor_dtype_to_np_dtype(kind).name)
    return constant(np.eye(rows, columns, node.attributes.get("k", 0)), dtype)


def _bit_cast(node: Node) -> RelaxExpr:
    """Return the bits of a tensor as numbers of another dtype of the same width."""
    dtype = str(helper.tensor_dtype_to_np_dtype(node.attributes["to"]).name)
    if dtype == node.dtype(0):
        return node.input(0)
    if _width(dtype) != _width(node.dtype(0)):
        raise UnsupportedForm(f"{node.dtype(0)} and {dtype} differ in width")

    def compute(value: te.Tensor) -> te.Tensor:
        if dtype == "bool":
            return te.compute(value.shape, lambda *place: value(*place) != tirx.const(0, value.dtype))
        if value.dtype == "bool":
            return te.compute(value.shape, lambda *place: tirx.Cast(dtype, value(*place)))
        return te.compute(value.shape, lambda *place: tirx.reinterpret(dtype, value(*place)))

    return node.compute(compute, node.input(0), name="bit_cast")


def _width(dtype: str) -> int:
    return 8 if dtype == "bool" else int("".join(letter for letter in dtype if letter.isdigit()))


def _reshape(node: Node) -> RelaxExpr | None:
    """Return a Reshape of a tensor without elements; None for any other."""
    shape = node.shape(0)
    if 0 not in shape:
        return None
    wanted = [int(extent) for extent in node.constant(1).reshape(-1)]
    keep_zero = bool(node.attributes.get("allowzero", 0))
    extents = [shape[place] if extent == 0 and not keep_zero else extent for place, extent in enumerate(wanted)]
    extents = [0 if extent < 0 else extent for extent in extents]
    return constant(np.zeros(extents), node.dtype(0))


def _pow(node: Node) -> RelaxExpr | None:
    """Return a Pow whose two types differ, or of integers, which are multiplied as float64; None for floats alike."""
    base, exponent = node.dtype(0), node.dtype(1)
    if base == exponent and is_float(base):
        return None
    if is_float(base):
        return relax.op.power(node.input(0), node.emit(relax.op.astype(node.input(1), base)))
    values = [node.emit(relax.op.astype(node.input(number), "float64")) for number in (0, 1)]
    return relax.op.astype(node.emit(relax.op.power(*values)), base)


CONVERTERS: dict[str, Converter] = {
    "BitCast": _bit_cast,
    "Dropout": _dropout,
    "EyeLike": _eye_like,
    "Identity": lambda node: node.input(0),
    "Pow": _pow,
    "Reshape": _reshape,
    "Split": _split_or_none,
    "Squeeze": _squeeze,
}
"""Operator -> its converter."""
