"""Everything that computes each element by itself: arithmetic, activations, copies, concatenations, transposes."""

from __future__ import annotations

from crossfarm.backends.tvm.schedules.primitives import (
    blocks,
    function_of,
    inline_spatial,
    is_reduction,
    schedule_of,
    schedule_spatial,
)
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.types import PrimFunc


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc has no reduction."""
    schedule = schedule_of(function)
    return not any(is_reduction(schedule, block) for block in blocks(schedule))


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Fuse all steps into one pass over the result, in vectors along its innermost axis, and share it between threads.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep=())
    for block in blocks(schedule):
        schedule_spatial(schedule, block, processor)
    return function_of(schedule)
