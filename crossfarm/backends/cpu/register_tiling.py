"""The schedule of everything that is a sum of products: convolutions and dense layers over packed weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from crossfarm.backends.cpu.processor import PARALLEL_ELEMENTS, PARALLEL_FLOPS, Processor
from crossfarm.backends.cpu.schedules import (
    block_name,
    blocks,
    extent,
    function_of,
    fuse,
    inline_spatial,
    schedule_of,
    schedule_spatial,
    take_epilogue,
    total,
    unroll_all,
    vectorise,
    vectorise_copy,
)
from crossfarm.backends.cpu.tiles import Tile, register_tiles

PADDED_INPUT = "crossfarm_padded_input"
"""Block that copies the input into a frame of noughts."""
STREAMED_WEIGHTS = 400_000
"""Bytes of weights beyond which they do not stay in a second-level cache of 512 KB beside the input."""
DEPTH_UNROLL = 4
"""Steps of the sum in a row: loop overhead is spread, and code stays small enough for the decoded-instruction cache."""
DEPTH_UNROLL_ACCUMULATORS = 16
"""Tiles larger than that keep the loop's body long enough as they are."""
PARALLEL_CHUNKS = 16
"""Trips that a parallel loop should have at least, so that up to 8 threads are loaded evenly; fusing more of the outer
loops than needed costs index arithmetic in the inner ones (up to 25 % on one thread)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """Which loops of a block are which.

    Attributes:
        spatial: number of loops that stand before the columns: the rows are the last of them.
        flat: rows of all spatial loops follow each other in memory, so that they are one long row.
    """

    spatial: int
    flat: bool


def tile_of(processor: Processor, *, rows: int, packed: Sequence[int]) -> Tile | None:
    """Return the tile that fits weights which are packed already.

    Args:
        processor: whose registers.
        rows: of the result that a tile may hold.
        packed: shape of the weights: [blocks, ..., depth, columns of a block].
    """
    *_, depth, columns = packed
    tiles = register_tiles(processor, rows=rows, columns=packed[0] * columns, depth=depth)
    return next((tile for tile in tiles if tile.columns == columns), None)


def schedule_product(function: Any, processor: Processor, *, name: str, axes: Axes) -> Any:
    """Tile a sum of products for registers, attach what follows it to the tile, and vectorise over columns.

    Order of loops: tiles of rows, then tiles of columns inside, so that an input row is read once while the weights
    stay in the cache; the other way round when the weights are too large for that. Within a tile the sum runs outside
    of rows and columns, which are unrolled. The window of a convolution is not unrolled: that spills and halves the
    speed.

    Args:
        function: PrimFunc with a block `name` of loops [spatial..., columns, window..., depth] that reads the input and
            then the weights, packed as [block, window..., depth, columns of a block].
        processor: what for.
        name: of the block.
        axes: which of its loops are which.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
        ValueError: no tile fits it; likewise.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep={PADDED_INPUT, name})
    block = schedule.get_sblock(name)
    epilogue, passes = take_epilogue(schedule, block, columns=axes.spatial)
    loops = schedule.get_loops(block)
    spatial, columns, reduced = loops[: axes.spatial], loops[axes.spatial], list(loops[axes.spatial + 1 :])
    packed = [int(extent_) for extent_ in schedule.get(block).reads[1].source.ty.shape]
    tile = tile_of(processor, rows=extent(schedule, spatial[-1]), packed=packed)
    if tile is None:
        raise ValueError(f"no register tile for {packed} in rows of {extent(schedule, spatial[-1])}")
    flops = 2 * total(schedule, loops)
    weights = 4 * total(schedule, [columns, *reduced])

    outer, row = _split_rows(schedule, spatial, tile, flat=axes.flat)
    column_block, vector, lane = schedule.split(columns, [None, tile.vectors, tile.lanes])
    order = [column_block, *outer] if weights > STREAMED_WEIGHTS else [*outer, column_block]
    schedule.reorder(*order, *reduced, row, vector, lane)
    if flops > PARALLEL_FLOPS:
        order = _parallelise(schedule, order)
    _attach(schedule, epilogue, order, tile)
    vectorise(schedule, lane)
    unroll_all(schedule, [vector, row])
    reduced[-1] = _unroll_depth(schedule, reduced[-1], tile)
    # The first of the reduced loops: the accumulators are cleared once per tile.
    start = schedule.decompose_reduction(block, reduced[0])
    start_loops = schedule.get_loops(start)[len(order) :]
    vectorise(schedule, start_loops[-1])
    unroll_all(schedule, start_loops[:-1])
    _schedule_padding(schedule, processor)
    for each in passes:
        schedule_spatial(schedule, each, processor)
    return function_of(schedule)


def _split_rows(schedule: Any, spatial: Sequence[Any], tile: Tile, *, flat: bool) -> tuple[list[Any], Any]:
    if flat:
        block, row = schedule.split(fuse(schedule, spatial), [None, tile.rows])
        return [block], row
    block, row = schedule.split(spatial[-1], [None, tile.rows])
    return [*spatial[:-1], block], row


def _parallelise(schedule: Any, order: Sequence[Any]) -> list[Any]:
    count = 1
    while count < len(order) and total(schedule, order[:count]) < PARALLEL_CHUNKS:
        count += 1
    if total(schedule, order[:count]) == 1:
        return list(order)
    chunk = fuse(schedule, order[:count])
    schedule.parallel(chunk)
    return [chunk, *order[count:]]


def _attach(schedule: Any, epilogue: Any, order: Sequence[Any], tile: Tile) -> None:
    # Loops of one trip stay, so that there is a last one whatever the shape.
    schedule.reverse_compute_at(epilogue, order[-1], preserve_unit_loops=True)
    loops = schedule.get_loops(epilogue)[len(order) :]
    vector, lane = schedule.split(loops[-1], [None, tile.lanes])
    vectorise(schedule, lane)
    unroll_all(schedule, [*loops[:-1], vector])


def _unroll_depth(schedule: Any, depth: Any, tile: Tile) -> Any:
    """Return the loop over the depth, of which each trip does several steps."""
    trips = extent(schedule, depth)
    small = tile.rows * tile.vectors <= DEPTH_UNROLL_ACCUMULATORS
    if small and trips % DEPTH_UNROLL == 0 and trips > DEPTH_UNROLL:
        depth, inner = schedule.split(depth, [None, DEPTH_UNROLL])
        schedule.unroll(inner)
    return depth


def _schedule_padding(schedule: Any, processor: Processor) -> None:
    for block in blocks(schedule):
        if block_name(schedule, block) != PADDED_INPUT:
            continue
        loops = schedule.get_loops(block)
        size = total(schedule, loops)
        vectorise_copy(schedule, loops, processor)
        if size > PARALLEL_ELEMENTS:
            schedule.parallel(fuse(schedule, schedule.get_loops(block)[:2]))
