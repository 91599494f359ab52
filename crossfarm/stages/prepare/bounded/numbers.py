"""Numbers that are computed from true extents: shapes to make, how many to take, where to cut.

They are computed when the model runs, so that what is divided by a count is right. Where a compiler must know them,
they are computed here too, twice: with the largest counts, and with other ones, by which one sees what follows from
which count.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from crossfarm.stages.prepare.bounded.followers import follow, lowest_or_highest, masked
from crossfarm.stages.prepare.bounded.rules import shape_of
from crossfarm.stages.prepare.bounded.walk import STANDARD, Unfit, Walk, attribute, axis_of

if TYPE_CHECKING:
    import onnx

    Array = np.ndarray[Any, Any]

_MOST = 64
"""The most numbers of a tensor that is taken for one about shapes."""
_TARGETS = {"ConstantOfShape": 0, "Expand": 1, "Range": 1, "Reshape": 1, "Slice": 2, "TopK": 1}
"""Operator -> which of its inputs a compiler must know."""


def is_about_extents(walk: Walk, node: onnx.NodeProto) -> bool:
    """Say whether a node reads true extents, or makes something whose extents follow from them."""
    if node.domain not in STANDARD:
        return False
    if node.op_type == "Shape":
        return bool(walk.counts_of(node.input[0]))
    place = _TARGETS.get(node.op_type)
    return place is not None and len(node.input) > place and node.input[place] in walk.numbers


def take(walk: Walk, node: onnx.NodeProto) -> None:
    """Add what stands in place of a node that `is_about_extents`.

    Raises:
        Unfit: it uses them in a way that no fixed shape can follow.
    """
    counts = _MAKERS[node.op_type](walk, node)
    if counts:
        walk.counts[node.output[0]] = counts


def note_numbers(walk: Walk, node: onnx.NodeProto) -> None:
    """Compute the outputs of a node that was added, where its inputs are such numbers and constants."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    given = [name for name in node.input if name]
    if not any(name in walk.numbers for name in given):
        return
    if not all(name in walk.numbers or _is_small(walk.array(name)) for name in given):
        return
    graph = onnx.helper.make_graph(
        [node],
        "numbers",
        [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(given)],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=walk.opsets)
    results = []
    for which in (0, 1):
        values = {name: walk.numbers[name][which] if name in walk.numbers else walk.array(name) for name in given}
        try:
            results.append(ReferenceEvaluator(model).run(None, values))
        except Exception:  # its errors share no base class; what it cannot compute is not known beforehand
            return
    for name, full, other in zip(filter(None, node.output), *results, strict=True):
        if np.size(full) <= _MOST:
            walk.numbers[name] = (np.asarray(full), np.asarray(other))


def _is_small(array: Array | None) -> bool:
    return array is not None and array.size <= _MOST


def _shape(walk: Walk, node: onnx.NodeProto) -> dict[int, str]:
    """Give the true extents of a tensor."""
    shape, counts = shape_of(walk, node.input[0]), walk.counts_of(node.input[0])
    rank = len(shape)
    start = int(attribute(node, "start", 0))
    end = int(attribute(node, "end", rank))
    axes = range(rank)[slice(start, end)]
    one = walk.constant([1])
    parts = [
        walk.add("Reshape", counts[axis], one) if axis in counts else walk.constant([shape[axis]]) for axis in axes
    ]
    walk.add("Concat", *parts, gives=node.output[0], axis=0)
    other = [walk.probe(counts[axis]) if axis in counts else shape[axis] for axis in axes]
    walk.numbers[node.output[0]] = (np.array([shape[axis] for axis in axes]), np.array(other))
    return {}


def _resolved(target: Array, before: tuple[int, ...]) -> list[int]:
    """Return the shape that a Reshape makes."""
    wanted = [before[place] if extent == 0 else int(extent) for place, extent in enumerate(target.reshape(-1))]
    if -1 in wanted:
        rest = -math.prod(wanted)
        wanted[wanted.index(-1)] = math.prod(before) // rest if rest else 0
    return wanted


def _reshape(walk: Walk, node: onnx.NodeProto) -> dict[int, str]:
    """State all extents but the one that follows from a count, which the rule of Reshape then finds."""
    full, other = walk.numbers[node.input[1]]
    before, counts = shape_of(walk, node.input[0]), walk.counts_of(node.input[0])
    if not counts or attribute(node, "allowzero", 0):
        raise Unfit("it makes a shape that depends on data of a tensor that does not")
    before_other = tuple(walk.probe(counts[axis]) if axis in counts else extent for axis, extent in enumerate(before))
    made, made_other = _resolved(full, before), _resolved(other, before_other)
    differ = [place for place, extent in enumerate(made) if extent != made_other[place]]
    if len(differ) != 1 or math.prod(made) != math.prod(before) or math.prod(made_other) != math.prod(before_other):
        raise Unfit(f"of the shape {made} that it makes not exactly one extent depends on data")
    node.input[1] = walk.constant([-1 if place in differ else extent for place, extent in enumerate(made)])
    follow(walk, node)
    return dict(walk.counts_of(node.output[0]))


def _made(walk: Walk, full: Array, other: Array) -> dict[int, str]:
    """Return the counts of the axes of a shape."""
    found = {}
    for place, (extent, second) in enumerate(zip(full.reshape(-1), other.reshape(-1), strict=True)):
        if extent != second:
            found[place] = walk.count_of_probe(int(second), int(extent))
    return found


def _as_count(walk: Walk, name: str) -> str:
    """Return a number as a count: the one that it is, if it is one."""
    import onnx

    full, other = walk.numbers[name]
    if full.item() != other.item():
        try:
            return walk.count_of_probe(int(other.item()), int(full.item()))
        except Unfit:
            pass  # it is less than a count, for instance
    whole = walk.add("Cast", name, to=onnx.TensorProto.INT64)
    return walk.add("Reshape", whole, walk.constant(np.zeros(0)))


def _constant_of_shape(walk: Walk, node: onnx.NodeProto) -> dict[int, str]:
    full, other = walk.numbers[node.input[0]]
    counts = _made(walk, full, other)
    node.input[0] = walk.constant(full)
    walk.keep(node)
    return counts


def _expand(walk: Walk, node: onnx.NodeProto) -> dict[int, str]:
    full, other = walk.numbers[node.input[1]]
    shape, counts = shape_of(walk, node.input[0]), walk.counts_of(node.input[0])
    rank = max(len(shape), full.size)
    found = {place + rank - full.size: count for place, count in _made(walk, full, other).items()}
    for axis, extent in enumerate(shape):
        place = axis + rank - len(shape)
        own = counts.get(axis)
        if own is not None and found.setdefault(place, own) != own:
            raise Unfit("it makes another number of places of those that count")
        if own is None and place in found and extent != 1:
            raise Unfit(f"it repeats {extent} places as often as depends on data")
    node.input[1] = walk.constant(full)
    walk.keep(node)
    return found


def _range(walk: Walk, node: onnx.NodeProto) -> dict[int, str]:
    full, _ = walk.numbers[node.input[1]]
    start, step = walk.array(node.input[0]), walk.array(node.input[2])
    if start is None or step is None or start.item() != 0 or step.item() != 1:
        raise Unfit("it counts from another number than 0, or in other steps than 1")
    count = _as_count(walk, node.input[1])
    walk.add("Identity", walk.constant(np.arange(full.item(), dtype=full.dtype), full.dtype), gives=node.output[0])
    return {0: count}


def _top_k(walk: Walk, node: onnx.NodeProto) -> dict[int, str]:
    full, _ = walk.numbers[node.input[1]]
    name, shape = node.input[0], shape_of(walk, node.input[0])
    axis = axis_of(int(attribute(node, "axis", -1)), len(shape))
    if not attribute(node, "sorted", 1):
        raise Unfit("its results are in no order, so that the best of fewer are not the first ones")
    count = _as_count(walk, node.input[1])
    counts = dict(walk.counts_of(name))
    if axis in counts:
        best = lowest_or_highest(bool(attribute(node, "largest", 1)))
        node.input[0] = masked(walk, name, axis, counts.pop(axis), best)
    node.input[1] = walk.constant([min(int(full.item()), shape[axis])])
    counts[axis] = count
    walk.keep(node)
    for output in filter(None, node.output):
        walk.counts[output] = dict(counts)
    return counts


def _slice(walk: Walk, node: onnx.NodeProto) -> dict[int, str]:
    """Cut at a count: from 0, in steps of 1."""
    full, other = walk.numbers[node.input[2]]
    shape, counts = shape_of(walk, node.input[0]), dict(walk.counts_of(node.input[0]))
    starts = walk.array(node.input[1])
    axes = walk.array(node.input[3]) if len(node.input) > 3 and node.input[3] else np.arange(full.size)
    steps = walk.array(node.input[4]) if len(node.input) > 4 and node.input[4] else np.ones(full.size)
    if starts is None or axes is None or steps is None or (starts != 0).any() or (steps != 1).any() or (full < 0).any():
        raise Unfit("it cuts from another place than the first, or in other steps than 1")
    for number, axis in enumerate(axes.reshape(-1)):
        place = axis_of(int(axis), len(shape))
        end = walk.constant(min(int(full.reshape(-1)[number]), 2**31 - 1))
        if full.reshape(-1)[number] != other.reshape(-1)[number]:
            end = walk.add("Gather", node.input[2], walk.constant(number))
        elif place not in counts:
            continue
        counts[place] = walk.add("Min", counts.get(place) or walk.constant(shape[place]), end)
    node.input[2] = walk.constant(full)
    walk.keep(node)
    return counts


_MAKERS = {
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "TopK": _top_k,
}
