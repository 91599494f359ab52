"""Softmax over the last axis, vectorised, with an exponential that is a polynomial.

A call of the C library per element would take most of the time and cannot be vectorised.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from tvm import te, tirx

from crossfarm.backends.tvm.passes.relax_utils import is_float32, static_shape
from crossfarm.backends.tvm.schedules.choices import Choose
from crossfarm.backends.tvm.schedules.primitives import (
    block_names,
    extent,
    function_of,
    fuse,
    is_reduction,
    schedule_of,
    total,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.tvm.types import (
    BlockBuilder,
    BlockRV,
    LoopRV,
    PrimExpr,
    PrimFunc,
    RelaxCall,
    RelaxExpr,
    Schedule,
    Tensor,
    Var,
)

_PREFIX = "crossfarm_softmax_"
_RESULT = _PREFIX + "result"
_LANES = 16
"""Partial results side by side: one vector of AVX-512, two of AVX2, four of NEON."""
_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def rewrite(call: RelaxCall, builder: BlockBuilder, processor: Processor, choose: Choose) -> RelaxExpr | None:
    """Replace a relax.nn.softmax over the last axis.

    Returns:
        An expression, or None when the rule does not cover the call.
    """
    shape = static_shape(call.args[0])
    if shape is None or not is_float32(call.args[0]) or len(shape) < 2 or 0 in shape:
        return None
    if int(call.attrs.axis) not in (-1, len(shape) - 1):
        return None
    return builder.call_te(compute, call.args[0], primfunc_name_hint="softmax")


def exponential(value: PrimExpr) -> PrimExpr:
    """Return exp of a float32 that is at most 0 as an expression that vectorises, relative error 2e-7.

    exp(x) = 2^n * exp(r) with n = round(x / ln 2); r = x - n ln 2 in two steps, so that nothing is lost; a polynomial
    of degree 5 for exp(r) (Cephes, expf.c). Below -87.7 the result would be denormal, and is 0. NaN gives NaN.
    """

    def number(constant: float) -> PrimExpr:
        return tirx.const(constant, "float32")

    clipped = tirx.max(value, number(-88.0))
    power = tirx.floor(clipped * number(1.44269504) + number(0.5))
    rest = clipped - power * number(0.693359375) + power * number(2.12194440e-4)
    polynomial = number(_POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        polynomial = polynomial * rest + number(coefficient)
    scale = (power.astype("int32") + tirx.const(127, "int32")) << tirx.const(23, "int32")
    return (polynomial * rest * rest + rest + number(1.0)) * tirx.reinterpret("float32", scale)


def compute(values: Tensor) -> Tensor:
    """Return softmax over the last axis, float32 of the same shape.

    A row that holds NaN or infinity, or -infinity alone, becomes NaN, because a difference in it is NaN. So the maximum
    of a row may lose NaN, which is cheaper.
    """
    rows = tuple(values.shape)[:-1]
    # largest: one or two of [..., 1]
    largest = _reduce(values, te.comm_reducer(_larger, tirx.min_value), "maximum")

    def shifted(*index: Var) -> PrimExpr:
        row = (*index[:-1], 0)
        return exponential(values[index] - functools.reduce(_larger, [part[row] for part in largest]))

    # powers: [..., length]
    powers = te.compute(values.shape, shifted, name=_PREFIX + "exponential")
    sums = _reduce(powers, te.sum, "sum")

    def reciprocal(*index: Var) -> PrimExpr:
        return tirx.const(1.0, "float32") / functools.reduce(lambda left, right: left + right, [s[index] for s in sums])

    # inverse: [..., 1]
    inverse = te.compute((*rows, 1), reciprocal, name=_PREFIX + "inverse")
    return te.compute(values.shape, lambda *index: powers[index] * inverse[(*index[:-1], 0)], name=_RESULT)


def _larger(left: PrimExpr, right: PrimExpr) -> PrimExpr:
    """Return the larger of two numbers; a tirx.Max would keep NaN (maxima.py)."""
    return tirx.Select(left > right, left, right)


def _reduce(values: Tensor, reduction: Callable[..., PrimExpr], name: str) -> list[Tensor]:
    """Reduce the last axis in vectors of lanes, then across the lanes; and what no vector fills apart from that."""
    *rows, length = (int(extent_) for extent_ in values.shape)
    whole = length // _LANES
    parts = []
    if whole:
        lane, vector = te.reduce_axis((0, _LANES), "lane"), values
        if whole > 1:
            k = te.reduce_axis((0, whole), "k")
            vector = te.compute(
                (*rows, _LANES),
                lambda *index: reduction(values[(*index[:-1], k * _LANES + index[-1])], axis=[k]),
                name=f"{_PREFIX}{name}_vector",
            )
        parts.append(
            te.compute(
                (*rows, 1),
                lambda *index: reduction(vector[(*index[:-1], lane)], axis=[lane]),
                name=f"{_PREFIX}{name}_across",
            )
        )
    if length % _LANES:
        rest = te.reduce_axis((0, length % _LANES), "rest")
        parts.append(
            te.compute(
                (*rows, 1),
                lambda *index: reduction(values[(*index[:-1], whole * _LANES + rest)], axis=[rest]),
                name=f"{_PREFIX}{name}_rest",
            )
        )
    return parts


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a softmax of this module, with nothing fused to it."""
    names = block_names(function)
    return names[-1] == _RESULT and all(name.startswith(_PREFIX) for name in names)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Do all steps of a row before the next row, so that it stays in the first-level cache.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    result = schedule.get_sblock(_RESULT)
    elements = total(schedule, schedule.get_loops(result))
    row = fuse(schedule, schedule.get_loops(result)[:-1])
    names = [name for name in reversed(block_names(function)) if name != _RESULT]
    for name in names:
        # Loops of one trip stay, so that every step has the same loops whatever the shape.
        schedule.compute_at(schedule.get_sblock(name), row, preserve_unit_loops=True)
    if elements > PARALLEL_ELEMENTS and extent(schedule, row) > 1:
        # Before the steps: a reduction without its start is no longer known as one.
        schedule.parallel(row)
    for name in [*names, _RESULT]:
        _schedule_step(schedule, schedule.get_sblock(name), name, processor)
    return function_of(schedule)


def _schedule_step(schedule: Schedule, block: BlockRV, name: str, processor: Processor) -> None:
    loops = schedule.get_loops(block)[1:]
    if name.endswith("_vector"):
        lane, k = loops[-2:]
        schedule.reorder(k, lane)
        _vectorise_lanes(schedule, lane, processor)
        # Only now: a reduction without its start is no longer known as one.
        start = schedule.decompose_reduction(block, k)
        vectorise(schedule, schedule.get_loops(start)[-1])
    elif not is_reduction(schedule, block) and loops:
        _vectorise_lanes(schedule, loops[-1], processor)


def _vectorise_lanes(schedule: Schedule, loop: LoopRV, processor: Processor) -> None:
    _, vector = schedule.split(loop, [None, processor.lanes_for(extent(schedule, loop))])
    vectorise(schedule, vector)
