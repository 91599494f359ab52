"""Convolutions of 3x3 with stride 1 by Winograd's minimal filtering: F(2x2, 3x3) and F(4x4, 3x3).

    padded image     transformed           products of matrices     inverse transform
    (m+2)^2 pixels,  (m+2)^2 numbers       [tiles, C] x [C, K]      m x m results
    m apart          for each channel      for each of (m+2)^2      for each channel
    +--------+  B^T     +--------+   x weights   +--------+   A^T     +----+
    |  tile  | ------>  |        | ------------> |        | ------>   |    |
    +--------+          +--------+               +--------+           +----+

A tile of m by m results takes (m + 2)^2 multiplications for each pair of channels instead of 9 m^2: 2.25 times fewer
for m = 2, 4 times fewer for m = 4. The price is transforms of image and result, weights (m + 2)^2 / 9 times as large,
and rounding: the transforms of m = 4 multiply by up to 8 and cancel, which loses some of the 24 bits. So it is never a
rule's choice; a search may find it, and what it finds is checked like everything else.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4; the matrices are theirs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.schedules.choices import Layer, WinogradChoice, as_attributes, winograd_choice
from crossfarm.backends.tvm.schedules.primitives import (
    block_name,
    block_names,
    blocks,
    function_of,
    fuse,
    inline_spatial,
    schedule_of,
    schedule_spatial,
    unroll_all,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.types import (
    Array,
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

_PREFIX = "crossfarm_winograd_"
_PADDED, _ROWS, _TILES = _PREFIX + "framed", _PREFIX + "rows", _PREFIX + "tiles"
_PRODUCT, _SUMS, _RESULT = _PREFIX + "product", _PREFIX + "sums", _PREFIX + "result"
_STEPS = (_PADDED, _ROWS, _TILES, _PRODUCT, _SUMS, _RESULT)

IMAGE = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
KERNEL = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}
SUM = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Tiles of a layer: rows and columns of them, and how many rows form a strip that is computed at once."""

    down: int
    across: int
    strip: int

    @property
    def strips(self) -> int:
        return self.down // self.strip

    @property
    def in_strip(self) -> int:
        return self.strip * self.across


def applies(layer: Layer) -> bool:
    """Say whether a layer can be computed so."""
    return (
        layer.kind == "convolution"
        and layer.kernel == (3, 3)
        and layer.strides == layer.dilation == (1, 1)
        and layer.groups == layer.image[0] == 1
        and min(layer.output) >= 1
    )


def strips(layer: Layer, tile: int) -> tuple[int, ...]:
    """Return the numbers of tile rows that may form a strip; where tiles overhang the image, there is one strip."""
    height, _ = layer.output
    down = -(-height // tile)
    if height % tile:
        return (down,)
    return tuple(rows for rows in range(1, down + 1) if down % rows == 0)


def tiles_in_strip(layer: Layer, *, tile: int, strip: int) -> int:
    """Return the rows of the matrix products."""
    return strip * -(-layer.output[1] // tile)


def convolve(
    image: RelaxExpr, weights: Array, layer: Layer, builder: BlockBuilder, choice: WinogradChoice
) -> RelaxCall:
    """Return the call that computes a convolution.

    Args:
        image: [1, H, W, C] float32.
        weights: [3, 3, C, output channels] float32.
        layer: to which `applies`.
        builder: emits bindings.
        choice: how.
    """
    return builder.call_te(
        functools.partial(compute, layer=layer, choice=choice),
        image,
        relax.const(pack(weights, tile=choice.tile, block=choice.columns)),
        primfunc_name_hint="winograd",
        primfunc_attrs={"op_pattern": 4},
    )


def pack(weights: Array, *, tile: int, block: int) -> Array:
    """Return weights [3, 3, depth, channels], transformed, as [tile + 2, tile + 2, blocks, depth, block].

    The transform is computed in float64. Behind the last channel stand zeros.
    """
    matrix = np.array(KERNEL[tile])
    transformed = np.einsum("ai,bj,ijck->abck", matrix, matrix, weights.astype(np.float64)).astype(np.float32)
    size, _, depth, channels = transformed.shape
    padded = -(-channels // block) * block
    full = np.pad(transformed, ((0, 0),) * 3 + ((0, padded - channels),))
    blocked = full.reshape(size, size, depth, padded // block, block)
    return np.ascontiguousarray(blocked.transpose(0, 1, 3, 2, 4))


def compute(image: Tensor, packed: Tensor, *, layer: Layer, choice: WinogradChoice) -> Tensor:
    """Return a convolution: padded, transformed, multiplied, transformed back, cropped.

    Args:
        image: [1, H, W, C] float32.
        packed: as `pack` returns it.
        layer: to which `applies`.
        choice: how it will be scheduled.

    Returns:
        float32 [1, rows, columns, output channels].
    """
    grid = _grid(layer, choice)
    tiles = _transformed_image(_padded(image, layer, grid, tile=choice.tile), grid, tile=choice.tile)
    product = _product(tiles, packed, attributes=as_attributes(layer, choice))
    return _cropped(_transformed_back(product, grid, tile=choice.tile), layer, grid, tile=choice.tile)


def _padded(image: Tensor, layer: Layer, grid: Grid, *, tile: int) -> Tensor:
    """Return an image [1, H, W, C] with zero padding up to the size of all tiles, without its first axis."""
    _, height, width, depth = layer.image
    top, left, _, _ = layer.padding

    def element(y: Var, x: Var, c: Var) -> PrimExpr:
        inside = tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return tirx.if_then_else(inside, image[0, y - top, x - left, c], tirx.const(0.0, "float32"))

    # [rows of tiles * tile + 2, columns of tiles * tile + 2, C]
    return te.compute((grid.down * tile + 2, grid.across * tile + 2, depth), element, name=_PADDED)


def _transformed_image(padded: Tensor, grid: Grid, *, tile: int) -> Tensor:
    """Return [strips, tile + 2, tile + 2, tiles of a strip, C] of a padded image."""
    size, depth = tile + 2, int(padded.shape[-1])
    # rows: [strips, rows of tiles, tile + 2, columns of tiles * tile + 2, C], transformed in one direction
    rows = te.compute(
        (grid.strips, grid.strip, size, grid.across * tile + 2, depth),
        lambda g, s, a, x, c: row_of(
            IMAGE[tile], a, [padded[(g * grid.strip + s) * tile + i, x, c] for i in range(size)]
        ),
        name=_ROWS,
    )
    return te.compute(
        (grid.strips, size, size, grid.in_strip, depth),
        lambda g, a, b, r, c: row_of(
            IMAGE[tile],
            b,
            [
                rows[g, tirx.floordiv(r, grid.across), a, tirx.floormod(r, grid.across) * tile + j, c]
                for j in range(size)
            ],
        ),
        name=_TILES,
    )


def _product(tiles: Tensor, packed: Tensor, *, attributes: Mapping[str, str]) -> Tensor:
    """Return [strips, tile + 2, tile + 2, tiles of a strip, padded output channels]: products of matrices."""
    # packed: [tile + 2, tile + 2, blocks, C, block]
    block_count, block = int(packed.shape[2]), int(packed.shape[4])
    *places, depth = (int(extent) for extent in tiles.shape)
    k = te.reduce_axis((0, depth), "k")
    return te.compute(
        (*places, block_count * block),
        lambda g, a, b, r, c: te.sum(
            tiles[g, a, b, r, k] * packed[a, b, tirx.floordiv(c, block), k, tirx.floormod(c, block)], axis=[k]
        ),
        name=_PRODUCT,
        attrs=dict(attributes),
    )


def _transformed_back(product: Tensor, grid: Grid, *, tile: int) -> Tensor:
    """Return [strips, rows of tiles, tile, columns of tiles, tile, padded output channels]."""
    size, columns = tile + 2, int(product.shape[-1])
    # sums: [strips, tile, tile + 2, tiles of a strip, padded output channels], transformed back in one direction
    sums = te.compute(
        (grid.strips, tile, size, grid.in_strip, columns),
        lambda g, p, b, r, c: row_of(SUM[tile], p, [product[g, a, b, r, c] for a in range(size)]),
        name=_SUMS,
    )
    return te.compute(
        (grid.strips, grid.strip, tile, grid.across, tile, columns),
        lambda g, s, p, t, q, c: row_of(SUM[tile], q, [sums[g, p, b, s * grid.across + t, c] for b in range(size)]),
        name=_RESULT,
    )


def _cropped(result: Tensor, layer: Layer, grid: Grid, *, tile: int) -> Tensor:
    """Return [1, rows, columns, output channels] of the results of all tiles."""

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        down, across = tirx.floordiv(y, tile), tirx.floordiv(x, tile)
        strip, within = tirx.floordiv(down, grid.strip), tirx.floormod(down, grid.strip)
        return result[strip, within, tirx.floormod(y, tile), across, tirx.floormod(x, tile), c]

    return te.compute((1, *layer.output, layer.channels), element, name=_PREFIX + "cut")


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a convolution of this module."""
    return _PRODUCT in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Do all steps of a strip before the next strip, so that its tiles stay in the second-level cache.

    Threads share strips; where there is one strip only, they share the products, since a launch costs as much as one of
    the transforms of a small image.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep=set(_STEPS))
    choice = winograd_choice(schedule.get(schedule.get_sblock(_PRODUCT)).annotations)
    last = next(block for block in blocks(schedule) if block_name(schedule, block) not in _STEPS)
    passes = [block for block in blocks(schedule) if block_name(schedule, block) not in _STEPS][1:]
    strips = int(schedule.get(schedule.get_sblock(_PRODUCT)).iter_vars[0].dom.extent)
    outer: list[LoopRV] = []
    if strips > 1:
        loops = schedule.get_loops(last)
        strip, row = schedule.split(loops[1], [strips, None])
        outer = [schedule.fuse(loops[0], strip)]
        schedule.reorder(outer[0], row, *loops[2:])
        for name in reversed(_STEPS):
            schedule.compute_at(schedule.get_sblock(name), outer[0], preserve_unit_loops=True)
        if choice.is_shared:
            schedule.parallel(outer[0])
    _schedule_copy(schedule, last, processor, depth=len(outer))
    for name, unrolled in ((_ROWS, 2), (_TILES, 2), (_SUMS, 1), (_RESULT, 4)):
        _schedule_step(schedule, name, unrolled, processor, depth=len(outer))
    _schedule_copy(schedule, schedule.get_sblock(_PADDED), processor, depth=len(outer))
    _schedule_product(schedule, choice, depth=len(outer), shares=choice.is_shared and not outer)
    for each in passes:
        schedule_spatial(schedule, each, processor)
    return function_of(schedule)


def _grid(layer: Layer, choice: WinogradChoice) -> Grid:
    height, width = layer.output
    return Grid(down=-(-height // choice.tile), across=-(-width // choice.tile), strip=choice.strip)


def row_of(
    matrix: Sequence[Sequence[float]], index: PrimExpr, values: Sequence[PrimExpr], *, dtype: str = "float32"
) -> PrimExpr:
    """Return one row of a matrix times values of a dtype; `index` becomes known when its loop is unrolled."""
    chosen = _combination(matrix[-1], values, dtype)
    for number in reversed(range(len(matrix) - 1)):
        chosen = tirx.Select(index == number, _combination(matrix[number], values, dtype), chosen)
    return chosen


def _combination(factors: Sequence[float], values: Sequence[PrimExpr], dtype: str) -> PrimExpr:
    total: PrimExpr | None = None
    for factor, value in zip(factors, values, strict=True):
        if not factor:
            continue
        term = value if abs(factor) == 1 else value * tirx.const(abs(factor), dtype)
        if total is None:
            total = term if factor > 0 else tirx.const(0, dtype) - term
        else:
            total = total + term if factor > 0 else total - term
    return total


def _inner_loops(schedule: Schedule, block: BlockRV, depth: int) -> list[LoopRV]:
    return list(schedule.get_loops(block))[depth:]


def _schedule_step(schedule: Schedule, name: str, unrolled: int, processor: Processor, *, depth: int) -> None:
    """Vectorise a transform over channels, and unroll the axis that picks its row."""
    loops = _inner_loops(schedule, schedule.get_sblock(name), depth)
    picked = loops.pop(unrolled)
    lanes = processor.lanes_for(int(schedule.get(loops[-1]).extent))
    vector, lane = schedule.split(loops[-1], [None, lanes])
    schedule.reorder(*loops[:-1], vector, picked, lane)
    vectorise(schedule, lane)
    unroll_all(schedule, [picked])


def _schedule_copy(schedule: Schedule, block: BlockRV, processor: Processor, *, depth: int) -> None:
    """Vectorise a pass over channels."""
    loops = _inner_loops(schedule, block, depth)
    lanes = processor.lanes_for(int(schedule.get(loops[-1]).extent))
    _, lane = schedule.split(loops[-1], [None, lanes])
    vectorise(schedule, lane)


def _schedule_product(schedule: Schedule, choice: WinogradChoice, *, depth: int, shares: bool) -> None:
    block = schedule.get_sblock(_PRODUCT)
    epilogue = schedule.cache_write(block, 0, "local")
    *places, tiles, columns, k = _inner_loops(schedule, block, depth)
    row_block, row = schedule.split(tiles, [None, choice.rows])
    column_block, vector, lane = schedule.split(columns, [None, choice.vectors, choice.lanes])
    schedule.reorder(*places, column_block, row_block, k, row, vector, lane)
    if shares:
        shared = fuse(schedule, [*places, column_block])
        schedule.parallel(shared)
    schedule.reverse_compute_at(epilogue, row_block, preserve_unit_loops=True)
    outside = len(schedule.get_loops(block)) - 4
    loops = schedule.get_loops(epilogue)[outside:]
    _, epilogue_lane = schedule.split(loops[-1], [None, choice.lanes])
    vectorise(schedule, epilogue_lane)
    unroll_all(schedule, schedule.get_loops(epilogue)[outside:-1])
    vectorise(schedule, lane)
    unroll_all(schedule, [vector, row])
    start = schedule.decompose_reduction(block, k)
    start_loops = schedule.get_loops(start)[outside:]
    vectorise(schedule, start_loops[-1])
    unroll_all(schedule, start_loops[:-1])
