"""What converters do with expressions while they emit them; constants stay constants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from crossfarm.backends.tvm.operators.node import Node, positive_axes, shape_of
from crossfarm.backends.tvm.passes.relax_utils import constant_array, dtype_of
from crossfarm.backends.tvm.types import Array, RelaxExpr


def optional(node: Node, number: int) -> RelaxExpr | None:
    """Return an input; None where it is left out."""
    return node.inputs[number] if node.has(number) else None


def one_axis(axis: int, rank: int) -> int:
    """Return an axis counted from the first; that of a scalar is 0.

    Raises:
        UnsupportedForm: there is no such axis.
    """
    return positive_axes([axis], max(rank, 1))[0]


def tensor(array: Array) -> RelaxExpr:
    """Return a constant of an array, in its dtype and shape."""
    return relax.const(np.ascontiguousarray(array).reshape(array.shape), str(array.dtype))


def reshaped(node: Node, expression: RelaxExpr, shape: Sequence[int]) -> RelaxExpr:
    """Return an expression with another shape."""
    array = constant_array(expression)
    if array is not None:
        return relax.const(np.ascontiguousarray(array).reshape(shape), dtype_of(expression))
    if shape_of(expression) == tuple(shape):
        return expression
    return node.emit(relax.op.reshape(expression, list(shape)))


def cast(node: Node, expression: RelaxExpr, dtype: str) -> RelaxExpr:
    """Return an expression in another dtype."""
    if dtype_of(expression) == dtype:
        return expression
    array = constant_array(expression)
    if array is not None:
        return tensor(array.astype(dtype))
    return node.emit(relax.op.astype(expression, dtype))


def permuted(node: Node, expression: RelaxExpr, axes: Sequence[int]) -> RelaxExpr:
    """Return an expression with its axes in another order."""
    array = constant_array(expression)
    if array is not None:
        return tensor(array.transpose(axes))
    if list(axes) == sorted(axes):
        return expression
    return node.emit(relax.op.permute_dims(expression, list(axes)))


def part(node: Node, expression: RelaxExpr, *, axis: int, begin: int, end: int) -> RelaxExpr:
    """Return the elements between two places of an axis."""
    array = constant_array(expression)
    if array is not None:
        return tensor(array[(slice(None),) * axis + (slice(begin, end),)])
    return node.emit(relax.op.strided_slice(expression, axes=[axis], begin=[begin], end=[end]))
