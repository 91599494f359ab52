"""Unique with a stated largest count: the different parts of a tensor along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.bounded import DOMAIN, check_shape, when, within, zeroed
from crossfarm.backends.tvm.operators.node import Converter, Node
from crossfarm.backends.tvm.operators.serial import Row, run_loops, scalar
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr


def _unique(node: Node) -> Sequence[RelaxExpr]:
    """Return the different parts along an axis, where each comes first, which one each part is, how often, how many.

    `ranked` lists where each different part comes first, in ascending order of the parts, so that a part is found by
    bisection; `named` is, beside it, the number in the order of coming.
    """
    given, shape, dtype = node.shape(0), tuple(node.integers("shape", ())), node.dtype(0)
    axis, is_sorted = int(node.attributes["axis"]), bool(node.attributes.get("sorted", 1))
    check_shape(shape, [None if place == axis else extent for place, extent in enumerate(given)])
    extent, largest = given[axis], shape[axis]
    outer, inner = math.prod(given[:axis]), math.prod(given[axis + 1 :])

    def body(values: Row, valid: Row, *rows: Row) -> None:
        different, places, inverse, times, count, ranked, named, often = rows
        for row, extents, kind in (
            (different, shape, dtype),
            (places, (largest,), "int64"),
            (times, (largest,), "int64"),
        ):
            zeroed(row, extents, kind)
        zeroed(inverse, (extent,), "int64")
        found, limit, at, same = scalar("int32"), scalar("int32"), scalar("int32"), scalar("int32")
        found[0] = tirx.const(0, "int32")
        limit[0] = within(valid[0], extent)
        with T.serial(0, limit[0]) as part:
            _bisect(values, ranked, found, part, at=at, same=same, outer=outer, extent=extent, inner=inner)
            with T.If(same[0] > 0):
                with T.Then():
                    often[named[at[0]]] = often[named[at[0]]] + 1
                with T.Else():
                    with T.serial(0, found[0] - at[0]) as step:
                        ranked[found[0] - step] = ranked[found[0] - step - 1]
                        named[found[0] - step] = named[found[0] - step - 1]
                    ranked[at[0]] = part
                    named[at[0]] = found[0]
                    often[found[0]] = tirx.const(1, "int32")
                    found[0] = found[0] + 1
        with T.serial(0, found[0]) as rank:
            slot = rank if is_sorted else named[rank]
            with when(slot < largest):
                places[slot] = ranked[rank].astype("int64")
                times[slot] = often[named[rank]].astype("int64")
                with T.serial(0, outer) as row, T.serial(0, inner) as element:
                    source = (row * extent + ranked[rank]) * inner + element
                    different[(row * largest + slot) * inner + element] = values[source]
        with T.serial(0, limit[0]) as part:
            _bisect(values, ranked, found, part, at=at, same=same, outer=outer, extent=extent, inner=inner)
            inverse[part] = (at[0] if is_sorted else named[at[0]]).astype("int64")
        count[0] = found[0].astype("int64")

    row, scratch = ((largest,), "int64"), ((extent,), "int32")
    outputs = [(shape, dtype), row, ((extent,), "int64"), row, ((), "int64"), scratch, scratch, scratch]
    return run_loops(node, body, inputs=[node.input(0), node.input(1)], outputs=outputs, name="unique")[:5]


def _bisect(
    values: Row,
    ranked: Row,
    found: Row,
    part: PrimExpr,
    *,
    at: Row,
    same: Row,
    outer: int,
    extent: int,
    inner: int,
) -> None:
    """Write to `at` the first of the ranked parts that is not less than a part, and to `same` whether it is equal."""
    low, high, middle, order, element = (scalar("int32") for _ in range(5))
    low[0] = tirx.const(0, "int32")
    high[0] = found[0]
    same[0] = tirx.const(0, "int32")
    with T.While(low[0] < high[0]):
        middle[0] = (low[0] + high[0]) // 2
        order[0] = tirx.const(0, "int32")
        element[0] = tirx.const(0, "int32")
        with T.While(tirx.all(element[0] < outer * inner, order[0] == 0)):
            base = (element[0] // inner) * extent
            one = values[(base + ranked[middle[0]]) * inner + element[0] % inner]
            other = values[(base + part) * inner + element[0] % inner]
            less, more = tirx.const(-1, "int32"), tirx.const(1, "int32")
            order[0] = tirx.Select(one < other, less, tirx.Select(other < one, more, tirx.const(0, "int32")))
            element[0] = element[0] + 1
        with T.If(order[0] < 0):
            with T.Then():
                low[0] = middle[0] + 1
            with T.Else():
                high[0] = middle[0]
                with when(order[0] == 0):
                    same[0] = tirx.const(1, "int32")
    at[0] = low[0]


CONVERTERS: dict[str, Converter] = {f"{DOMAIN}.Unique": _unique}
"""Operator -> its converter."""
