"""LayerNormalization over the last axis, a row at a time: mean, then variance around it, then the result.

A row stays in the first-level cache meanwhile. The variance is a mean of squares of differences, which loses nothing
where the mean is large beside them; sums are kept in several vectors side by side, as an addition waits for the last
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.passes.relax_utils import is_float32, static_shape
from crossfarm.backends.tvm.schedules.choices import Choose
from crossfarm.backends.tvm.schedules.loops import Row, across, emit, in_registers, number, total_of
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.tvm.types import BlockBuilder, PrimExpr, RelaxCall, RelaxExpr

_SIDE_BY_SIDE = 4
"""Vectors of sums: four hide the latency of an addition on most processors."""


def rewrite(call: RelaxCall, builder: BlockBuilder, processor: Processor, choose: Choose) -> RelaxExpr | None:
    """Replace a relax.nn.layer_norm over the last axis.

    Returns:
        An expression, or None when the rule does not cover the call.
    """
    shape = static_shape(call.args[0])
    if shape is None or not is_float32(*call.args) or len(shape) < 1 or 0 in shape:
        return None
    rank, axes = len(shape), [int(axis) for axis in call.attrs.axes]
    lanes = processor.widest
    if axes not in ([-1], [rank - 1]) or lanes == 1 or shape[-1] < lanes:
        return None
    if any(static_shape(each) != shape[-1:] for each in call.args[1:]):
        return None
    epsilon, rows, length = float(call.attrs.epsilon), math.prod(shape[:-1]), shape[-1]

    def body(values: Row, scale: Row, bias: Row, result: Row) -> None:
        loop = T.parallel if rows * length > PARALLEL_ELEMENTS and rows > 1 else T.serial
        with loop(0, rows) as row:
            _write_row(values, scale, bias, result, start=row * length, length=length, lanes=lanes, epsilon=epsilon)

    return emit(builder, body, call.args, shape, name="layer_norm")


def _write_row(
    values: Row, scale: Row, bias: Row, result: Row, *, start: PrimExpr, length: int, lanes: int, epsilon: float
) -> None:
    share = number(1.0 / length)
    mean, inverse = in_registers(1), in_registers(1)
    mean[0] = _sum(lambda place: values[start + place], length, lanes) * share

    def squared(place: PrimExpr) -> PrimExpr:
        centred = tirx.Var("centred", "float32")
        return tirx.Let(centred, values[start + place] - mean[0], centred * centred)

    variance = _sum(squared, length, lanes) * share
    inverse[0] = number(1.0) / tirx.sqrt(variance + number(epsilon))

    def normal(place: PrimExpr) -> None:
        result[start + place] = (values[start + place] - mean[0]) * inverse[0] * scale[place] + bias[place]

    vectors = length // lanes
    with T.serial(0, vectors) as vector, T.vectorized(0, lanes) as lane:
        normal(vector * lanes + lane)
    if length % lanes:
        with T.serial(vectors * lanes, length) as place:
            normal(place)


def _sum(element: Callable[[PrimExpr], PrimExpr], length: int, lanes: int) -> PrimExpr:
    """Write the sum over a row, and return it."""
    vectors = length // lanes
    width = next(count for count in range(min(_SIDE_BY_SIDE, vectors), 0, -1) if count & (count - 1) == 0)
    parts = in_registers(width * lanes)
    for each in range(width):
        with T.vectorized(0, lanes) as lane:
            parts[each * lanes + lane] = element(each * lanes + lane)
    groups = vectors // width
    if groups > 1:
        with T.serial(1, groups) as group:
            for each in range(width):
                with T.vectorized(0, lanes) as lane:
                    place = each * lanes + lane
                    parts[place] = parts[place] + element(group * (width * lanes) + place)
    for vector in range(groups * width, vectors):
        with T.vectorized(0, lanes) as lane:
            parts[lane] = parts[lane] + element(vector * lanes + lane)
    across(parts, width * lanes, total_of)
    if length % lanes:
        with T.serial(vectors * lanes, length) as place:
            parts[0] = parts[0] + element(place)
    return parts[0]
