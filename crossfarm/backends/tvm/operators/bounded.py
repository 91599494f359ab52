"""Operators whose result's extent depends on data, with the largest one stated: NonMaxSuppression, NonZero, Compress.

The stage `prepare` puts them in place of ONNX's. Each fills its result up with zeros, or cuts it, and gives the true
count behind it. `valid` says how many places of an input count, where it is the result of such an operator itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

from tvm import tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.operators.serial import Row, run_loops, scalar, unravel
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr

DOMAIN = "crossfarm"
"""Of the private operators; `crossfarm.stages.prepare.bounded.functions` says what each computes."""


@contextlib.contextmanager
def when(condition: PrimExpr) -> Iterator[None]:
    """Write statements that run under a condition."""
    with T.If(condition), T.Then():
        yield


def zeroed(row: Row, shape: Sequence[int], dtype: str) -> None:
    """Write zeros to all elements of an output."""
    with T.serial(0, math.prod(shape)) as place:
        row[place] = tirx.const(0, dtype)


def within(count: PrimExpr, extent: int) -> PrimExpr:
    """Return a count as int32 between 0 and an extent: it is read from a tensor, and may be any number."""
    most = tirx.const(extent, "int64")
    return tirx.max(tirx.min(count.astype("int64"), most), tirx.const(0, "int64")).astype("int32")


def check_shape(shape: Sequence[int], wanted: Sequence[int | None]) -> None:
    """See that the stated shape of a result is one that a kernel counts on; None stands for any extent.

    Raises:
        UnsupportedForm: it is another one.
    """
    fits = len(shape) == len(wanted) and all(
        extent > 0 if want is None else extent == want for extent, want in zip(shape, wanted, strict=True)
    )
    if not fits:
        raise UnsupportedForm(f"the stated shape {list(shape)} does not fit its inputs")


def is_on(value: PrimExpr, dtype: str) -> PrimExpr:
    """Say whether a value is not 0; NaN is not."""
    return value.astype("int32") != 0 if dtype == "bool" else value != tirx.const(0, dtype)


def _non_max_suppression(node: Node) -> Sequence[RelaxExpr]:
    """Return (batch, class, box) of the boxes that no better one covers, class by class, best first.

    As ONNX Runtime has it: the best candidate left is taken, the one that comes first among equals, and every candidate
    that it covers by more than the threshold drops out; a score at the threshold is none. `left` lists the candidates
    in order, so that a pass over it finds the covered ones and the next best.
    """
    batches, boxes, four = node.shape(0)
    classes = node.shape(1)[1]
    node.require(1, (batches, classes, boxes))
    dtype, shape = node.dtype(0), tuple(node.integers("shape", ()))
    check_shape(shape, (None, 3))
    if four != 4 or dtype not in ("float32", "float64", "float16"):
        raise UnsupportedForm(f"its boxes are {dtype} of the shape {list(node.shape(0))}")
    is_centred, largest = bool(node.attributes.get("center_point_box", 0)), shape[0]
    given = [number for number in range(6) if number < 2 or node.has(number)]
    position = {number: place for place, number in enumerate(given)}

    def number(rows: Sequence[Row], which: int, default: float, kind: str) -> PrimExpr:
        return rows[position[which]][0] if which in position else tirx.const(default, kind)

    def body(*rows: Row) -> None:
        selected, count, left = rows[-3:]
        corners, scores = rows[0], rows[1]
        zeroed(selected, shape, "int64")
        valid, most, found = scalar("int32"), scalar("int64"), scalar("int64")
        valid[0] = within(number(rows, 5, boxes, "int64"), boxes)
        most[0] = number(rows, 2, 0, "int64").astype("int64")
        found[0] = tirx.const(0, "int64")
        overlap = number(rows, 3, 0.0, dtype).astype(dtype)
        with T.serial(0, batches * classes) as line:
            length, best, taken = scalar("int32"), scalar("int32"), scalar("int64")
            taken[0] = tirx.const(0, "int64")
            base, owner = line * boxes, (line // classes) * boxes
            threshold = rows[position[4]][0].astype(dtype) if 4 in position else None
            _candidates(scores, base, left, length, best, valid=valid[0], threshold=threshold)
            with T.While(tirx.all(length[0] > 0, taken[0] < most[0])):
                with when(found[0] < tirx.const(largest, "int64")):
                    for column, value in enumerate((line // classes, line % classes, best[0])):
                        selected[found[0].astype("int32") * 3 + column] = value.astype("int64")
                for counter in (found, taken):
                    counter[0] = counter[0] + tirx.const(1, "int64")
                kept, after = scalar("int32"), scalar("int32")
                kept[0] = tirx.const(0, "int32")
                after[0] = tirx.const(-1, "int32")
                with T.serial(0, length[0]) as place:
                    box, drops = scalar("int32"), scalar("int32")
                    box[0] = left[place]
                    first, second = (owner + best[0]) * 4, (owner + box[0]) * 4
                    drops[0] = tirx.const(1, "int32")
                    with when(box[0] != best[0]):
                        _covers(corners, first, second, overlap, drops, dtype=dtype, is_centred=is_centred)
                    with when(drops[0] == 0):
                        left[kept[0]] = box[0]
                        kept[0] = kept[0] + 1
                        _keep_better(scores, base, after, box[0])
                length[0] = kept[0]
                best[0] = after[0]
        count[0] = found[0]

    outputs = [(shape, "int64"), ((), "int64"), ((max(boxes, 1),), "int32")]
    inputs = [node.input(each) for each in given]
    return run_loops(node, body, inputs=inputs, outputs=outputs, name="non_max_suppression")[:2]


def _candidates(
    scores: Row, base: PrimExpr, left: Row, length: Row, best: Row, *, valid: PrimExpr, threshold: PrimExpr | None
) -> None:
    """Write to `left` the boxes whose score is above the threshold, how many to `length`, and the best to `best`."""
    length[0] = tirx.const(0, "int32")
    best[0] = tirx.const(-1, "int32")
    every = tirx.const(True, "bool")
    with T.serial(0, valid) as box, when(every if threshold is None else scores[base + box] > threshold):
        left[length[0]] = box
        length[0] = length[0] + 1
        _keep_better(scores, base, best, box)


def _keep_better(scores: Row, base: PrimExpr, best: Row, box: PrimExpr) -> None:
    """Note a box in `best` when its score is higher than that of the one there; -1 is none."""
    holds = scalar("int32")
    holds[0] = tirx.const(0, "int32")
    with when(best[0] >= 0), when(tirx.Not(scores[base + box] > scores[base + best[0]])):
        holds[0] = tirx.const(1, "int32")
    with when(holds[0] == 0):
        best[0] = box


def _covers(
    corners: Row, first: PrimExpr, second: PrimExpr, overlap: PrimExpr, result: Row, *, dtype: str, is_centred: bool
) -> None:
    """Write 1 when the intersection of two boxes is more than a share of their union, else 0; as ONNX Runtime does."""
    edges = []
    for base in (first, second):
        lows, highs = [], []
        for axis in (0, 1):
            low, high = scalar(dtype), scalar(dtype)
            if is_centred:
                half = corners[base + 2 + axis] / tirx.const(2, dtype)
                low[0], high[0] = corners[base + axis] - half, corners[base + axis] + half
            else:
                one, other = corners[base + axis], corners[base + 2 + axis]
                low[0] = tirx.Select(one >= other, other, one)
                high[0] = tirx.Select(one >= other, one, other)
            lows.append(low)
            highs.append(high)
        edges.append((lows, highs))
    sides = []
    for axis in (0, 1):
        side = scalar(dtype)
        upper = tirx.min(edges[0][1][axis][0], edges[1][1][axis][0])
        side[0] = upper - tirx.max(edges[0][0][axis][0], edges[1][0][axis][0])
        sides.append(side)
    zero = tirx.const(0, dtype)
    areas = [(highs[0][0] - lows[0][0]) * (highs[1][0] - lows[1][0]) for lows, highs in edges]
    shared, whole = scalar(dtype), scalar(dtype)
    # The axis across comes first in ONNX Runtime's products; the order of two factors changes nothing.
    shared[0] = sides[0][0] * sides[1][0]
    whole[0] = areas[0] + areas[1] - shared[0]
    result[0] = tirx.const(0, "int32")
    exists = tirx.all(sides[0][0] > zero, sides[1][0] > zero, shared[0] > zero)
    is_any = tirx.all(exists, areas[0] > zero, areas[1] > zero, whole[0] > zero)
    with when(is_any), when(shared[0] / whole[0] > overlap):
        result[0] = tirx.const(1, "int32")


def _non_zero(node: Node) -> Sequence[RelaxExpr]:
    """Return where a tensor is not 0, a column for each place, in the order of memory."""
    given, shape, dtype = node.shape(0), tuple(node.integers("shape", ())), node.dtype(0)
    check_shape(shape, (len(given), None))
    along, largest = int(node.attributes.get("along", 0)), shape[1]

    def body(values: Row, valid: Row, places: Row, count: Row) -> None:
        zeroed(places, shape, "int64")
        found, limit = scalar("int32"), scalar("int32")
        found[0] = tirx.const(0, "int32")
        limit[0] = within(valid[0], given[along])
        with T.serial(0, math.prod(given)) as flat:
            at = unravel(flat, given)
            with when(tirx.all(is_on(values[flat], dtype), at[along] < limit[0])):
                with when(found[0] < largest):
                    for axis, index in enumerate(at):
                        places[found[0] + axis * largest] = index.astype("int64")
                found[0] = found[0] + 1
        count[0] = found[0].astype("int64")

    inputs = [node.input(0), node.input(1)]
    return run_loops(node, body, inputs=inputs, outputs=[(shape, "int64"), ((), "int64")], name="non_zero")


def _compress(node: Node) -> Sequence[RelaxExpr]:
    """Return the parts along an axis for which a condition holds."""
    given, shape, dtype = node.shape(0), tuple(node.integers("shape", ())), node.dtype(0)
    axis = int(node.attributes["axis"])
    check_shape(shape, [None if place == axis else extent for place, extent in enumerate(given)])
    extent, largest = min(given[axis], node.shape(1)[0]), shape[axis]
    outer, inner = math.prod(given[:axis]), math.prod(given[axis + 1 :])

    def body(values: Row, condition: Row, valid: Row, kept: Row, count: Row) -> None:
        zeroed(kept, shape, dtype)
        found, limit = scalar("int32"), scalar("int32")
        found[0] = tirx.const(0, "int32")
        limit[0] = within(valid[0], extent)
        with T.serial(0, limit[0]) as place, when(is_on(condition[place], "bool")):
            with when(found[0] < largest), T.serial(0, outer) as row, T.serial(0, inner) as element:
                source = (row * given[axis] + place) * inner + element
                kept[(row * largest + found[0]) * inner + element] = values[source]
            found[0] = found[0] + 1
        count[0] = found[0].astype("int64")

    inputs = [node.input(0), node.input(1), node.input(2)]
    return run_loops(node, body, inputs=inputs, outputs=[(shape, dtype), ((), "int64")], name="compress")


CONVERTERS: dict[str, Converter] = {
    f"{DOMAIN}.Compress": _compress,
    f"{DOMAIN}.NonMaxSuppression": _non_max_suppression,
    f"{DOMAIN}.NonZero": _non_zero,
}
"""Operator -> its converter."""
