"""Rules of operators that move, cut, join and pick elements behind one whose extent depends on data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crossfarm.stages.prepare.bounded.rules import Rule, joined, kept, named_axes, only, shape_of
from crossfarm.stages.prepare.bounded.walk import Unfit, Walk, attribute, axis_of

if TYPE_CHECKING:
    import onnx

_NO_END = 2**31 - 1
"""Exporters write this, or more, where a slice goes to the end."""


def _transpose(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    rank = len(shape_of(walk, node.input[0]))
    order = list(attribute(node, "perm", list(range(rank))[::-1]))
    counts = walk.counts_of(node.input[0])
    return kept(walk, node, {order.index(axis): count for axis, count in counts.items()})


def _squeeze(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    shape, counts = shape_of(walk, node.input[0]), walk.counts_of(node.input[0])
    given = named_axes(walk, node)
    gone = [axis_of(axis, len(shape)) for axis in given] if given is not None else []
    if given is None:
        # What is one place at most must stay, however many count.
        gone = [axis for axis, extent in enumerate(shape) if extent == 1 and axis not in counts]
        del node.input[1:]
        node.input.append(walk.constant(gone))
    if set(gone) & set(counts):
        raise Unfit("it drops an axis whose extent depends on data")
    left = [axis for axis in range(len(shape)) if axis not in gone]
    return kept(walk, node, {left.index(axis): count for axis, count in counts.items()})


def _unsqueeze(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    shape, new = shape_of(walk, node.input[0]), named_axes(walk, node) or []
    rank = len(shape) + len(new)
    added = {axis_of(axis, rank) for axis in new}
    left = [axis for axis in range(rank) if axis not in added]
    return kept(walk, node, {left[axis]: count for axis, count in walk.counts_of(node.input[0]).items()})


def _reshaped(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    """Find the axis again: as much stands before it, and it is as long, or takes in what stands behind it.

    Its new extent must follow from its own: it is left open in the stated shape, or copied.
    """
    only(walk, node, 0)
    counts, before = walk.counts_of(node.input[0]), shape_of(walk, node.input[0])
    if len(counts) > 1:
        raise Unfit("it changes a shape of which two extents depend on data")
    ((axis, count),) = counts.items()
    walk.keep(node)
    after = shape_of(walk, node.output[0])
    found = (
        place
        for place, extent in enumerate(after)
        if math.prod(after[:place]) == math.prod(before[:axis]) and extent % before[axis] == 0 and extent
    )
    place = next(found, None)
    if place is None or not _follows(walk, node, axis, place):
        raise Unfit(
            f"the shape {list(after)} that it makes of {list(before)} states the extent, or mixes it with others"
        )
    times = after[place] // before[axis]
    return [{place: count if times == 1 else walk.add("Mul", count, walk.constant(times))}]


def _follows(walk: Walk, node: onnx.NodeProto, axis: int, place: int) -> bool:
    """Say whether the new extent at `place` is not stated, and no other one is copied from `axis`."""
    if node.op_type == "Flatten":
        return True
    target = walk.array(node.input[1])
    if target is None:
        return False
    wanted = [int(extent) for extent in target.reshape(-1)]
    if attribute(node, "allowzero", 0) and 0 in wanted:
        return False
    copies = axis < len(wanted) and wanted[axis] == 0
    return axis == place if copies else wanted[place] == -1


def _expand(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    """Repeat along other axes; what is said of one that counts in part is 1, or it would be a number of the file."""
    only(walk, node, 0)
    shape, target = shape_of(walk, node.input[0]), walk.array(node.input[1])
    if target is None:
        raise Unfit("the shape that it makes is computed when the model runs")
    wanted = [int(extent) for extent in target.reshape(-1)]
    rank = max(len(wanted), len(shape))
    found = {axis + rank - len(shape): count for axis, count in walk.counts_of(node.input[0]).items()}
    for place in found:
        own = place - rank + len(wanted)
        if own >= 0 and wanted[own] != 1:
            raise Unfit(f"it makes {wanted[own]} fixed places of those that depend on data")
    return kept(walk, node, found)


def _gather(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    data, indices = node.input
    shape, places = shape_of(walk, data), shape_of(walk, indices)
    axis = axis_of(int(attribute(node, "axis", 0)), len(shape))
    counts = dict(walk.counts_of(data))
    of_axis = counts.pop(axis, None)
    if of_axis is not None:
        node.input[1] = _from_the_front(walk, indices, of_axis)
    found = {place if place < axis else place + len(places) - 1: count for place, count in counts.items()}
    for place, count in walk.counts_of(indices).items():
        found[axis + place] = count
    return kept(walk, node, found)


def _from_the_front(walk: Walk, indices: str, count: str) -> str:
    """Return indices of which the negative ones, which count from the end of what counts, are written as others."""
    known = walk.array(indices)
    if known is not None and (known >= 0).all():
        return indices
    kind = walk.element(indices)
    end = walk.add("Cast", count, to=kind)
    zero = walk.add("Cast", walk.constant(0), to=kind)
    fixed = walk.add("Where", walk.add("Less", indices, zero), walk.add("Add", indices, end), indices)
    if walk.counts_of(indices):
        walk.counts[fixed] = dict(walk.counts_of(indices))
    return fixed


def _gather_nd(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    only(walk, node, 1)
    rank = len(shape_of(walk, node.input[1]))
    counts = dict(walk.counts_of(node.input[1]))
    if rank - 1 in counts or int(attribute(node, "batch_dims", 0)):
        raise Unfit("how many numbers an index has depends on data")
    return kept(walk, node, counts)


def _gather_elements(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    axis = axis_of(int(attribute(node, "axis", 0)), len(shape_of(walk, node.input[0])))
    data, places = walk.counts_of(node.input[0]), walk.counts_of(node.input[1])
    if any(data.get(place) not in (None, places.get(place)) for place in data if place != axis):
        raise Unfit("its inputs have different numbers of places that count")
    if axis in data:
        node.input[1] = _from_the_front(walk, node.input[1], data[axis])
    return kept(walk, node, dict(places))


def _slice(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    only(walk, node, 0)
    shape, counts = shape_of(walk, node.input[0]), dict(walk.counts_of(node.input[0]))
    given = [walk.array(name) for name in node.input[1:]]
    if any(array is None for array, name in zip(given, node.input[1:], strict=True) if name):
        raise Unfit("where it cuts is computed when the model runs")
    starts, ends, *more = [[] if array is None else [int(each) for each in array.reshape(-1)] for array in given]
    axes = (more[0] if more and more[0] else None) or list(range(len(starts)))
    steps = (more[1] if len(more) > 1 and more[1] else None) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = axis_of(axis, len(shape))
        if place not in counts:
            continue
        if start < 0 or end < 0 or step < 1:
            raise Unfit(f"it counts from the end of the axis {place}, which depends on data")
        if start == 0 and end >= shape[place] and step == 1 and end >= _NO_END:
            continue
        # ceil((min(count, end) - start) / step), and none when that is negative.
        last = walk.add("Min", counts[place], walk.constant(end)) if end < _NO_END else counts[place]
        length = walk.add("Max", walk.add("Sub", last, walk.constant(start)), walk.constant(0))
        if step > 1:
            length = walk.add("Div", walk.add("Add", length, walk.constant(step - 1)), walk.constant(step))
        counts[place] = length
    return kept(walk, node, counts)


def _concat(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    rank = len(shape_of(walk, node.input[0]))
    axis = axis_of(int(attribute(node, "axis", 0)), rank)
    found: dict[int, str] = {}
    for name in node.input:
        for place, count in walk.counts_of(name).items():
            if place == axis:
                raise Unfit("it joins tensors along an axis whose extent depends on data")
            joined(found, place, count)
    if any(place not in walk.counts_of(name) for place in found for name in node.input):
        raise Unfit("of its inputs some have fixed places where others depend on data")
    return kept(walk, node, found)


def _split(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    axis = axis_of(int(attribute(node, "axis", 0)), len(shape_of(walk, node.input[0])))
    if axis in walk.counts_of(node.input[0]):
        raise Unfit("it splits an axis whose extent depends on data")
    return kept(walk, node, dict(walk.counts_of(node.input[0])))


def _one_hot(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    only(walk, node, 0)
    rank = len(shape_of(walk, node.input[0]))
    axis = axis_of(int(attribute(node, "axis", -1)), rank + 1)
    counts = walk.counts_of(node.input[0])
    return kept(walk, node, {place + (place >= axis): count for place, count in counts.items()})


RULES: dict[str, Rule] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _reshaped,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "Reshape": _reshaped,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operator -> its rule."""
