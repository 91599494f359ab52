"""What the schedules of all integer products share: convolution.py, depthwise_dot4.py and winograd.py.

A register tile of R rows (pixels) by V vectors of L channels each is computed at once; each cell is one vector register
of int32 accumulators:

               vector 0   vector 1          packed weights, one vector each
              +----------+----------+
    row 0     | acc[0,0] | acc[0,1] |  <--  activations of pixel 0, broadcast to all lanes
    row 1     | acc[1,0] | acc[1,1] |  <--  activations of pixel 1
    row 2     | acc[2,0] | acc[2,1] |  <--  activations of pixel 2
              +----------+----------+

    clear the tile (or load the bias)  ->  for each step of the sum: R * V dot-product instructions  ->  epilogue
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from crossfarm.backends.tvm.int8.activations import HARD_SWISH
from crossfarm.backends.tvm.int8.bias_init import with_initial
from crossfarm.backends.tvm.int8.dot_instructions import DOTS, Dot, tensor_intrinsic
from crossfarm.backends.tvm.int8.epilogue_strips import StripEpilogue, attach_strips, detach_epilogue
from crossfarm.backends.tvm.int8.few_channels import MERGED_AXES, schedule_merged_rows
from crossfarm.backends.tvm.int8.overlapping_vectors import store_all_slots
from crossfarm.backends.tvm.int8.windows import PADDED, vector_of_bytes
from crossfarm.backends.tvm.schedules.hoisting import mark_copy, with_hoisted
from crossfarm.backends.tvm.schedules.primitives import (
    block_name,
    blocks,
    clear_tile,
    extent,
    function_of,
    fuse,
    schedule_of,
    schedule_spatial,
    take_epilogue,
    total,
    unroll_all,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, PARALLEL_FLOPS, Processor
from crossfarm.backends.tvm.types import BlockRV, LoopRV, PrimFunc, Schedule

DOT, ROWS = "crossfarm.dot", "crossfarm.rows"
"""Annotations of the accumulators' block: name of the instruction, and rows of a register tile."""
RESULT_OPERATIONS = 10
"""The epilogue of an accumulator takes about as long as that many operations on floats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductSchedule:
    """The schedule of an integer product that has just begun.

    Attributes:
        schedule: of the function without its last block, where that runs over strips.
        block: the accumulators, of loops [n, y, x, channels, reduced...].
        name: of that block.
        dot: the instruction.
        epilogue: the block that stores the results of a tile.
        passes: blocks behind it, which are passes of their own.
        strips: the last block of the function, where it has been taken away to run over strips.
    """

    schedule: Schedule
    block: BlockRV
    name: str
    dot: Dot
    epilogue: BlockRV
    passes: Sequence[BlockRV]
    strips: StripEpilogue | None

    def finish(self, processor: Processor) -> PrimFunc:
        """Schedule what stands around the tiles, and return the function."""
        schedule_padding(self.schedule, processor)
        for each in self.passes:
            schedule_spatial(self.schedule, each, processor)
        return with_hoisted(attach_strips(with_initial(function_of(self.schedule), self.name), self.strips))


def begin(function: PrimFunc, processor: Processor, *, name: str, keep: Collection[str]) -> ProductSchedule:
    """Begin the schedule of a product: inline what can be, and find the epilogue.

    Args:
        function: PrimFunc that is not scheduled.
        processor: what for.
        name: of the block of the accumulators, which is annotated with DOT.
        keep: more names of blocks that are not inlined.
    """
    function, strips = detach_epilogue(function, processor, last=HARD_SWISH)
    schedule = store_all_slots(schedule_of(function), accumulators=name, keep={PADDED, name, *keep})
    block = schedule.get_sblock(name)
    dot = DOTS[str(schedule.get(block).annotations[DOT])]
    epilogue, passes = take_epilogue(schedule, block, columns=3)
    return ProductSchedule(
        schedule=schedule, block=block, name=name, dot=dot, epilogue=epilogue, passes=passes, strips=strips
    )


def tile_loops(row: LoopRV, vector: LoopRV, *, rows: int, vectors: int) -> list[LoopRV]:
    """Return the loops of a tile in order: what there is more of is loaded in the outer loop, and has one register."""
    return [vector, row] if vectors > rows else [row, vector]


def inner_loops(tile: Sequence[LoopRV], lane: LoopRV, k: LoopRV, dot: Dot) -> list[LoopRV]:
    """Return the loops of a step in order: an instruction takes lanes and `k`, plain vectors take the lanes alone."""
    return [*tile, lane, k] if dot.intrinsic else [k, *tile, lane]


def compute_tile(
    schedule: Schedule,
    block: BlockRV,
    *,
    tile: Sequence[LoopRV],
    lane: LoopRV,
    dot: Dot,
    outer: Sequence[LoopRV],
    reduced: LoopRV,
) -> None:
    """Unroll a tile, clear its accumulators first, and put the instruction inside.

    Args:
        schedule: whose loops they are.
        block: the accumulators.
        tile: loops of the tile.
        lane: loop over the lanes of a vector.
        dot: the instruction.
        outer: the loops around a tile, all of them.
        reduced: the first reduced loop.
    """
    unroll_all(schedule, tile)
    if not dot.intrinsic:
        vectorise(schedule, lane)
    # Only now: a reduction without its start is no longer known as one.
    clear_tile(schedule, block, outer, reduced)
    if dot.intrinsic:
        schedule.tensorize(lane, tensor_intrinsic(dot))


def is_worth_threads(dot: Dot, *, operations: int, results: int) -> bool:
    """Say whether a layer is large enough to be handed to other threads: a product of n goes n times as fast as one."""
    return operations // dot.depth + RESULT_OPERATIONS * results > PARALLEL_FLOPS


def schedule_padding(schedule: Schedule, processor: Processor) -> None:
    """Copy images into their padding in vectors of bytes, and share large ones between threads."""
    for block in blocks(schedule):
        if block_name(schedule, block) != PADDED:
            continue
        loops = schedule.get_loops(block)
        size = total(schedule, loops)
        if len(loops) == MERGED_AXES:
            schedule_merged_rows(schedule, block)
            continue
        mark_copy(schedule, loops[2])
        lanes = min(vector_of_bytes(extent(schedule, loops[-1])), 4 * processor.widest)
        _, lane = schedule.split(loops[-1], [None, lanes])
        vectorise(schedule, lane)
        if size > PARALLEL_ELEMENTS:
            schedule.parallel(fuse(schedule, schedule.get_loops(block)[:2]))
