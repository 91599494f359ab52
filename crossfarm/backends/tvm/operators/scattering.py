"""Operators that write elements at computed places, or carry a sum along: scatters, MaxUnpool, Col2Im, CumSum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import relax, tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.emitting import one_axis, reshaped
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.operators.serial import Row, inside, ravel, run_loops, scalar, unravel
from crossfarm.backends.tvm.passes.relax_utils import constant_array
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr

_REDUCTIONS: dict[str, Callable[[PrimExpr, PrimExpr], PrimExpr]] = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": tirx.max,
    "min": tirx.min,
}


def _reduction(node: Node) -> Callable[[PrimExpr, PrimExpr], PrimExpr]:
    name = node.attributes.get("reduction", "none")
    if name not in _REDUCTIONS:
        raise UnsupportedForm(f"its reduction {name!r} is not one of the standard's")
    return _REDUCTIONS[name]


def _copied(source: Row, target: Row, size: int) -> None:
    with T.serial(0, size) as place:
        target[place] = source[place]


def _scatter_elements(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    shape, wanted = node.shape(0), node.shape(1)
    axis = one_axis(int(node.attributes.get("axis", 0)), len(shape))
    node.require_within(1, shape, axis=axis)
    node.require(2, wanted)
    reduce = _reduction(node)

    def body(data: Row, indices: Row, updates: Row, result: Row) -> None:
        _copied(data, result, math.prod(shape))
        with T.serial(0, math.prod(wanted)) as number:
            at = unravel(number, wanted)
            place = scalar("int32")
            place[0] = ravel([*at[:axis], inside(indices[number], shape[axis]), *at[axis + 1 :]], shape)
            result[place[0]] = reduce(result[place[0]], updates[number])

    if not math.prod(wanted) or not math.prod(shape):
        return node.input(0)
    inputs = [node.input(place) for place in range(3)]
    return run_loops(node, body, inputs=inputs, outputs=[(shape, node.dtype(0))])


def _scatter_nd(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    shape, wanted = node.shape(0), node.shape(1)
    depth = wanted[-1]
    node.require(2, [*wanted[:-1], *shape[depth:]])
    count, size = math.prod(wanted[:-1]), math.prod(shape[depth:])
    reduce = _reduction(node)

    def body(data: Row, indices: Row, updates: Row, result: Row) -> None:
        _copied(data, result, math.prod(shape))
        with T.serial(0, count) as number:
            place = scalar("int32")
            found = [inside(indices[number * depth + k], shape[k]) for k in range(depth)]
            place[0] = ravel(found, shape[:depth])
            with T.serial(0, size) as k:
                target = place[0] * size + k
                result[target] = reduce(result[target], updates[number * size + k])

    if not math.prod(wanted) or not math.prod(shape):
        return node.input(0)
    inputs = [node.input(place) for place in range(3)]
    return run_loops(node, body, inputs=inputs, outputs=[(shape, node.dtype(0))])


def _tensor_scatter(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    """Write a piece of a sequence into a cache, from a place that each row of the batch states."""
    shape, piece = node.shape(0), node.shape(1)
    axis = one_axis(int(node.attributes.get("axis", -2)), len(shape))
    node.require_within(1, shape, axis=axis)
    is_circular = node.attributes.get("mode", "linear") == "circular"
    starts = [node.input(2)] if node.has(2) else []
    if starts:
        node.require(2, shape[:1])

    def body(data: Row, update: Row, *rows: Row) -> None:
        result = rows[-1]
        _copied(data, result, math.prod(shape))
        with T.serial(0, math.prod(piece)) as number:
            at = unravel(number, piece)
            start = rows[0][at[0]].astype("int32") if starts else tirx.const(0, "int32")
            place = start + at[axis]
            place = tirx.floormod(place, shape[axis]) if is_circular else inside(place, shape[axis])
            result[ravel([*at[:axis], place, *at[axis + 1 :]], shape)] = update[number]

    inputs = [node.input(0), node.input(1), *starts]
    return run_loops(node, body, inputs=inputs, outputs=[(shape, node.dtype(0))])


def _max_unpool(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    shape, attributes = node.shape(0), node.attributes
    node.require(1, shape)
    kernel = attributes["kernel_shape"]
    strides = attributes.get("strides") or (1,) * len(kernel)
    pads = attributes.get("pads") or (0,) * (2 * len(kernel))
    # The places are counted in the shape that attributes imply, also where another one is asked for.
    counted = (
        *shape[:2],
        *(
            (extent - 1) * stride + width - pads[k] - pads[k + len(kernel)]
            for k, (extent, stride, width) in enumerate(zip(shape[2:], strides, kernel, strict=True))
        ),
    )
    made = tuple(int(extent) for extent in node.constant(2)) if node.has(2) else counted

    def body(values: Row, places: Row, result: Row) -> None:
        with T.serial(0, math.prod(made)) as place:
            result[place] = tirx.const(0, node.dtype(0))
        with T.serial(0, math.prod(shape)) as number:
            at = unravel(inside(places[number], math.prod(counted)), counted)
            fits = tirx.all(*(index < extent for index, extent in zip(at, made, strict=True)))
            with T.If(fits), T.Then():
                result[ravel(at, made)] = values[number]

    inputs = [node.input(0), node.input(1)]
    return run_loops(node, body, inputs=inputs, outputs=[(made, node.dtype(0))])


def _col2im(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    image = tuple(int(extent) for extent in node.constant(1))
    block = tuple(int(extent) for extent in node.constant(2))
    attributes, rank = node.attributes, len(image)
    dilations = attributes.get("dilations") or (1,) * rank
    strides = attributes.get("strides") or (1,) * rank
    pads = attributes.get("pads") or (0,) * (2 * rank)
    batch, rows, _ = node.shape(0)
    channels = rows // math.prod(block)
    steps = tuple(
        (image[k] + pads[k] + pads[k + rank] - dilations[k] * (block[k] - 1) - 1) // strides[k] + 1 for k in range(rank)
    )
    columns = (batch, channels, *block, *steps)

    def body(values: Row, result: Row) -> None:
        with T.serial(0, batch * channels * math.prod(image)) as place:
            result[place] = tirx.const(0, node.dtype(0))
        with T.serial(0, math.prod(columns)) as number:
            at = unravel(number, columns)
            pixel = [at[2 + rank + k] * strides[k] + at[2 + k] * dilations[k] - pads[k] for k in range(rank)]
            fits = [tirx.all(index >= 0, index < extent) for index, extent in zip(pixel, image, strict=True)]
            with T.If(tirx.all(*fits)), T.Then():
                place = ravel([*at[:2], *pixel], (batch, channels, *image))
                result[place] = result[place] + values[number]

    if math.prod(columns) != math.prod(node.shape(0)):
        raise UnsupportedForm(f"its columns {list(node.shape(0))} are not those of an image {list(image)}")
    return run_loops(node, body, inputs=[node.input(0)], outputs=[((batch, channels, *image), node.dtype(0))])


def _cumulative(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    """Return sums or products along an axis up to each element."""
    shape = node.shape(0)
    if not math.prod(shape):
        return relax.op.add(node.input(0), node.input(0))
    known = constant_array(node.input(1))
    if known is None:
        return _cumulative_along_any(node)
    axis = one_axis(int(known.reshape(-1)[0]), len(shape))
    outer, extent, inner = math.prod(shape[:axis]), shape[axis] if shape else 1, math.prod(shape[axis + 1 :])
    is_sum, exclusive, backwards = _cumulation(node)
    dtype = node.dtype(0)

    def body(values: Row, result: Row) -> None:
        with T.serial(0, outer * inner) as line:
            base = (line // inner) * (extent * inner) + line % inner
            total = scalar(dtype)
            total[0] = tirx.const(0 if is_sum else 1, dtype)
            with T.serial(0, extent) as step:
                place = base + (extent - 1 - step if backwards else step) * inner
                if exclusive:
                    result[place] = total[0]
                total[0] = total[0] + values[place] if is_sum else total[0] * values[place]
                if not exclusive:
                    result[place] = total[0]

    return run_loops(node, body, inputs=[node.input(0)], outputs=[(shape, dtype)])


def _cumulation(node: Node) -> tuple[bool, bool, bool]:
    """Return whether it sums up, leaves out the element itself, and begins at the end."""
    attributes = node.attributes
    return node.operator == "CumSum", bool(attributes.get("exclusive", 0)), bool(attributes.get("reverse", 0))


def _cumulative_along_any(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    """Return sums or products along an axis that is computed: each from the one before it, in the order of memory."""
    shape, dtype = node.shape(0) or (1,), node.dtype(0)
    is_sum, exclusive, backwards = _cumulation(node)
    size = math.prod(shape)
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    first = tirx.const(0 if is_sum else 1, dtype)

    def of_axis(axis: PrimExpr, numbers: Sequence[int]) -> PrimExpr:
        chosen: PrimExpr = tirx.const(numbers[0], "int32")
        for place, number in enumerate(numbers[1:], start=1):
            chosen = tirx.Select(axis == place, tirx.const(number, "int32"), chosen)
        return chosen

    def body(values: Row, axes: Row, result: Row) -> None:
        axis, step, extent = scalar("int32"), scalar("int32"), scalar("int32")
        axis[0] = inside(axes[0], len(shape))
        step[0] = of_axis(axis[0], steps)
        extent[0] = of_axis(axis[0], shape)
        with T.serial(0, size) as number:
            place, before, total = scalar("int32"), scalar("int32"), scalar(dtype)
            place[0] = size - 1 - number if backwards else number
            before[0] = place[0] + step[0] if backwards else place[0] - step[0]
            at = tirx.floormod(tirx.floordiv(place[0], step[0]), extent[0])
            total[0] = first
            with T.If(at < extent[0] - 1 if backwards else at > 0), T.Then():
                total[0] = result[before[0]]
                if exclusive:
                    total[0] = total[0] + values[before[0]] if is_sum else total[0] * values[before[0]]
            if exclusive:
                result[place[0]] = total[0]
            else:
                result[place[0]] = total[0] + values[place[0]] if is_sum else total[0] * values[place[0]]

    inputs = [node.input(0), node.input(1)]
    made = run_loops(node, body, inputs=inputs, outputs=[(shape, dtype)])
    return reshaped(node, made[0], node.shape(0)) if shape != node.shape(0) else made


CONVERTERS: dict[str, Converter] = {
    "Col2Im": _col2im,
    "CumProd": _cumulative,
    "CumSum": _cumulative,
    "MaxUnpool": _max_unpool,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
}
"""Operator -> its converter."""
