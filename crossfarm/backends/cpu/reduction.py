"""Sums, means, maxima and pooling, which reduce over a window or over whole axes."""

from __future__ import annotations

from typing import Any

from crossfarm.backends.cpu.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.cpu.schedules import (
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


def matches(function: Any) -> bool:
    """Say whether a PrimFunc has a reduction that no other rule covers; it is asked last."""
    schedule = schedule_of(function)
    return any(is_reduction(schedule, block) for block in blocks(schedule))


def schedule(function: Any, processor: Processor) -> Any:
    """Keep reductions apart from what surrounds them, and schedule each block by itself.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep=())
    for block in blocks(schedule):
        if is_reduction(schedule, block):
            _schedule_reduction(schedule, block, processor)
        else:
            schedule_spatial(schedule, block, processor)
    return function_of(schedule)


def _schedule_reduction(schedule: Any, block: Any, processor: Processor) -> None:
    """Reduce a vector of neighbours at once, where the innermost kept axis is contiguous in what is read.

    In NHWC that is so for every pooling and for means over the image.
    """
    loops = schedule.get_loops(block)
    is_reduced = reduced_axes(schedule, block)
    kept = [loop for loop, reduced in zip(loops, is_reduced, strict=True) if not reduced]
    reduced = [loop for loop, reduced in zip(loops, is_reduced, strict=True) if reduced]
    if not kept or not reduced:
        return
    lanes = processor.lanes_for(extent(schedule, kept[-1]))
    if lanes == 1 or not _kept_axis_is_contiguous(schedule, block, is_reduced):
        return
    work = total(schedule, loops)
    vector, lane = schedule.split(kept[-1], [None, lanes])
    schedule.reorder(*kept[:-1], vector, *reduced, lane)
    vectorise(schedule, lane)
    if work > PARALLEL_ELEMENTS:
        schedule.parallel(fuse(schedule, [*kept[:-1], vector]))
    start = schedule.decompose_reduction(block, reduced[0])
    vectorise(schedule, schedule.get_loops(start)[-1])


def _kept_axis_is_contiguous(schedule: Any, block: Any, is_reduced: list[bool]) -> bool:
    body = schedule.get(block)
    kept = [axis.var for axis, reduced in zip(body.iter_vars, is_reduced, strict=True) if not reduced]
    return bool(body.reads) and bool(body.reads[-1].region[-1].min.same_as(kept[-1]))
