"""Convolutions of 3x3 with stride 1 over stored integers by Winograd's F(2x2, 3x3), exact.

Where the instruction multiplies 16-bit values anyway, the transforms cost no accuracy: an image of 8 bits, transformed,
stays below 4 * 255, and the weights, transformed by twice the matrix G in both directions, below 9 * 128. The sums come
out four times as large, without a remainder. 16 products make 4 results instead of 36.

As in int8_product.py the frame holds the zero point, and what it adds to every sum goes into the bias.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1; the matrices are theirs.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8 import convolution
from crossfarm.backends.tvm.int8.convolution import schedule_frames
from crossfarm.backends.tvm.int8.dot_instructions import DOTS, Dot, IntegerUnit, tensor_intrinsic
from crossfarm.backends.tvm.int8.tiles import IntegerTile, integer_tile
from crossfarm.backends.tvm.int8.windows import FRAME, Window, framed
from crossfarm.backends.tvm.passes.relax_utils import Array, static_shape
from crossfarm.backends.tvm.schedules.hoisting import with_hoisted
from crossfarm.backends.tvm.schedules.primitives import (
    block_name,
    block_names,
    blocks,
    clear_tile,
    extent,
    extents,
    function_of,
    inline_spatial,
    schedule_of,
    schedule_spatial,
    total,
    unroll_all,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_FLOPS, Processor
from crossfarm.backends.tvm.schedules.tiles import divisors
from crossfarm.backends.tvm.schedules.winograd import IMAGE, KERNEL, SUM, Grid, row_of

_PREFIX = "crossfarm_int8_winograd_"
_ROWS, _TILES, _PRODUCT, _SUMS = _PREFIX + "rows", _PREFIX + "tiles", _PREFIX + "product", _PREFIX + "sums"
_CUT = _PREFIX + "cut"
_STEPS = {FRAME, _ROWS, _TILES, _PRODUCT, _SUMS}
_SIZE = 4
"""Rows and columns of a tile of the image."""
TILES_IN_STRIP = 16
"""Tiles that are worth reading all weights for: as many as a register tile has rows, and some."""
EVEN_ROWS = 2
"""Tiles that a register tile takes rather than others, with many channels beside each other: each block of channels
reads the transformed image again."""
STRIP_BYTES = 256 * 1024
"""Bytes of a transformed strip that stay in a second-level cache of 512 KB beside weights and products."""
IMAGE_COST = 56
"""Instructions that transform a vector of channels of a tile: 24 sums and what they load, widen and store."""
RESULT_COST = 60
"""Instructions that make 4 vectors of results of 16: the latter stored and loaded, 24 sums, 4 shifts."""
PARALLEL_OPERATIONS = 2 * PARALLEL_FLOPS
"""Operations below which a layer is not worth handing to other threads: those on 16 bits go twice as fast as floats."""
LARGEST = 4 * 255
"""What no transformed value of an image exceeds."""
MARGIN = 0.8
"""Share of the direct way's instructions below which it pays: the passes over the image have an overhead of their own,
and weights are 16 / 9 times as large."""


def convolve(
    image: Any, weights: Array, *, zero: int, window: Window, groups: int, builder: Any, unit: IntegerUnit
) -> Any:
    """Emit the sums of a convolution, so where it pays and directly elsewhere; see `int8_product.convolve`."""
    shape = static_shape(image) or ()
    if not pays(shape, weights, window=window, groups=groups, unit=unit):
        return convolution.convolve(image, weights, zero=zero, window=window, groups=groups, builder=builder, unit=unit)
    channels = weights.shape[3]
    grid, tile = _plan(*window.output(*shape[1:3]), depth=shape[3], channels=channels, unit=unit)
    packed = convolution.pack(transformed(weights), groups=1, wide=channels, block=tile.columns, dot=tile.dot)
    return builder.call_te(
        functools.partial(compute, window=window, zero=zero, grid=grid, tile=tile),
        image,
        relax.const(packed),
        primfunc_name_hint="winograd_int8",
        primfunc_attrs={"op_pattern": 4},
    )


def pays(image: tuple[int, ...], weights: Array, *, window: Window, groups: int, unit: IntegerUnit) -> bool:
    """Say whether a convolution can be computed so, and takes fewer instructions than directly.

    What counts are the steps of the register tiles, each with its loads, and the transforms. Tiles that overhang a
    result compute what nobody reads; for few channels the transforms weigh more than what they save. No sum may leave
    32 bits: whatever the image, none exceeds the largest transformed value times the sizes of all weights of a channel.

    Args:
        image: its shape, [n, height, width, channels].
        weights: stored int8 [kernel height, kernel width, channels of a group, output channels].
        window: how the kernel slides.
        groups: of channels.
        unit: what for.
    """
    batch, height, width, depth = image
    channels, dot = int(weights.shape[3]), unit.dots[-1]
    if window != Window(kernel=(3, 3), padding=window.padding) or groups != 1 or batch != 1:
        return False
    if dot.left != "int16" or depth % dot.depth or channels % dot.lanes or _largest_sum(weights) >= 2**31:
        return False
    rows, columns = window.output(height, width)
    grid, tile = _plan(rows, columns, depth=depth, channels=channels, unit=unit)
    lanes = next((2 * lanes for lanes in unit.lanes if lanes > 1 and depth % (2 * lanes) == 0), 1)
    transforms = IMAGE_COST * depth / lanes + RESULT_COST * channels / tile.dot.lanes
    ours = grid.down * grid.across * (_SIZE**2 * depth * channels * _per_product(tile) + transforms)
    straight = integer_tile(unit, rows=columns, columns=channels, steps=9 * depth // dot.depth)
    return ours < MARGIN * rows * columns * 9 * depth * channels * _per_product(straight)


def _largest_sum(weights: Array) -> int:
    return int(np.abs(transformed(weights)).astype(np.int64).sum(axis=(0, 1, 2)).max()) * LARGEST


def _per_product(tile: IntegerTile) -> float:
    """Return the instructions for one product of a register tile's step."""
    sums = tile.rows * tile.vectors
    instructions = sums * (1 if tile.dot.accumulates else 2) + tile.rows + tile.vectors
    return instructions / (sums * tile.dot.lanes * tile.dot.depth)


def _plan(rows: int, columns: int, *, depth: int, channels: int, unit: IntegerUnit) -> tuple[Grid, IntegerTile]:
    """Return the tiles of a result and the register tile of their products: strips as short as is worth the weights."""
    down, across = -(-rows // 2), -(-columns // 2)
    bytes_of_row = 2 * _SIZE**2 * across * depth
    fitting = [each for each in divisors(down, down) if each * bytes_of_row <= STRIP_BYTES] or [1]
    strip = next((each for each in fitting if each * across >= TILES_IN_STRIP), fitting[-1])
    grid = Grid(down=down, across=across, strip=strip)
    steps = depth // unit.dots[-1].depth
    return grid, integer_tile(unit, rows=grid.in_strip, columns=channels, steps=steps, even_rows=EVEN_ROWS)


def transformed(weights: Array) -> Array:
    """Return weights [3, 3, depth, channels] as int32 [4, 4, depth, channels]: (2 G) w (2 G)^T, which is exact."""
    matrix = np.array(KERNEL[2]) * 2
    exact: Array = np.einsum("ai,bj,ijck->abck", matrix, matrix, weights.astype(np.float64)).astype(np.int32)
    return exact


def compute(image: Any, packed: Any, *, window: Window, zero: int, grid: Grid, tile: IntegerTile) -> Any:
    """Return the te.Tensor of the sums: framed, transformed, multiplied, transformed back, a quarter, cut to size.

    Args:
        image: [1, height, width, channels].
        packed: transformed weights, as `int8_product.pack` returns them.
        window: how the kernel slides.
        zero: what stands around the image.
        grid: of tiles.
        tile: register tile of the products.
    """
    _, height, width, _ = (int(each) for each in image.shape)
    tiles = _transformed_image(_whole(image, window, grid, zero), grid)
    product = _product(tiles, packed, grid, tile)
    channels = int(product.shape[-1])
    sums = te.compute(
        (grid.strips, grid.strip, grid.across, 2, _SIZE, channels),
        lambda g, s, t, p, b, c: row_of(
            SUM[2], p, [product[g, a, b, s * grid.across + t, c] for a in range(_SIZE)], dtype="int32"
        ),
        name=_SUMS,
    )

    def cut(_: Any, y: Any, x: Any, c: Any) -> Any:
        row, column = tirx.floordiv(y, 2), tirx.floordiv(x, 2)
        strip, within = tirx.floordiv(row, grid.strip), tirx.floormod(row, grid.strip)
        values = [sums[strip, within, column, tirx.floormod(y, 2), b, c] for b in range(_SIZE)]
        fourfold = row_of(SUM[2], tirx.floormod(x, 2), values, dtype="int32")
        return tirx.shift_right(fourfold, tirx.const(2, "int32"))

    return te.compute((1, *window.output(height, width), channels), cut, name=_CUT)


def _whole(image: Any, window: Window, grid: Grid, zero: int) -> Any:
    """Return the te.Tensor of an image in a frame that is as large as all tiles."""
    _, height, width, _ = (int(each) for each in image.shape)
    top, left, _, _ = window.padding
    padding = (top, left, 2 * grid.down + 2 - height - top, 2 * grid.across + 2 - width - left)
    return framed(image, dataclasses.replace(window, padding=padding), fill=tirx.const(zero, str(image.dtype)))


def _transformed_image(source: Any, grid: Grid) -> Any:
    """Return the te.Tensor int16 [strips, 4, 4, tiles, channels] of a framed image."""
    depth = int(source.shape[3])

    def row(g: Any, s: Any, a: Any, x: Any, c: Any) -> Any:
        values = [source[0, 2 * (g * grid.strip + s) + i, x, c].astype("int16") for i in range(_SIZE)]
        return row_of(IMAGE[2], a, values, dtype="int16")

    rows = te.compute((grid.strips, grid.strip, _SIZE, 2 * grid.across + 2, depth), row, name=_ROWS)

    def column(g: Any, a: Any, b: Any, r: Any, c: Any) -> Any:
        down, across = tirx.floordiv(r, grid.across), tirx.floormod(r, grid.across)
        return row_of(IMAGE[2], b, [rows[g, down, a, 2 * across + j, c] for j in range(_SIZE)], dtype="int16")

    return te.compute((grid.strips, _SIZE, _SIZE, grid.in_strip, depth), column, name=_TILES)


def _product(tiles: Any, packed: Any, grid: Grid, tile: IntegerTile) -> Any:
    """Return the te.Tensor int32 [strips, 4, 4, tiles, output channels]: 16 products of matrices in each strip."""
    blocks_of_channels, _, _, steps, block, depth = (int(each) for each in packed.shape)
    step, k = te.reduce_axis((0, steps), "step"), te.reduce_axis((0, depth), "k")

    def element(g: Any, a: Any, b: Any, r: Any, c: Any) -> Any:
        weight = packed[tirx.floordiv(c, block), a, b, step, tirx.floormod(c, block), k]
        return te.sum(tiles[g, a, b, r, step * depth + k].astype("int32") * weight.astype("int32"), axis=[step, k])

    return te.compute(
        (grid.strips, _SIZE, _SIZE, grid.in_strip, blocks_of_channels * block),
        element,
        name=_PRODUCT,
        attrs={"crossfarm.dot": tile.dot.name, "crossfarm.rows": tile.rows},
    )


def matches(function: Any) -> bool:
    """Say whether a PrimFunc is a convolution of this module."""
    return _PRODUCT in block_names(function)


def schedule(function: Any, processor: Processor) -> Any:
    """Transform a strip of the image, then compute its results by blocks of channels.

    The 16 products of a block of channels stay in the first-level cache until they are transformed back, a vector of
    channels of a tile at a time; what is fused behind the convolution follows in registers. Threads share strips; where
    there is one strip only, they share the blocks of channels.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep={*_STEPS, _CUT})
    last, passes = _last(schedule)
    product, sums = schedule.get_sblock(_PRODUCT), schedule.get_sblock(_SUMS)
    body = schedule.get(product)
    dot, rows = DOTS[str(body.annotations["crossfarm.dot"])], int(body.annotations["crossfarm.rows"])
    vectors = int(body.reads[1].source.ty.shape[4]) // dot.lanes
    is_large = 2 * total(schedule, schedule.get_loops(product)) > PARALLEL_OPERATIONS
    strips, strip, across, *_ = extents(schedule, schedule.get_loops(sums))
    n, y, x, c = schedule.get_loops(last)
    g, s, p = schedule.split(y, [strips, strip, 2])
    t, q = schedule.split(x, [across, 2])
    columns, vector, lane = schedule.split(c, [None, vectors, dot.lanes])
    schedule.reorder(n, g, columns, s, t, vector, p, q, lane)
    schedule.compute_at(sums, vector, preserve_unit_loops=True)
    schedule.set_scope(sums, 0, "local")
    schedule.compute_at(product, columns, preserve_unit_loops=True)
    for name in (_TILES, _ROWS):
        schedule.compute_at(schedule.get_sblock(name), g, preserve_unit_loops=True)
    if is_large:
        schedule.parallel(g if strips > 1 else columns)
    vectorise(schedule, lane)
    unroll_all(schedule, [p, q])
    *_, row, column, sums_lane = schedule.get_loops(sums)
    vectorise(schedule, sums_lane)
    unroll_all(schedule, [row, column])
    _schedule_product(schedule, product, dot, rows=rows, vectors=vectors)
    _schedule_image(schedule, processor)
    schedule_frames(schedule, processor)
    for each in passes:
        schedule_spatial(schedule, each, processor)
    return with_hoisted(function_of(schedule))


def _last(schedule: Any) -> tuple[Any, list[Any]]:
    """Return the block that stores results, with what is fused behind the convolution, and blocks behind it."""
    cut = schedule.get_sblock(_CUT)
    names = [block_name(schedule, each) for each in blocks(schedule)]
    behind = blocks(schedule)[names.index(_CUT) + 1 :]
    if behind and extents(schedule, schedule.get_loops(behind[0])) == extents(schedule, schedule.get_loops(cut)):
        schedule.compute_inline(cut)
        return behind[0], behind[1:]
    return cut, behind


def _schedule_product(schedule: Any, product: Any, dot: Dot, *, rows: int, vectors: int) -> None:
    """Tile the products for registers, and put the instruction inside."""
    stored = schedule.cache_write(product, 0, "local")
    tiles, columns, step, k = schedule.get_loops(product)[-4:]
    row_block, row = schedule.split(tiles, [None, rows])
    vector, lane = schedule.split(columns, [vectors, dot.lanes])
    tile = [vector, row] if vectors > rows else [row, vector]
    inner = [*tile, lane, k] if dot.intrinsic else [k, *tile, lane]
    schedule.reorder(row_block, step, *inner)
    schedule.reverse_compute_at(stored, row_block, preserve_unit_loops=True)
    outer = schedule.get_loops(product)[:-5]
    loops = schedule.get_loops(stored)[len(outer) :]
    stored_vector, stored_lane = schedule.split(loops[-1], [None, dot.lanes])
    vectorise(schedule, stored_lane)
    unroll_all(schedule, [*loops[:-1], stored_vector])
    unroll_all(schedule, tile)
    if not dot.intrinsic:
        vectorise(schedule, lane)
    clear_tile(schedule, product, outer, step)
    if dot.intrinsic:
        schedule.tensorize(lane, tensor_intrinsic(dot))


def _schedule_image(schedule: Any, processor: Processor) -> None:
    """Vectorise the transforms of the image over channels, and unroll the axes that pick a row of the matrix."""
    for name, picked in ((_ROWS, [1]), (_TILES, [0, 1])):
        loops = schedule.get_loops(schedule.get_sblock(name))[-4:]
        channels = extent(schedule, loops[-1])
        lanes = next((2 * each for each in processor.lanes if each > 1 and channels % (2 * each) == 0), 1)
        vector, lane = schedule.split(loops[-1], [None, lanes])
        unrolled = [loops[place] for place in picked]
        others = [loop for place, loop in enumerate(loops[:-1]) if place not in picked]
        schedule.reorder(*others, vector, *unrolled, lane)
        vectorise(schedule, lane)
        unroll_all(schedule, unrolled)
