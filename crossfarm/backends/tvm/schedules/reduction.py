"""Sums, means, maxima and pooling, which reduce over a window or over whole axes."""

from __future__ import annotations

from tvm import s_tir

from crossfarm.backends.tvm.schedules.primitives import (
    LEFT,
    block_name,
    blocks,
    extent,
    function_of,
    fuse,
    inline_spatial,
    is_reduction,
    reduced_axes,
    schedule_of,
    schedule_spatial,
    total,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.tvm.types import BlockRV, PrimFunc, Schedule

PARTS = (4, 2, 1)
"""Vectors of parts side by side: four hide the latency of an addition on most processors."""


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc has a reduction that no other rule covers; it is asked last."""
    schedule = schedule_of(function)
    return any(is_reduction(schedule, block) for block in blocks(schedule))


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Keep reductions apart from what surrounds them, and schedule each block by itself.

    The names of blocks that are left as they are, although the processor has vectors, stand under LEFT.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    try:
        return _scheduled(function, processor, in_parts=True)
    except s_tir.ScheduleError:
        # What reduces to two results, or to a place, cannot be reduced in parts.
        return _scheduled(function, processor, in_parts=False)


def _scheduled(function: PrimFunc, processor: Processor, *, in_parts: bool) -> PrimFunc:
    schedule = schedule_of(function)
    inline_spatial(schedule, keep=())
    left = []
    for block in blocks(schedule):
        if not is_reduction(schedule, block):
            schedule_spatial(schedule, block, processor)
        elif not (
            _reduce_neighbours(schedule, block, processor)
            or (in_parts and _reduce_in_parts(schedule, block, processor))
        ):
            left.append(block_name(schedule, block))
    made = function_of(schedule)
    return made.with_attr(LEFT, left) if left and processor.widest > 1 else made


def _reduce_neighbours(schedule: Schedule, block: BlockRV, processor: Processor) -> bool:
    """Reduce a vector of neighbours at once, where the innermost kept axis is contiguous in what is read.

    In NHWC that is so for every pooling and for means over the image.

    Returns:
        Whether it is so.
    """
    loops = schedule.get_loops(block)
    is_reduced = reduced_axes(schedule, block)
    kept = [loop for loop, reduced in zip(loops, is_reduced, strict=True) if not reduced]
    reduced = [loop for loop, reduced in zip(loops, is_reduced, strict=True) if reduced]
    if not kept or not reduced:
        return False
    lanes = processor.lanes_for(extent(schedule, kept[-1]))
    if lanes == 1 or not _kept_axis_is_contiguous(schedule, block, is_reduced):
        return False
    work = total(schedule, loops)
    vector, lane = schedule.split(kept[-1], [None, lanes])
    schedule.reorder(*kept[:-1], vector, *reduced, lane)
    vectorise(schedule, lane)
    if work > PARALLEL_ELEMENTS:
        schedule.parallel(fuse(schedule, [*kept[:-1], vector]))
    start = schedule.decompose_reduction(block, reduced[0])
    vectorise(schedule, schedule.get_loops(start)[-1])
    return True


def _reduce_in_parts(schedule: Schedule, block: BlockRV, processor: Processor) -> bool:
    """Reduce the innermost axis to a few vectors of parts, then those to one value.

    A sum of floats is not reordered by a compiler, so that each addition would wait for the last one. Several vectors
    side by side hide their latency. (Suriana, Adams and Kamil, "Parallel Associative Reductions in Halide", 2017.)

    Returns:
        Whether it could be done.
    """
    loops = schedule.get_loops(block)
    is_reduced = reduced_axes(schedule, block)
    if not is_reduced[-1] or all(is_reduced) or not _reduced_axis_is_contiguous(schedule, block):
        return False
    length, lanes, work = extent(schedule, loops[-1]), processor.widest, total(schedule, loops)
    side_by_side = next((count for count in PARTS if length % (count * lanes) == 0), 0)
    if lanes == 1 or side_by_side == 0 or length == side_by_side * lanes:
        return False
    kept = is_reduced.count(False)
    name = block_name(schedule, block)
    _, part = schedule.split(loops[-1], [None, side_by_side * lanes])
    parts = schedule.rfactor(part, factor_axis=kept)
    outer = fuse(schedule, schedule.get_loops(schedule.get_sblock(name))[:kept])
    schedule.compute_at(parts, outer, preserve_unit_loops=True)
    schedule.set_scope(parts, 0, "local")
    _, part, *others = schedule.get_loops(parts)
    vector, lane = schedule.split(part, [None, lanes])
    schedule.reorder(*others, vector, lane)
    if work > PARALLEL_ELEMENTS and extent(schedule, outer) > 1:
        schedule.parallel(outer)
    vectorise(schedule, lane)
    schedule.unroll(vector)
    start_loops = schedule.get_loops(schedule.decompose_reduction(parts, others[kept]))
    vectorise(schedule, start_loops[-1])
    return True


def _reduced_axis_is_contiguous(schedule: Schedule, block: BlockRV) -> bool:
    body = schedule.get(block)
    last = body.iter_vars[-1].var
    return any(read.region[-1].min.same_as(last) for read in body.reads if len(read.region))


def _kept_axis_is_contiguous(schedule: Schedule, block: BlockRV, is_reduced: list[bool]) -> bool:
    body = schedule.get(block)
    kept = [axis.var for axis, reduced in zip(body.iter_vars, is_reduced, strict=True) if not reduced]
    reads = [read for read in body.reads if len(read.region)]  # a scalar has none
    return bool(reads) and bool(reads[-1].region[-1].min.same_as(kept[-1]))
