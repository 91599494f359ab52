"""What all schedules do with blocks and loops."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import tvm_ffi
from tvm import s_tir, tirx
from tvm.sym import Analyzer

from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.tvm.types import BlockRV, LoopRV, PrimExpr, PrimFunc, SBlock, Schedule, Var

INNER_TRIPS = 4
"""Trips from which on the innermost loop stays one: to count all axes at once costs a division for every vector."""
LEFT = "crossfarm.left_as_it_is"
"""Attribute of a PrimFunc: the names of blocks that its rule left as TVM makes them."""
_REDUCTION = 2
"""iter_type of a block's axis over which it reduces (IterVar::kCommReduce)."""


def schedule_of(function: PrimFunc) -> Schedule:
    """Return a new schedule of a PrimFunc; `s_tir.Schedule` wants it to have a symbol."""
    return s_tir.Schedule(function.with_attr("global_symbol", "main"))


def is_of_blocks(function: PrimFunc) -> bool:
    """Say whether a PrimFunc can be scheduled; one that was written as loops cannot."""
    return isinstance(function.body, s_tir.SBlockRealize) and str(function.body.block.name_hint) == "root"


def function_of(schedule: Schedule) -> PrimFunc:
    """Return the PrimFunc that a schedule from `schedule_of` made."""
    return schedule.mod["main"]


def blocks(schedule: Schedule) -> list[BlockRV]:
    """Return the blocks below the root, in order."""
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def block_name(schedule: Schedule, block: BlockRV) -> str:
    """Return the name of a block."""
    return str(schedule.get(block).name_hint)


def block_names(function: PrimFunc) -> list[str]:
    """Return the names of a PrimFunc's blocks in order."""
    schedule = schedule_of(function)
    return [block_name(schedule, block) for block in blocks(schedule)]


def extent(schedule: Schedule, loop: LoopRV) -> int:
    """Return the trips of a loop, which are known."""
    return int(schedule.get(loop).extent)


def extents(schedule: Schedule, loops: Sequence[LoopRV]) -> list[int]:
    """Return the trips of loops."""
    return [extent(schedule, loop) for loop in loops]


def total(schedule: Schedule, loops: Sequence[LoopRV]) -> int:
    """Return how often the innermost of nested loops runs."""
    return math.prod(extents(schedule, loops))


def row_major(axes: Sequence[Var], shape: Sequence[int]) -> PrimExpr:
    """Return the number of an element when all are counted, the last axis running fastest."""
    index = axes[0]
    for axis, length in zip(axes[1:], shape[1:], strict=True):
        index = index * length + axis
    return index


def is_reduction(schedule: Schedule, block: BlockRV) -> bool:
    """Say whether a block sums, or takes a maximum, over an axis."""
    return any(int(axis.iter_type) == _REDUCTION for axis in schedule.get(block).iter_vars)


def reduced_axes(schedule: Schedule, block: BlockRV) -> list[bool]:
    """Return for each axis of a block whether it is reduced."""
    return [int(axis.iter_type) == _REDUCTION for axis in schedule.get(block).iter_vars]


def fuse(schedule: Schedule, loops: Sequence[LoopRV]) -> LoopRV:
    """Fuse nested loops to one."""
    return schedule.fuse(*loops) if len(loops) > 1 else loops[0]


def simple_indices(function: PrimFunc) -> PrimFunc:
    """Return a PrimFunc whose integer expressions are simplified by the bounds of the axes of their blocks."""

    def in_block(block: SBlock) -> SBlock:
        analyzer = Analyzer()
        for axis in block.iter_vars:
            analyzer.bind(axis.var, axis.dom)

        def simple(expression: PrimExpr) -> PrimExpr:
            return analyzer.simplify(expression) if "int" in str(expression.ty.dtype) else expression

        return tvm_ffi.structural_map(block, ((tirx.FloorDiv, tirx.FloorMod, tirx.Add), simple))

    return function.with_body(tvm_ffi.structural_map(function.body, (s_tir.SBlock, in_block)))


def inline_spatial(schedule: Schedule, *, keep: Collection[str]) -> None:
    """Inline blocks into their consumers, so that one pass remains where several stood.

    Kept are reductions, the last block, those named in `keep`, and those whose values are broadcast: inlined, they
    would be computed once per element of the result.
    """
    for block in blocks(schedule)[:-1]:
        if block_name(schedule, block) in keep or is_reduction(schedule, block) or is_broadcast(schedule, block):
            continue
        try:
            schedule.compute_inline(block)
        except s_tir.ScheduleError:
            # What cannot be inlined (an output of the function, for example) is computed on its own.
            continue


def is_broadcast(schedule: Schedule, block: BlockRV) -> bool:
    """Say whether a block without reduction has a consumer without reduction that computes more elements."""
    size = total(schedule, schedule.get_loops(block))
    consumers = [consumer for consumer in schedule.get_consumers(block) if not is_reduction(schedule, consumer)]
    return any(total(schedule, schedule.get_loops(consumer)) > size for consumer in consumers)


def take_epilogue(schedule: Schedule, block: BlockRV, *, columns: int) -> tuple[BlockRV, list[BlockRV]]:
    """Find the block that can store the results of a reduction tile by tile, and put the reduction into registers.

    Args:
        schedule: in which `inline_spatial` has been done.
        block: the reduction.
        columns: number of its kept loop that is the innermost.

    Returns:
        That block, and the blocks behind it that must be passes of their own: they compute another number of elements.
    """
    names = [block_name(schedule, each) for each in blocks(schedule)]
    following = blocks(schedule)[names.index(block_name(schedule, block)) + 1 :]
    if following:
        loops, kept = schedule.get_loops(following[0]), schedule.get_loops(block)[: columns + 1]
        if extents(schedule, loops) == extents(schedule, kept):
            schedule.set_scope(block, 0, "local")
            return following[0], following[1:]
    return schedule.cache_write(block, 0, "local"), following


def attach_epilogue(schedule: Schedule, epilogue: BlockRV, outer: Sequence[LoopRV], lanes: int) -> None:
    """Store results tile by tile: put an epilogue into the innermost of the loops around a tile, in vectors, unrolled.

    Args:
        schedule: whose blocks they are.
        epilogue: from `take_epilogue`.
        outer: the loops around a tile, all of them.
        lanes: elements of a vector.
    """
    # Loops of one trip stay, so that there is a last one whatever the shape.
    schedule.reverse_compute_at(epilogue, outer[-1], preserve_unit_loops=True)
    loops = schedule.get_loops(epilogue)[len(outer) :]
    vector, lane = schedule.split(loops[-1], [None, lanes])
    vectorise(schedule, lane)
    unroll_all(schedule, [*loops[:-1], vector])


def clear_tile(schedule: Schedule, block: BlockRV, outer: Sequence[LoopRV], reduced: LoopRV) -> None:
    """Clear the accumulators of a tile in vectors, unrolled, before the sum over `reduced` and what is in it.

    Args:
        schedule: whose block it is.
        block: the reduction.
        outer: the loops around a tile, all of them.
        reduced: the first reduced loop.
    """
    loops = schedule.get_loops(schedule.decompose_reduction(block, reduced))[len(outer) :]
    vectorise(schedule, loops[-1])
    unroll_all(schedule, loops[:-1])


def vectorise_copy(schedule: Schedule, loops: Sequence[LoopRV], processor: Processor) -> None:
    """Vectorise the innermost of a spatial block's loops, when a vector divides it."""
    lanes = processor.lanes_for(extent(schedule, loops[-1]))
    if lanes > 1:
        _, inner = schedule.split(loops[-1], [None, lanes])
        schedule.vectorize(inner)


def vectorise(schedule: Schedule, loop: LoopRV) -> None:
    """Vectorise a loop; one trip is no vector."""
    if extent(schedule, loop) > 1:
        schedule.vectorize(loop)


def unroll_all(schedule: Schedule, loops: Sequence[LoopRV]) -> None:
    """Unroll loops."""
    for loop in loops:
        schedule.unroll(loop)


def schedule_spatial(schedule: Schedule, block: BlockRV, processor: Processor, *, run: int | None = None) -> None:
    """Vectorise one block that has no reduction along its innermost axis, and share it between threads.

    Args:
        schedule: whose block it is.
        block: without reduction.
        processor: what for.
        run: elements of the innermost axis that follow each other in what is read; None when all do.
    """
    loops = schedule.get_loops(block)
    if not loops:
        return
    size = total(schedule, loops)
    if run is not None and run < extent(schedule, loops[-1]) and extent(schedule, loops[-1]) % run == 0:
        loops = [*loops[:-1], *schedule.split(loops[-1], [None, run])]
    innermost = extent(schedule, loops[-1])
    # A last axis of size 1 hides that what stands before it is contiguous.
    lanes = processor.lanes_for(size if innermost == 1 else innermost)
    *outer, inner = loops
    if lanes > 1:
        if innermost < INNER_TRIPS * lanes or size == innermost:
            outer, inner = [], fuse(schedule, loops)
        inner, lane = schedule.split(inner, [None, lanes])
        vectorise(schedule, lane)
    # Without lanes, LLVM finds vectors, and what is left over, in a loop of its own.
    shared = fuse(schedule, outer) if outer and size > innermost else inner
    if size > PARALLEL_ELEMENTS:
        schedule.parallel(shared)


def float32_zero() -> PrimExpr:
    """Return the float32 constant 0."""
    return tirx.const(0.0, "float32")
