"""Operators that compare the elements of a row: TopK, ArgMax, ArgMin."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.emitting import one_axis
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.operators.serial import Row, run_loops, scalar
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr


def _top_k(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    """Return the best elements along an axis, sorted, and where they stand; of equals the first comes first.

    A sorted list of the best is kept: an element that beats the last one is moved up to its place. So one pass over
    the elements is enough, and most of them are only compared with the last of the list.
    """
    shape, dtype, attributes = node.shape(0), node.dtype(0), node.attributes
    axis = one_axis(int(attributes.get("axis", -1)), len(shape))
    wanted = int(attributes["k"]) if "k" in attributes else int(node.constant(1).reshape(-1)[0])
    if not 1 <= wanted <= shape[axis]:
        raise UnsupportedForm(f"it asks for the best {wanted} of {shape[axis]} elements")
    largest = bool(attributes.get("largest", 1))
    outer, extent, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    made = (*shape[:axis], wanted, *shape[axis + 1 :])

    def better(one: PrimExpr, other: PrimExpr) -> PrimExpr:
        return one > other if largest else one < other

    def body(values: Row, best: Row, places: Row) -> None:
        with T.serial(0, outer * inner) as line:
            source = (line // inner) * (extent * inner) + line % inner
            target = (line // inner) * (wanted * inner) + line % inner
            value, slot, goes_on = scalar(dtype), scalar("int32"), scalar("int32")
            with T.serial(0, extent) as step:
                value[0] = values[source + step * inner]
                last = target + (wanted - 1) * inner
                with T.If(tirx.any(step < wanted, better(value[0], best[last]))), T.Then():
                    slot[0] = tirx.min(step, wanted - 1)
                    goes_on[0] = tirx.const(1, "int32")
                    with T.While(tirx.all(slot[0] > 0, goes_on[0] > 0)):
                        before = target + (slot[0] - 1) * inner
                        with T.If(better(value[0], best[before])):
                            with T.Then():
                                best[before + inner] = best[before]
                                places[before + inner] = places[before]
                                slot[0] = slot[0] - 1
                            with T.Else():
                                goes_on[0] = tirx.const(0, "int32")
                    best[target + slot[0] * inner] = value[0]
                    places[target + slot[0] * inner] = step.astype("int64")

    return run_loops(node, body, inputs=[node.input(0)], outputs=[(made, dtype), (made, "int64")])


def _arg(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    """Return where the largest or smallest element along an axis stands; of equals the first, or the last."""
    shape, dtype, attributes = node.shape(0), node.dtype(0), node.attributes
    axis = one_axis(int(attributes.get("axis", 0)), len(shape))
    keeps, takes_last = bool(attributes.get("keepdims", 1)), bool(attributes.get("select_last_index", 0))
    outer, extent, inner = math.prod(shape[:axis]), shape[axis] if shape else 1, math.prod(shape[axis + 1 :])
    is_max = node.operator == "ArgMax"
    if extent < 1:
        raise UnsupportedForm("it looks for an extreme of no elements")

    def wins(new: PrimExpr, old: PrimExpr) -> PrimExpr:
        if takes_last:
            return new >= old if is_max else new <= old
        return new > old if is_max else new < old

    def body(values: Row, result: Row) -> None:
        with T.serial(0, outer * inner) as line:
            base = (line // inner) * (extent * inner) + line % inner
            best, place = scalar(dtype), scalar("int32")
            best[0] = values[base]
            place[0] = tirx.const(0, "int32")
            with T.serial(0, extent - 1) as step, T.If(wins(values[base + (step + 1) * inner], best[0])), T.Then():
                best[0] = values[base + (step + 1) * inner]
                place[0] = step + 1
            result[line] = place[0].astype("int64")

    made = (*shape[:axis], *((1,) if keeps and shape else ()), *shape[axis + 1 :])
    return run_loops(node, body, inputs=[node.input(0)], outputs=[(made, "int64")])


CONVERTERS: dict[str, Converter] = {
    "ArgMax": _arg,
    "ArgMin": _arg,
    "TopK": _top_k,
}
"""Operator -> its converter."""
