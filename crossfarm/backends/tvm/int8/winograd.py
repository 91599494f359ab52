"""Convolutions of 3x3 with stride 1 over quantised integers by Winograd's F(2x2, 3x3), exact.

    padded image     transformed image        products of matrices      inverse transform
    4x4 pixels,      16 numbers, int16        [tiles, C] x [C, K]       2x2 results
    2 apart          (a, b) = 4x4             for each (a, b), int32    int32, a fourth
    +--+--+--+--+       +--+--+--+--+            +--+--+--+--+             +--+--+
    |  |  |  |  |       |  |  |  |  |            |  |  |  |  |             |  |  |
    +--+--+--+--+  B^T  +--+--+--+--+   weights  +--+--+--+--+    A^T      +--+--+
    |  |  |  |  | ----> |  |  |  |  | ---------> |  |  |  |  | -------->   |  |  |
    +--+--+--+--+       +--+--+--+--+            +--+--+--+--+             +--+--+

Where the instruction multiplies 16-bit values anyway, the transforms cost no accuracy: an image of 8 bits, transformed,
stays below 4 * 255, and the weights, transformed by twice the matrix G in both directions, below 9 * 128. The
accumulators come out four times as large, without a remainder. 16 products make 4 results instead of 36.

As in convolution.py the image is padded with its zero point, and what that adds to every accumulator goes into the
bias.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1; the matrices are theirs.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8 import convolution
from crossfarm.backends.tvm.int8.dot_instructions import DOTS, Dot, IntegerUnit
from crossfarm.backends.tvm.int8.register_tiles import (
    DOT,
    ROWS,
    compute_tile,
    inner_loops,
    schedule_padding,
    tile_loops,
)
from crossfarm.backends.tvm.int8.tiles import IntegerTile, integer_tile
from crossfarm.backends.tvm.int8.windows import PADDED, Window, padded_image
from crossfarm.backends.tvm.passes.relax_utils import static_shape
from crossfarm.backends.tvm.schedules.hoisting import with_hoisted
from crossfarm.backends.tvm.schedules.primitives import (
    block_name,
    block_names,
    blocks,
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
from crossfarm.backends.tvm.types import (
    Array,
    BlockBuilder,
    BlockRV,
    PrimExpr,
    PrimFunc,
    RelaxCall,
    RelaxExpr,
    Schedule,
    Tensor,
    Var,
)

_PREFIX = "crossfarm_int8_winograd_"
_ROWS, _TILES, _PRODUCT, _SUMS = _PREFIX + "rows", _PREFIX + "tiles", _PREFIX + "product", _PREFIX + "sums"
_CROPPED = _PREFIX + "cut"
_STEPS = {PADDED, _ROWS, _TILES, _PRODUCT, _SUMS}
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
    image: RelaxExpr,
    weights: Array,
    *,
    zero: int,
    window: Window,
    groups: int,
    builder: BlockBuilder,
    unit: IntegerUnit,
) -> RelaxCall:
    """Emit the accumulators of a convolution, so where it pays and directly elsewhere; see `convolution.convolve`."""
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
    result compute what is not read; for few channels the transforms weigh more than what they save. No accumulator may
    leave 32 bits: whatever the image, none exceeds the largest transformed value times the sizes of all weights of a
    channel.

    Args:
        image: its shape, [N, H, W, C].
        weights: int8 [kernel height, kernel width, channels of a group, output channels].
        window: how the kernel slides.
        groups: of channels.
        unit: what for.
    """
    batch, height, width, depth = image
    channels, dot = int(weights.shape[3]), unit.dots[-1]
    if window != Window(kernel=(3, 3), padding=window.padding) or groups != 1 or batch != 1:
        return False
    if dot.left != "int16" or depth % dot.depth or channels % dot.lanes or _largest_accumulator(weights) >= 2**31:
        return False
    rows, columns = window.output(height, width)
    grid, tile = _plan(rows, columns, depth=depth, channels=channels, unit=unit)
    lanes = next((2 * lanes for lanes in unit.lanes if lanes > 1 and depth % (2 * lanes) == 0), 1)
    transforms = IMAGE_COST * depth / lanes + RESULT_COST * channels / tile.dot.lanes
    ours = grid.down * grid.across * (_SIZE**2 * depth * channels * _per_product(tile) + transforms)
    straight = integer_tile(unit, rows=columns, columns=channels, steps=9 * depth // dot.depth)
    return ours < MARGIN * rows * columns * 9 * depth * channels * _per_product(straight)


def _largest_accumulator(weights: Array) -> int:
    return int(np.abs(transformed(weights)).astype(np.int64).sum(axis=(0, 1, 2)).max()) * LARGEST


def _per_product(tile: IntegerTile) -> float:
    """Return the instructions for one product of a register tile's step."""
    accumulators = tile.rows * tile.vectors
    instructions = accumulators * (1 if tile.dot.accumulates else 2) + tile.rows + tile.vectors
    return instructions / (accumulators * tile.dot.lanes * tile.dot.depth)


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


def compute(image: Tensor, packed: Tensor, *, window: Window, zero: int, grid: Grid, tile: IntegerTile) -> Tensor:
    """Return the accumulators: padded, transformed, multiplied, transformed back, divided by 4, cropped.

    Args:
        image: [1, H, W, C] uint8 or int8.
        packed: transformed weights, as `convolution.pack` returns them.
        window: how the kernel slides.
        zero: zero point, with which the image is padded.
        grid: of tiles.
        tile: register tile of the products.

    Returns:
        int32 [1, rows, columns, output channels].
    """
    _, height, width, _ = (int(each) for each in image.shape)
    # tiles: [strips, 4, 4, tiles of a strip, C] int16
    tiles = _transformed_image(_padded(image, window, grid, zero), grid)
    # product: [strips, 4, 4, tiles of a strip, output channels] int32
    product = _product(tiles, packed, grid, tile)
    channels = int(product.shape[-1])
    # sums: [strips, rows of tiles, columns of tiles, 2, 4, output channels] int32, transformed back in one direction
    sums = te.compute(
        (grid.strips, grid.strip, grid.across, 2, _SIZE, channels),
        lambda g, s, t, p, b, c: row_of(
            SUM[2], p, [product[g, a, b, s * grid.across + t, c] for a in range(_SIZE)], dtype="int32"
        ),
        name=_SUMS,
    )

    def cropped(_: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        row, column = tirx.floordiv(y, 2), tirx.floordiv(x, 2)
        strip, within = tirx.floordiv(row, grid.strip), tirx.floormod(row, grid.strip)
        values = [sums[strip, within, column, tirx.floormod(y, 2), b, c] for b in range(_SIZE)]
        fourfold = row_of(SUM[2], tirx.floormod(x, 2), values, dtype="int32")
        return tirx.shift_right(fourfold, tirx.const(2, "int32"))

    return te.compute((1, *window.output(height, width), channels), cropped, name=_CROPPED)


def _padded(image: Tensor, window: Window, grid: Grid, zero: int) -> Tensor:
    """Return an image padded to the size of all tiles, [1, 2 * rows of tiles + 2, 2 * columns of tiles + 2, C]."""
    _, height, width, _ = (int(each) for each in image.shape)
    top, left, _, _ = window.padding
    padding = (top, left, 2 * grid.down + 2 - height - top, 2 * grid.across + 2 - width - left)
    return padded_image(image, dataclasses.replace(window, padding=padding), fill=tirx.const(zero, str(image.dtype)))


def _transformed_image(source: Tensor, grid: Grid) -> Tensor:
    """Return int16 [strips, 4, 4, tiles of a strip, C] of a padded image."""
    depth = int(source.shape[3])

    def row(g: Var, s: Var, a: Var, x: Var, c: Var) -> PrimExpr:
        values = [source[0, 2 * (g * grid.strip + s) + i, x, c].astype("int16") for i in range(_SIZE)]
        return row_of(IMAGE[2], a, values, dtype="int16")

    # rows: [strips, rows of tiles, 4, 2 * columns of tiles + 2, C] int16, transformed in one direction
    rows = te.compute((grid.strips, grid.strip, _SIZE, 2 * grid.across + 2, depth), row, name=_ROWS)

    def column(g: Var, a: Var, b: Var, r: Var, c: Var) -> PrimExpr:
        down, across = tirx.floordiv(r, grid.across), tirx.floormod(r, grid.across)
        return row_of(IMAGE[2], b, [rows[g, down, a, 2 * across + j, c] for j in range(_SIZE)], dtype="int16")

    return te.compute((grid.strips, _SIZE, _SIZE, grid.in_strip, depth), column, name=_TILES)


def _product(tiles: Tensor, packed: Tensor, grid: Grid, tile: IntegerTile) -> Tensor:
    """Return int32 [strips, 4, 4, tiles of a strip, output channels]: 16 products of matrices in each strip."""
    # packed: [blocks, 4, 4, steps, block, depth of a step] int16
    blocks_of_channels, _, _, steps, block, depth = (int(each) for each in packed.shape)
    step, k = te.reduce_axis((0, steps), "step"), te.reduce_axis((0, depth), "k")

    def element(g: Var, a: Var, b: Var, r: Var, c: Var) -> PrimExpr:
        weight = packed[tirx.floordiv(c, block), a, b, step, tirx.floormod(c, block), k]
        return te.sum(tiles[g, a, b, r, step * depth + k].astype("int32") * weight.astype("int32"), axis=[step, k])

    return te.compute(
        (grid.strips, _SIZE, _SIZE, grid.in_strip, blocks_of_channels * block),
        element,
        name=_PRODUCT,
        attrs={DOT: tile.dot.name, ROWS: tile.rows},
    )


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a convolution of this module."""
    return _PRODUCT in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Transform a strip of the image, then compute its results by blocks of channels.

    The 16 products of a block of channels stay in the first-level cache until they are transformed back, a vector of
    channels of a tile at a time; the epilogue follows in registers. Threads share strips; where
    there is one strip only, they share the blocks of channels.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep={*_STEPS, _CROPPED})
    last, passes = _last(schedule)
    product, sums = schedule.get_sblock(_PRODUCT), schedule.get_sblock(_SUMS)
    body = schedule.get(product)
    dot, rows = DOTS[str(body.annotations[DOT])], int(body.annotations[ROWS])
    vectors = int(body.reads[1].source.ty.shape[4]) // dot.lanes
    is_large = 2 * total(schedule, schedule.get_loops(product)) > PARALLEL_OPERATIONS
    strips, strip, across, *_ = extents(schedule, schedule.get_loops(sums))
    n, y, x, c = schedule.get_loops(last)
    # y = strip, row of tiles in the strip, row in the tile; x = column of tiles, column in the tile
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
    schedule_padding(schedule, processor)
    for each in passes:
        schedule_spatial(schedule, each, processor)
    return with_hoisted(function_of(schedule))


def _last(schedule: Schedule) -> tuple[BlockRV, list[BlockRV]]:
    """Return the block that stores results, with its epilogue, and the blocks behind it."""
    cropped = schedule.get_sblock(_CROPPED)
    names = [block_name(schedule, each) for each in blocks(schedule)]
    following = blocks(schedule)[names.index(_CROPPED) + 1 :]
    if following and extents(schedule, schedule.get_loops(following[0])) == extents(
        schedule, schedule.get_loops(cropped)
    ):
        schedule.compute_inline(cropped)
        return following[0], following[1:]
    return cropped, following


def _schedule_product(schedule: Schedule, product: BlockRV, dot: Dot, *, rows: int, vectors: int) -> None:
    """Tile the products for registers, and put the instruction inside."""
    epilogue = schedule.cache_write(product, 0, "local")
    tiles, columns, step, k = schedule.get_loops(product)[-4:]
    row_block, row = schedule.split(tiles, [None, rows])
    vector, lane = schedule.split(columns, [vectors, dot.lanes])
    tile = tile_loops(row, vector, rows=rows, vectors=vectors)
    schedule.reorder(row_block, step, *inner_loops(tile, lane, k, dot))
    schedule.reverse_compute_at(epilogue, row_block, preserve_unit_loops=True)
    outer = schedule.get_loops(product)[:-5]
    loops = schedule.get_loops(epilogue)[len(outer) :]
    epilogue_vector, epilogue_lane = schedule.split(loops[-1], [None, dot.lanes])
    vectorise(schedule, epilogue_lane)
    unroll_all(schedule, [*loops[:-1], epilogue_vector])
    compute_tile(schedule, product, tile=tile, lane=lane, dot=dot, outer=outer, reduced=step)


def _schedule_image(schedule: Schedule, processor: Processor) -> None:
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
