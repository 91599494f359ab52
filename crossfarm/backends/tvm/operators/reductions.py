"""Reductions: their axes as attribute or as input, negative, none at all, and over tensors without elements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from tvm import relax

from crossfarm.backends.tvm.operators.node import Converter, Node, constant, is_float, positive_axes
from crossfarm.backends.tvm.types import RelaxExpr

_Reduce = Callable[[Node, RelaxExpr, list[int], bool], RelaxExpr]
"""From node, value, axes counted from the first, and whether reduced axes stay as 1."""


def _axes(node: Node) -> list[int] | None:
    """Return the axes to reduce; None when the value is handed on as it is."""
    rank = len(node.shape(0))
    given = node.optional_constant(1)
    axes = [int(axis) for axis in given.reshape(-1)] if given is not None else node.integers("axes", ())
    if axes:
        return sorted(positive_axes(axes, rank))
    return None if node.attributes.get("noop_with_empty_axes", 0) else list(range(rank))


def _reduction(reduce: _Reduce, *, alone: Callable[[Node], RelaxExpr] | None = None) -> Converter:
    """Return the converter of a reduction.

    Args:
        reduce: computes it.
        alone: what becomes of an element when no axis is reduced; as it is, when None.
    """

    def convert(node: Node) -> RelaxExpr:
        axes = _axes(node)
        keep = bool(node.attributes.get("keepdims", 1))
        if axes is None or not node.shape(0):
            return alone(node) if alone is not None else node.input(0)
        return reduce(node, node.input(0), axes, keep)

    return convert


def _is_empty(node: Node) -> bool:
    return 0 in node.shape(0)


def _filled(node: Node, axes: list[int], keep: bool, number: float) -> RelaxExpr:
    """Return what a reduction of no elements gives: its neutral element."""
    extents = node.shape(0)
    shape = [1 if axis in axes else extent for axis, extent in enumerate(extents) if keep or axis not in axes]
    return constant(np.full(shape, number), node.dtype(0))


def _plain(operator: Callable[..., RelaxExpr], neutral: Callable[[str], float]) -> _Reduce:
    def reduce(node: Node, value: RelaxExpr, axes: list[int], keep: bool) -> RelaxExpr:
        if _is_empty(node):
            return _filled(node, axes, keep, neutral(node.dtype(0)))
        if node.dtype(0) == "bool":
            # No target has maxima and minima of truth values.
            return relax.op.astype(operator(relax.op.astype(value, "uint8"), axes, keep), "bool")
        return operator(value, axes, keep)

    return reduce


def _smallest(dtype: str) -> float:
    if is_float(dtype):
        return -math.inf
    return 0 if dtype.startswith("uint") or dtype == "bool" else -(2 ** (int(dtype.removeprefix("int")) - 1))


def _largest(dtype: str) -> float:
    if is_float(dtype):
        return math.inf
    if dtype == "bool":
        return 1
    bits = int(dtype.lstrip("uint"))
    return float(2**bits - 1 if dtype.startswith("uint") else 2 ** (bits - 1) - 1)


def _sum_of(before: Callable[[RelaxExpr], RelaxExpr], behind: Callable[[RelaxExpr], RelaxExpr]) -> _Reduce:
    def reduce(node: Node, value: RelaxExpr, axes: list[int], keep: bool) -> RelaxExpr:
        if _is_empty(node):
            return behind(_filled(node, axes, keep, 0))
        return behind(node.emit(relax.op.sum(node.emit(before(value)), axes, keep)))

    return reduce


def _same(value: RelaxExpr) -> RelaxExpr:
    return value


def _root(value: RelaxExpr) -> RelaxExpr:
    """Return the square root; of integers that of their float64, cut off, as ONNX's reference has it."""
    dtype = str(value.ty.dtype)
    if is_float(dtype):
        return relax.op.sqrt(value)
    return relax.op.astype(relax.op.sqrt(relax.op.astype(value, "float64")), dtype)


def _log(value: RelaxExpr) -> RelaxExpr:
    dtype = str(value.ty.dtype)
    if is_float(dtype):
        return relax.op.log(value)
    return relax.op.astype(relax.op.log(relax.op.astype(value, "float64")), dtype)


def _square(value: RelaxExpr) -> RelaxExpr:
    return relax.op.multiply(value, value)


def _mean(node: Node, value: RelaxExpr, axes: list[int], keep: bool) -> RelaxExpr:
    if _is_empty(node):
        return _filled(node, axes, keep, math.nan)
    if is_float(node.dtype(0)):
        return relax.op.mean(value, axes, keep)
    count = math.prod(node.shape(0)[axis] for axis in axes)
    return relax.op.divide(relax.op.sum(value, axes, keep), constant(count, node.dtype(0)))


def _log_sum_exp(node: Node, value: RelaxExpr, axes: list[int], keep: bool) -> RelaxExpr:
    """Return log(sum(exp(x - m))) + m; m, the largest x or 0 where that is infinite, keeps the sum in range."""
    dtype = node.dtype(0)
    if _is_empty(node):
        return _filled(node, axes, keep, -math.inf)
    if not is_float(dtype):
        widened = _with_first(node, relax.op.astype(value, "float64"))
        return relax.op.astype(_log_sum_exp(widened, widened.input(0), axes, keep), dtype)
    largest = node.emit(relax.op.max(value, axes, True))
    finite = node.emit(relax.op.where(relax.op.isfinite(largest), largest, constant(0, dtype)))
    total = node.emit(relax.op.sum(relax.op.exp(relax.op.subtract(value, finite)), axes, keep))
    shape = [int(extent) for extent in total.ty.shape.values]
    return relax.op.add(relax.op.log(total), relax.op.reshape(finite, shape))


def _with_first(node: Node, value: RelaxExpr) -> Node:
    """Return a node whose first input is another value."""
    return dataclasses.replace(node, inputs=(node.emit(value), *node.inputs[1:]))


CONVERTERS: dict[str, Converter] = {
    "ReduceL1": _reduction(_sum_of(relax.op.abs, _same), alone=lambda node: relax.op.abs(node.input(0))),
    "ReduceL2": _reduction(_sum_of(_square, _root), alone=lambda node: relax.op.abs(node.input(0))),
    "ReduceLogSum": _reduction(_sum_of(_same, _log), alone=lambda node: _log(node.input(0))),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceMax": _reduction(_plain(relax.op.max, _smallest)),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(_plain(relax.op.min, _largest)),
    "ReduceProd": _reduction(_plain(relax.op.prod, lambda dtype: 1)),
    "ReduceSum": _reduction(_plain(relax.op.sum, lambda dtype: 0)),
    "ReduceSumSquare": _reduction(_sum_of(_square, _same), alone=lambda node: _square(node.input(0))),
}
"""Operator -> its converter."""
