"""Operators that read elements at computed places: the gathers, OneHot, ReverseSequence, Trilu."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.operators.emitting import one_axis, reshaped
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm, constant
from crossfarm.backends.tvm.operators.serial import inside
from crossfarm.backends.tvm.passes.relax_utils import constant_array
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr, Tensor, Var


def _gather(node: Node) -> RelaxExpr | Sequence[RelaxExpr] | None:
    """Return a Gather at computed places, which stay inside of the axis; None, TVM's own, where they are known.

    Raises:
        UnsupportedForm: a known place is not on the axis.
    """
    places = node.input(1)
    if isinstance(places, relax.ShapeExpr) or isinstance(node.input(0), relax.ShapeExpr):
        return None
    shape = node.shape(0)
    axis = one_axis(int(node.attributes.get("axis", 0)), len(shape))
    extent, known = shape[axis], constant_array(places)
    if known is not None:
        if known.size and not -extent <= int(known.min()) <= int(known.max()) < extent:
            raise UnsupportedForm(f"it reads a place that is not on its axis of {extent} elements")
        return None
    if not extent:
        raise UnsupportedForm("it looks for a place on an axis without elements")
    dtype = node.dtype(1)
    wrapped = relax.op.add(places, constant(extent, dtype))
    counted = node.emit(relax.op.where(relax.op.less(places, constant(0, dtype)), wrapped, places))
    return relax.op.take(node.input(0), counted, axis, mode="clip")


def _gather_elements(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    data, wanted = node.shape(0), node.shape(1)
    axis = one_axis(int(node.attributes.get("axis", 0)), len(data))
    node.require_within(1, data, axis=axis)
    if not math.prod(wanted):
        return constant(np.zeros(wanted), node.dtype(0))

    def compute(values: Tensor, indices: Tensor) -> Tensor:
        return te.compute(
            wanted, lambda *at: values[(*at[:axis], inside(indices[at], data[axis]), *at[axis + 1 :])], name="gathered"
        )

    return node.compute(compute, node.input(0), node.input(1), name="gather_elements")


def _gather_nd(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    data, wanted = node.shape(0), node.shape(1)
    batch, depth = int(node.attributes.get("batch_dims", 0)), wanted[-1]
    if wanted[:batch] != data[:batch] or batch + depth > len(data):
        raise UnsupportedForm(f"indices of the shape {list(wanted)} do not fit data of the shape {list(data)}")
    shape = (*wanted[:-1], *data[batch + depth :])

    def compute(values: Tensor, indices: Tensor) -> Tensor:
        def element(*at: Var) -> PrimExpr:
            lead = at[: len(wanted) - 1]
            found = [inside(indices[(*lead, place)], data[batch + place]) for place in range(depth)]
            return values[(*lead[:batch], *found, *at[len(lead) : len(shape)])]

        # A tensor expression has at least one axis.
        return te.compute(shape or (1,), element if shape else lambda _: element(), name="gathered")

    return reshaped(node, node.compute(compute, node.input(0), node.input(1), name="gather_nd"), shape)


def _one_hot(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    depth = int(node.constant(1).reshape(-1)[0])
    indices = node.shape(0)
    if depth < 1:
        raise UnsupportedForm(f"its depth is {depth}")
    axis = one_axis(int(node.attributes.get("axis", -1)), len(indices) + 1)
    shape = (*indices[:axis], depth, *indices[axis:])

    def compute(places: Tensor, values: Tensor) -> Tensor:
        def element(*at: Var) -> PrimExpr:
            place = places[(*at[:axis], *at[axis + 1 :])] if indices else places[0]
            whole = place.astype("int64")
            # An index that is no place of the axis, also a negative one beyond it, marks nothing.
            wrapped = tirx.Select(whole < 0, whole + depth, whole)
            return tirx.Select(wrapped == at[axis].astype("int64"), values[1], values[0])

        return te.compute(shape, element, name="one_hot")

    places = node.input(0) if indices else reshaped(node, node.input(0), [1])
    return node.compute(compute, places, node.input(2), name="one_hot")


def _reverse_sequence(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    shape = node.shape(0)
    batch = one_axis(int(node.attributes.get("batch_axis", 1)), len(shape))
    time = one_axis(int(node.attributes.get("time_axis", 0)), len(shape))
    node.require(1, [shape[batch]])

    def compute(values: Tensor, lengths: Tensor) -> Tensor:
        def element(*at: Var) -> PrimExpr:
            length = lengths[at[batch]].astype("int32")
            bounded = tirx.max(tirx.min(length, shape[time]), 0)
            place = tirx.Select(at[time] < bounded, bounded - 1 - at[time], at[time])
            return values[(*at[:time], place, *at[time + 1 :])]

        return te.compute(shape, element, name="reversed")

    return node.compute(compute, node.input(0), node.input(1), name="reverse_sequence")


def _trilu(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    shape = node.shape(0)
    is_upper = bool(node.attributes.get("upper", 1))
    diagonal = constant_array(node.input(1)) if node.has(1) else None
    computed = node.input(1) if node.has(1) and diagonal is None else None
    offset = int(diagonal.reshape(-1)[0]) if diagonal is not None else 0

    def compute(values: Tensor, *diagonals: Tensor) -> Tensor:
        def element(*at: Var) -> PrimExpr:
            from_diagonal = at[-1].astype("int64") - at[-2].astype("int64")
            border = diagonals[0][0].astype("int64") if diagonals else tirx.const(offset, "int64")
            kept = from_diagonal >= border if is_upper else from_diagonal <= border
            return tirx.Select(kept, values[at], tirx.const(0, values.dtype))

        return te.compute(shape, element, name="triangle")

    more = [] if computed is None else [reshaped(node, computed, [1])]
    return node.compute(compute, node.input(0), *more, name="trilu")


CONVERTERS: dict[str, Converter] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "ReverseSequence": _reverse_sequence,
    "Trilu": _trilu,
}
"""Operator -> its converter."""
