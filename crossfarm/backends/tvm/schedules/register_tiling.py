"""The schedule of everything that is a sum of products: convolutions and dense layers over packed weights.

A register tile of R rows (pixels) by V vectors of L channels. Each cell is one vector register of float32 accumulators;
for each step of the sum, V vectors of weights are loaded, R values are broadcast, and R * V multiply-adds are issued:

                     weights[step, vector 0]   weights[step, vector 1]
                    +-----------------------+-----------------------+
    image[row 0, k] | acc[0, 0]             | acc[0, 1]             |
    image[row 1, k] | acc[1, 0]             | acc[1, 1]             |
    image[row 2, k] | acc[2, 0]             | acc[2, 1]             |
                    +-----------------------+-----------------------+

The loops of a convolution, from outside: tiles of rows, blocks of columns, kernel rows, kernel columns, input channels;
inside of them the tile, unrolled. Then the epilogue (bias, activation) stores the tile.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tvm import tirx

from crossfarm.backends.tvm.schedules.choices import RUN, Layer, ProductChoice, product_choice
from crossfarm.backends.tvm.schedules.hoisting import mark_copy, with_hoisted
from crossfarm.backends.tvm.schedules.overlapping_tiles import without_guards
from crossfarm.backends.tvm.schedules.primitives import (
    attach_epilogue,
    block_name,
    blocks,
    clear_tile,
    extents,
    function_of,
    fuse,
    inline_spatial,
    row_major,
    schedule_of,
    schedule_spatial,
    simple_indices,
    take_epilogue,
    total,
    unroll_all,
    vectorise,
    vectorise_copy,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, PARALLEL_FLOPS, Processor
from crossfarm.backends.tvm.schedules.tiles import Product, Tile, divisors, register_tiles
from crossfarm.backends.tvm.types import BlockRV, PrimExpr, PrimFunc, Schedule, Var

PADDED_INPUT = "crossfarm_padded_input"
"""Block that copies the input into its zero padding."""
PATCHES = "crossfarm_patches"
"""Block that gathers the windows of an image."""
STREAMED_WEIGHTS = 256_000
"""Bytes of weights beyond which they do not stay in a second-level cache of 512 KB beside input and result: these pass
through it too, and memory is not spread evenly over it. A layer of 35x35x96 with 332 KB went from 0.87 to 0.96 of the
peak with its channels outside."""
DEPTH_UNROLL = 4
"""Steps of the sum in a row: loop overhead is spread, and code stays small enough for the decoded-instruction
cache."""
DEPTH_UNROLL_ACCUMULATORS = 16
"""Tiles larger than that keep the loop's body long enough as they are."""
PARALLEL_CHUNKS = 16
"""Trips that a parallel loop should have at least, so that up to 8 threads are loaded evenly; fusing more of the outer
loops than needed costs index arithmetic in the inner ones (up to 25 % on one thread)."""


def choose(layer: Layer, processor: Processor) -> ProductChoice | None:
    """Decide how a product is computed, from its shape and the processor's registers.

    Order of loops: tiles of rows, then tiles of columns inside, so that an input row is read once while the weights
    stay in the cache; the other way round when the weights are too large for that.

    Returns:
        None when no tile fits.
    """
    tiles = register_tiles(processor, product_of(layer))
    if not tiles:
        return None
    choice = with_tile(layer, tiles[0], columns_first=4 * layer.channels * layer.steps > STREAMED_WEIGHTS)
    return choice if processor.unrolls_depth else dataclasses.replace(choice, depth_unroll=1)


def product_of(layer: Layer) -> Product:
    """Return the matrix product that a layer is, as far as its tile depends on it."""
    return Product(
        rows=layer.pixels,
        run=layer.pixels if layer.is_matrix_product else layer.output[1],
        columns=layer.per_group,
        steps=layer.steps,
        depth=layer.image[3] * layer.strides[1],
    )


def with_tile(layer: Layer, tile: Tile | ProductChoice, *, columns_first: bool) -> ProductChoice:
    """Return the choice for a tile and an order of loops; all else follows from these."""
    blocks_of_columns = layer.groups * -(-layer.per_group // tile.columns)
    # A loop of one trip outside would change nothing but the form of the guard of a last tile that overlaps.
    columns_first = columns_first and blocks_of_columns > 1
    trips = [-(-layer.pixels // tile.rows), blocks_of_columns]
    return ProductChoice(
        rows=tile.rows,
        vectors=tile.vectors,
        lanes=tile.lanes,
        columns_first=columns_first,
        depth_unroll=depth_unroll(layer.depth, tile),
        shared_loops=shared_loops(trips[::-1] if columns_first else trips) if layer.flops > PARALLEL_FLOPS else 0,
    )


def depth_unrolls(layer: Layer) -> tuple[int, ...]:
    """Return the numbers of steps in a row that are worth trying for a layer."""
    return tuple(steps for steps in (1, 2, DEPTH_UNROLL) if layer.depth % steps == 0 and layer.depth > steps) or (1,)


def depth_unroll(depth: int, tile: Tile | ProductChoice) -> int:
    """Return how many steps of a sum a loop should do in each trip; a divisor of the depth."""
    if tile.rows * tile.vectors > DEPTH_UNROLL_ACCUMULATORS:
        return 1
    return depth if depth < DEPTH_UNROLL else max(divisors(depth, DEPTH_UNROLL))


def shared_loops(trips: Sequence[int]) -> int:
    """Return how many of the outer loops, by their trips, should become one that threads share; 0 for none."""
    count = 1
    while count < len(trips) and math.prod(trips[:count]) < PARALLEL_CHUNKS:
        count += 1
    return count if math.prod(trips[:count]) > 1 else 0


def schedule_product(
    function: PrimFunc, processor: Processor, *, name: str, spatial: int, stacked: int = 0
) -> PrimFunc:
    """Tile a sum of products for registers, attach the epilogue to the tile, and vectorise over columns.

    All pixels become one long row, which tiles cut without regard to the image's rows; where they do not divide it,
    the last tile overlaps the one before. Within a tile the sum runs outside of rows and columns, which are unrolled.
    The window of a convolution is not unrolled: that spills and halves the speed.

    Args:
        function: PrimFunc with a block `name` of loops [spatial..., columns, window..., depth] that reads the input and
            then the weights, packed as [block, window..., depth, columns of a block]; it carries its choice.
        processor: what for.
        name: of the block.
        spatial: number of loops that stand before the columns.
        stacked: how many of those no tile may cross, because the right operand changes with them.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep={PADDED_INPUT, PATCHES, name})
    block = schedule.get_sblock(name)
    choice = product_choice(schedule.get(block).annotations)
    run = int(str(schedule.get(block).annotations[RUN]))
    epilogue, passes = take_epilogue(schedule, block, columns=spatial)
    names = [block_name(schedule, each) for each in (epilogue, *passes)]
    schedule = _flatten(schedule, block, epilogue, stacked=stacked, spatial=spatial, strip=choice.gathered_rows)
    block, epilogue, *passes = (schedule.get_sblock(each) for each in (name, *names))
    *stack, pixels, columns = schedule.get_loops(block)[: 3 if stacked or choice.gathered_rows else 2]
    reduced = list(schedule.get_loops(block)[len(stack) + 2 :])
    strips = total(schedule, stack)
    # pixels = block of rows, row of the tile; columns = block of packed weights, vector of the block, lane
    row_block, row = schedule.split(pixels, [None, choice.rows])
    column_block, vector, lane = schedule.split(columns, [None, choice.vectors, choice.lanes])
    order = [*stack, *([column_block, row_block] if choice.columns_first else [row_block, column_block])]
    schedule.reorder(*order, *reduced, row, vector, lane)
    if choice.shared_loops:
        shared = fuse(schedule, order[: choice.shared_loops])
        schedule.parallel(shared)
        order = [shared, *order[choice.shared_loops :]]
    attach_epilogue(schedule, epilogue, order, choice.lanes)
    vectorise(schedule, lane)
    unroll_all(schedule, [vector, row])
    if choice.depth_unroll > 1:
        reduced[-1], inner = schedule.split(reduced[-1], [None, choice.depth_unroll])
        schedule.unroll(inner)
    # The first of the reduced loops: the accumulators are cleared once per tile.
    clear_tile(schedule, block, order, reduced[0])
    if choice.gathered_rows and strips > 1:
        schedule.compute_at(schedule.get_sblock(PATCHES), order[0], preserve_unit_loops=True)
    _schedule_padding(schedule, processor)
    for each in passes:
        schedule_spatial(schedule, each, processor, run=run)
    return with_hoisted(without_guards(function_of(schedule)))


def _flatten(
    schedule: Schedule, block: BlockRV, epilogue: BlockRV, *, stacked: int, spatial: int, strip: int
) -> Schedule:
    """Make one axis of the spatial axes of a product, its accumulators and its epilogue; and one of those stacked.

    With strips of patches, [image, row, column] becomes [strip, pixel of the strip].

    Returns:
        The schedule that goes on; blocks keep their names.
    """
    if spatial == 1:
        return schedule
    shape = extents(schedule, schedule.get_loops(block)[:spatial])

    def flat(*axes: Var) -> tuple[PrimExpr, ...]:
        stack = [row_major(axes[:stacked], shape[:stacked])] if stacked else []
        return (*stack, row_major(axes[stacked:spatial], shape[stacked:]), *axes[spatial:])

    def in_strips(*axes: Var) -> tuple[PrimExpr, ...]:
        image, row, column = axes[:spatial]
        index = image * (shape[1] // strip) + tirx.floordiv(row, strip)
        return (index, tirx.floormod(row, strip) * shape[2] + column, *axes[spatial:])

    layout = in_strips if strip else flat
    schedule.transform_layout(block, ("write", 0), layout)
    for each in (block, epilogue):
        axes = len(schedule.get_loops(each))
        schedule.transform_block_layout(each, tirx.IndexMap.from_func(layout, ndim=axes))
    if not strip:
        return schedule
    # The schedule leaves quotients in indices that the bounds of the strip's axes make simple.
    return schedule_of(simple_indices(function_of(schedule)))


def _schedule_padding(schedule: Schedule, processor: Processor) -> None:
    """Vectorise what lays out the input, and share it between threads where it is not a part of what they share."""
    for block in blocks(schedule):
        if block_name(schedule, block) not in (PADDED_INPUT, PATCHES):
            continue
        loops = schedule.get_loops(block)
        size = total(schedule, loops)
        if len(loops) > 3:
            # A matrix alone has three: block, row and column.
            mark_copy(schedule, loops[2])
        vectorise_copy(schedule, loops, processor)
        if size > PARALLEL_ELEMENTS and block_name(schedule, block) == PADDED_INPUT:
            schedule.parallel(fuse(schedule, schedule.get_loops(block)[:2]))
