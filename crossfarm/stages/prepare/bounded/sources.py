"""The operators whose extent depends on data: what it is at most, and what stands in their place."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossfarm.stages.prepare.bounded.functions import DOMAIN
from crossfarm.stages.prepare.bounded.walk import STANDARD, Unfit, Walk, attribute, axis_of
from crossfarm.util.onnx_nodes import describe_node

if TYPE_CHECKING:
    import onnx

Size = int | tuple[int, ...]
"""The stated largest count, or a whole shape."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """How one operator is treated.

    Attributes:
        output: number of the output that `sizes` names.
        replace: adds what stands in place of a node to a walk.
        most: returns the largest count that can be, None when that is not known.
        fits: whether a node is one whose extent depends on data.
    """

    replace: Callable[[Walk, onnx.NodeProto, Size], None]
    most: Callable[[Walk, onnx.NodeProto], int | None]
    fits: Callable[[Walk, onnx.NodeProto], bool] = lambda _walk, _node: True


def source_of(walk: Walk, node: onnx.NodeProto) -> Source | None:
    """Return how a node is treated whose extent depends on data; None for one whose does not."""
    found = SOURCES.get(node.op_type) if node.domain in STANDARD else None
    return found if found is not None and found.fits(walk, node) else None


def advice(walk: Walk, node: onnx.NodeProto, number: int) -> str:
    """Return the message for a node of which no size is stated: it shows what to write."""
    source = SOURCES[node.op_type]
    most = source.most(walk, node)
    name = next(output for output in node.output if output)
    shown = most if most is not None and most <= 1000 else 100
    bound = f"; it can be {most} at most" if most is not None else ""
    return (
        f"tensor {name!r} keeps the dynamic shape {_open_shape(walk, name)} after all inputs were fixed; it comes from "
        f"{describe_node(node, number)}, whose extent depends on the values of its inputs{bound}: state its largest "
        f"count for the model in models.yaml, `sizes: {{{_quoted(name)}: {shown}}}`, or export the model with a fixed "
        "size"
    )


def _open_shape(walk: Walk, name: str) -> str:
    """Return a shape as text, what is not known of it as question marks."""
    value = walk.types.get(name)
    if value is None or not value.type.tensor_type.HasField("shape"):
        return "(unknown)"
    extents = value.type.tensor_type.shape.dim
    shown = ", ".join(str(extent.dim_value) if extent.HasField("dim_value") else "?" for extent in extents)
    return f"[{shown}]"


def _quoted(name: str) -> str:
    """Return a name as it can stand in YAML."""
    return name if name.replace("_", "").replace(".", "").isalnum() and not name[0].isdigit() else f"'{name}'"


def _extents(size: Size, known: Sequence[int | None]) -> list[int]:
    """Return the shape of an output.

    Args:
        size: that is stated.
        known: extents; None for the one that depends on data.

    Raises:
        Unfit: the stated shape is another one.
    """
    if isinstance(size, int):
        return [size if extent is None else extent for extent in known]
    fits = len(size) == len(known) and all(
        extent is None or extent == stated for extent, stated in zip(known, size, strict=True)
    )
    if not fits:
        shown = ", ".join("?" if extent is None else str(extent) for extent in known)
        raise Unfit(
            f"sizes states the shape {list(size)}, and it is [{shown}]; correct `sizes`, or give the count alone"
        )
    return list(size)


def _call(
    walk: Walk,
    node: onnx.NodeProto,
    inputs: Sequence[str],
    outputs: Sequence[tuple[str, int, Sequence[int]]],
    **attributes: Any,
) -> str:
    """Add a call of a private operator; returns the name of its count.

    Args:
        walk: the graph.
        node: that is replaced.
        inputs: of the call.
        outputs: name (empty when nothing reads it), element type and shape of each but the count.
        attributes: of the call.
    """
    import onnx

    first = next(name for name, _, _ in outputs if name)
    count = walk.new_name(f"{first}/count")
    for name, element, shape in outputs:
        if name:
            walk.note(name, element, shape)
            walk.filled.add(name)
    walk.note(count, onnx.TensorProto.INT64, ())
    walk.keep(
        onnx.helper.make_node(
            node.op_type,
            inputs,
            [*(name for name, _, _ in outputs), count],
            name=node.name or first,
            domain=DOMAIN,
            **attributes,
        )
    )
    return count


def _known_shape(walk: Walk, name: str) -> tuple[int, ...]:
    shape = walk.shape(name)
    if shape is None:
        raise Unfit(f"the shape of {name!r} is not known")
    return shape


def _valid(walk: Walk, given: Sequence[tuple[str, int]]) -> str:
    """Return how many places of the axes of some values count, an int64 scalar; they have one meaning.

    Raises:
        Unfit: another axis of one has places that do not count, or two of them have different counts.
    """
    counts = set()
    for name, axis in given:
        if set(walk.counts_of(name)) - {axis}:
            raise Unfit(f"{name!r} has places that do not count along another axis than {axis}")
        counts.add(walk.counts_of(name).get(axis, ""))
    if len(counts) > 1:
        raise Unfit("its inputs have different numbers of places that count")
    return counts.pop() or walk.constant(_known_shape(walk, given[0][0])[given[0][1]])


def _non_max_suppression(walk: Walk, node: onnx.NodeProto, size: Size) -> None:
    import onnx

    boxes, scores = node.input[:2]
    shape = _extents(size, [None, 3])
    inputs = [*node.input, *[""] * (5 - len(node.input)), _valid(walk, [(boxes, 1), (scores, 2)])]
    outputs = [(node.output[0], onnx.TensorProto.INT64, shape)]
    centre = int(attribute(node, "center_point_box", 0))
    kind = onnx.TensorProto.INT64
    count = _call(walk, node, inputs, outputs, center_point_box=centre, axis=0, shape=shape, to=kind)
    walk.counts[node.output[0]] = {0: count}


def _most_boxes(walk: Walk, node: onnx.NodeProto) -> int | None:
    scores = walk.shape(node.input[1])
    if scores is None or len(scores) != 3:
        return None
    most = walk.array(node.input[2]) if len(node.input) > 2 else np.zeros(1)
    each = scores[2] if most is None else min(scores[2], max(0, int(most.reshape(-1)[0])))
    return max(1, scores[0] * scores[1] * each)


def _non_zero(walk: Walk, node: onnx.NodeProto, size: Size) -> None:
    import onnx

    values = node.input[0]
    given = _known_shape(walk, values)
    if not given:
        values, given = walk.add("Reshape", values, walk.constant([1])), (1,)
    along = next(iter(walk.counts_of(values)), 0)
    shape = _extents(size, [len(given), None])
    kind = onnx.TensorProto.INT64
    outputs = [(node.output[0], kind, shape)]
    count = _call(
        walk, node, [values, _valid(walk, [(values, along)])], outputs, along=along, axis=1, shape=shape, to=kind
    )
    walk.counts[node.output[0]] = {1: count}


def _flat(walk: Walk, values: str) -> str:
    """Return a tensor as a row; the places that count are still the first ones."""
    shape, counts = _known_shape(walk, values), walk.counts_of(values)
    if len(shape) == 1:
        return values
    flat = walk.add("Reshape", values, walk.constant([-1]))
    if counts:
        if set(counts) != {0}:
            raise Unfit(f"{values!r} has places that do not count along another axis than 0")
        walk.counts[flat] = {0: walk.add("Mul", counts[0], walk.constant(math.prod(shape[1:])))}
    return flat


def _compress(walk: Walk, node: onnx.NodeProto, size: Size) -> None:
    values, condition = node.input[:2]
    axis = attribute(node, "axis", None)
    if axis is None:
        values = _flat(walk, values)
    given = _known_shape(walk, values)
    along = axis_of(int(axis or 0), len(given))
    others = set(walk.counts_of(values)) - {along}
    if others:
        raise Unfit(f"{values!r} has places that do not count along another axis than {along}")
    valid = [
        *walk.counts_of(condition).values(),
        *walk.counts_of(values).values(),
        walk.constant(min(given[along], _known_shape(walk, condition)[0])),
    ]
    fewest = walk.add("Min", *dict.fromkeys(valid))
    shape = _extents(size, [None if place == along else extent for place, extent in enumerate(given)])
    kind = walk.element(values)
    outputs = [(node.output[0], kind, shape)]
    count = _call(walk, node, [values, condition, fewest], outputs, axis=along, shape=shape, to=kind)
    walk.counts[node.output[0]] = {along: count}


def _most_kept(walk: Walk, node: onnx.NodeProto) -> int | None:
    condition = walk.shape(node.input[1])
    return condition[0] if condition else None


def _unique(walk: Walk, node: onnx.NodeProto, size: Size) -> None:
    import onnx

    values, axis = node.input[0], attribute(node, "axis", None)
    if axis is None:
        values = _flat(walk, values)
    given = _known_shape(walk, values)
    along = axis_of(int(axis or 0), len(given))
    shape = _extents(size, [None if place == along else extent for place, extent in enumerate(given)])
    row, whole, index = [shape[along]], [given[along]], onnx.TensorProto.INT64
    names = [*node.output, *[""] * (4 - len(node.output))]
    kinds = [(walk.element(values), shape), (index, row), (index, whole), (index, row)]
    outputs = [(name, kind, extents) for name, (kind, extents) in zip(names, kinds, strict=True)]
    count = _call(
        walk,
        node,
        [values, _valid(walk, [(values, along)])],
        outputs,
        axis=along,
        sorted=int(attribute(node, "sorted", 1)),
        shape=shape,
        to=walk.element(values),
        first=0,
        row=row,
        whole=whole,
        index=index,
    )
    for name, place, valid in ((names[0], along, count), (names[1], 0, count), (names[3], 0, count)):
        if name:
            walk.counts[name] = {place: valid}
    if names[2] and walk.counts_of(values):
        walk.counts[names[2]] = {0: walk.counts_of(values)[along]}


def _most_different(walk: Walk, node: onnx.NodeProto) -> int | None:
    shape, axis = walk.shape(node.input[0]), attribute(node, "axis", None)
    if shape is None:
        return None
    return math.prod(shape) if axis is None else shape[axis_of(int(axis), len(shape))]


def _most_places(walk: Walk, node: onnx.NodeProto) -> int | None:
    shape = walk.shape(node.input[0])
    return None if shape is None else math.prod(shape)


def _top_k(walk: Walk, node: onnx.NodeProto, size: Size) -> None:
    """Take the best of the stated number: the first of them are the best of any smaller one, for they are sorted."""
    given = _known_shape(walk, node.input[0])
    axis = axis_of(int(attribute(node, "axis", -1)), len(given))
    if walk.counts_of(node.input[0]):
        raise Unfit("it looks for the best among places that do not all count, and their number depends on data too")
    if not attribute(node, "sorted", 1):
        raise Unfit("its results are in no order, so that the best of fewer are not the first ones")
    shape = _extents(size, [None if place == axis else extent for place, extent in enumerate(given)])
    if shape[axis] > given[axis]:
        raise Unfit(f"sizes states {shape[axis]} of {given[axis]} elements; correct `sizes`")
    count = walk.add("Reshape", node.input[1], walk.constant(np.zeros(0)))
    node.input[1] = walk.constant([shape[axis]])
    walk.keep(node)
    for name in filter(None, node.output):
        walk.counts[name] = {axis: count}


def _most_of_axis(walk: Walk, node: onnx.NodeProto) -> int | None:
    shape = walk.shape(node.input[0])
    return None if not shape else shape[axis_of(int(attribute(node, "axis", -1)), len(shape))]


SOURCES = {
    "Compress": Source(replace=_compress, most=_most_kept),
    "NonMaxSuppression": Source(replace=_non_max_suppression, most=_most_boxes),
    "NonZero": Source(replace=_non_zero, most=_most_places),
    "TopK": Source(
        replace=_top_k,
        most=_most_of_axis,
        fits=lambda walk, node: len(node.input) > 1 and walk.array(node.input[1]) is None,
    ),
    "Unique": Source(replace=_unique, most=_most_different),
}
"""Operator -> how it is treated."""
