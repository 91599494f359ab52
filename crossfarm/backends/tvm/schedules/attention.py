"""softmax(scale * Q K + masks) V as one kernel over tiles of queries: no score leaves the first-level cache.

For each matrix of the stack (a head), keys and values are packed into panels as wide as a register tile, whatever
transposes stand before them. Then, for each tile of queries,

    scores    [rows, keys]      register tiles of products with the panels of keys, times the scale
    shares    [rows, keys]      masks are added or chosen by, then softmax of each row, in place
    result    [rows, columns]   register tiles of products with the panels of values, stored where the next operator
                                wants them

which is the order of Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness" (2022),
with whole rows of scores, as a tile of a few rows fits into the cache of a processor for thousands of keys. Register
tiles are those of tiles.py. A last tile of rows that does not fit overlaps the one before it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

from tvm import tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.schedules.loops import Row, fill, in_memory, in_registers, number, share
from crossfarm.backends.tvm.schedules.processor import PARALLEL_FLOPS, Processor
from crossfarm.backends.tvm.schedules.tiles import Product, Tile, register_tiles
from crossfarm.backends.tvm.types import PrimExpr

FEWEST_QUERIES = 4
"""Below, packing takes longer than the products."""
_FEW_HEADS = 4
"""Below, the queries of a head are shared between threads too, each of which packs for itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mask:
    """An operand of the scores' shape, or one that is spread over it.

    Attributes:
        strides: of [..., queries, keys], 0 along an axis that it does not have.
        way: the operand is added; or a score is kept where it is not 0, or where it is 0.
        other: what a score becomes that is not kept.
    """

    strides: tuple[int, ...]
    way: Literal["add", "keep", "drop"] = "add"
    other: float = 0.0

    def applied(self, score: PrimExpr, operand: PrimExpr) -> PrimExpr:
        """Return what becomes of a score."""
        if self.way == "add":
            return score + operand
        is_set = operand != number(0.0)
        values = (score, number(self.other)) if self.way == "keep" else (number(self.other), score)
        return tirx.Select(is_set, *values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """What is computed, and where operands are: strides are those of the axes of the stack and of two more.

    Attributes:
        stack: extents of the axes before the last two.
        queries: rows of the scores.
        keys: columns of the scores.
        depth: length of the products that the scores are.
        columns: of the result.
        query: strides of [..., queries, depth].
        key: strides of [..., depth, keys].
        value: strides of [..., keys, columns].
        masks: what happens to the scores, in that order.
        guard: what happens to the shares, with an operand of its own; None for nothing.
        zeroes_nan: a share that is NaN becomes 0.
        result: strides of [..., queries, columns].
        scale: of the scores.
    """

    stack: tuple[int, ...]
    queries: int
    keys: int
    depth: int
    columns: int
    query: tuple[int, ...]
    key: tuple[int, ...]
    value: tuple[int, ...]
    masks: tuple[Mask, ...]
    result: tuple[int, ...]
    scale: float
    guard: Mask | None = None
    zeroes_nan: bool = False

    @property
    def heads(self) -> int:
        """Matrices of the stack."""
        return math.prod(self.stack)

    @property
    def flops(self) -> int:
        """Operations of both products."""
        return 2 * self.heads * self.queries * self.keys * (self.depth + self.columns)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiles:
    """Register tiles of the two products, of as many rows.

    Attributes:
        scores: of the scores.
        result: of the result.
        lanes: of the vectors that softmax is computed in.
        depth_unroll: the most steps of a product in a row.
    """

    scores: Tile
    result: Tile
    lanes: int
    depth_unroll: int

    @property
    def rows(self) -> int:
        """Queries of a tile."""
        return self.scores.rows


def tiles_of(form: Form, processor: Processor) -> Tiles | None:
    """Choose the tiles of an attention; None when it is not worth a kernel of its own."""
    lanes = processor.widest
    if lanes == 1 or form.queries < FEWEST_QUERIES or min(form.keys, form.columns) < processor.lanes[-1]:
        return None
    scores = register_tiles(processor, _product(form, columns=form.keys, steps=form.depth, depth=form.query[-2]))
    result = register_tiles(processor, _product(form, columns=form.columns, steps=form.keys, depth=form.keys))
    for tile in result:
        other = next((each for each in scores if each.rows == tile.rows), None)
        if other is not None:
            return Tiles(scores=other, result=tile, lanes=lanes, depth_unroll=4 if processor.unrolls_depth else 1)
    return None


def _product(form: Form, *, columns: int, steps: int, depth: int) -> Product:
    return Product(rows=form.queries, run=form.queries, columns=columns, steps=steps, depth=max(depth, 1))


def kernel(form: Form, tiles: Tiles) -> Callable[..., None]:
    """Return what writes the loops; it takes rows of queries, keys, values, masks, the guard and the result."""
    rows, lanes = tiles.rows, tiles.lanes
    pitch = -(-max(_padded(form.keys, tiles.scores.columns), form.keys) // lanes) * lanes
    tile_count = -(-form.queries // rows)
    is_shared = form.flops > PARALLEL_FLOPS
    chunks = 2 if is_shared and form.heads < _FEW_HEADS and tile_count > 1 else 1
    per_chunk = -(-tile_count // chunks)

    def body(query: Row, key: Row, value: Row, *others: Row) -> None:
        masks, result = others[: len(form.masks)], others[-1]
        jobs = form.heads * chunks
        loop = T.parallel if is_shared and jobs > 1 else T.serial
        with loop(0, jobs) as job:
            head = job // chunks
            keys = _packed(
                key, _offset(head, form, form.key), form.depth, form.keys, form.key[-2:], tiles.scores, lanes
            )
            values = _packed(
                value, _offset(head, form, form.value), form.keys, form.columns, form.value[-2:], tiles.result, lanes
            )
            shares = in_memory(rows * pitch)
            with T.serial(0, per_chunk) as tile:
                first = tirx.min((job % chunks * per_chunk + tile) * rows, form.queries - rows)
                base = _offset(head, form, form.query) + first * form.query[-2]
                with T.serial(0, _blocks(form.keys, tiles.scores.columns)) as block:
                    sums = _sums(
                        tiles.scores,
                        lambda row, k, base=base: query[base + row * form.query[-2] + k * form.query[-1]],
                        keys,
                        block,
                        form.depth,
                        tiles.depth_unroll,
                    )
                    start = block * tiles.scores.columns
                    _each(tiles.scores, lambda row, column, at: _store(
                        shares, row * pitch + start + column, sums[at] * number(form.scale)
                    ))  # fmt: skip
                with T.serial(0, rows) as row:
                    at = row * pitch

                    def place_of(mask: Mask, head: PrimExpr = head, line: PrimExpr = first + row) -> PrimExpr:
                        return _offset(head, form, mask.strides) + line * mask.strides[-2]

                    for mask, operand in zip(form.masks, masks, strict=True):
                        _apply(mask, shares, at, operand, place_of(mask), form.keys, lanes)
                    whole = -(-form.keys // lanes) * lanes
                    fill(shares, at + form.keys, whole - form.keys, lanes, -math.inf)
                    kept = _kept(form, others[len(masks)], None if form.guard is None else place_of(form.guard))
                    share(shares, at, whole // lanes, lanes, kept)
                target = _offset(head, form, form.result) + first * form.result[-2]
                _write_result(form, tiles, shares, pitch, values, result, target)

    return body


def _write_result(
    form: Form, tiles: Tiles, shares: Row, pitch: int, values: Row, result: Row, target: PrimExpr
) -> None:
    tile = tiles.result
    down, across = form.result[-2:]

    def block_of(block: PrimExpr, columns: int) -> None:
        sums = _sums(
            tile, lambda row, k: shares[row * pitch + k], values, block, form.keys, tiles.depth_unroll
        )  # fmt: skip
        start = target + block * (tile.columns * across)
        whole = columns // tile.lanes
        for row in range(tile.rows):
            for vector in range(whole):
                with T.vectorized(0, tile.lanes) as lane:
                    column = vector * tile.lanes + lane
                    result[start + row * down + column * across] = sums[row * tile.columns + column]
            for column in range(whole * tile.lanes, columns):
                result[start + row * down + column * across] = sums[row * tile.columns + column]

    full, rest = divmod(form.columns, tile.columns)
    if full:
        with T.serial(0, full) as block:
            block_of(block, tile.columns)
    if rest:
        block_of(tirx.const(full, "int32"), rest)


def _padded(extent: int, block: int) -> int:
    return _blocks(extent, block) * block


def _blocks(extent: int, block: int) -> int:
    return -(-extent // block)


def _offset(head: PrimExpr, form: Form, strides: Sequence[int]) -> PrimExpr:
    """Return where the matrix of a head begins."""
    offset: PrimExpr = tirx.const(0, "int32")
    for extent, stride in zip(reversed(form.stack), reversed(strides[:-2]), strict=True):
        if stride:
            offset = offset + head % extent * stride
        head = head // extent
    return offset


def _packed(
    source: Row, base: PrimExpr, depth: int, columns: int, strides: Sequence[int], tile: Tile, lanes: int
) -> Row:
    """Write a matrix [depth, columns] as [blocks, depth, columns of a block], with zeros behind the last column."""
    width = tile.columns
    full, rest = divmod(columns, width)
    panels = in_memory(_padded(columns, width) * depth)
    down, along = strides
    if full:
        with T.serial(0, full) as block, T.serial(0, depth) as k:
            for vector in range(tile.vectors):
                with T.vectorized(0, tile.lanes) as lane:
                    column = vector * tile.lanes + lane
                    panels[(block * depth + k) * width + column] = source[
                        base + k * down + (block * width + column) * along
                    ]
    if rest:
        with T.serial(0, depth) as k:
            start = (full * depth + k) * width
            fill(panels, start + rest, width - rest, lanes, 0.0)
            with T.serial(0, rest) as column:
                panels[start + column] = source[base + k * down + (full * width + column) * along]
    return panels


def _sums(
    tile: Tile, left: Callable[[int, PrimExpr], PrimExpr], panels: Row, block: PrimExpr, depth: int, most: int
) -> Row:
    """Write the product of a tile, whose sums stay in registers, and return these."""
    sums = in_registers(tile.rows * tile.columns)

    def clear(row: int, column: PrimExpr, at: PrimExpr) -> None:
        sums[at] = number(0.0)

    def step(k: PrimExpr) -> None:
        def add(row: int, column: PrimExpr, at: PrimExpr) -> None:
            sums[at] = sums[at] + left(row, k) * panels[(block * depth + k) * tile.columns + column]

        _each(tile, add)

    _each(tile, clear)
    unroll = next(steps for steps in (most, 2, 1) if depth % steps == 0 and steps <= most)
    if depth == unroll:
        for k in range(depth):
            step(tirx.const(k, "int32"))
    else:
        with T.serial(0, depth // unroll) as group:
            for k in range(unroll):
                step(group * unroll + k)
    return sums


def _each(tile: Tile, write: Callable[[int, PrimExpr, PrimExpr], None]) -> None:
    """Write a statement for each vector of a tile; it takes row, column and place in the tile."""
    for row in range(tile.rows):
        for vector in range(tile.vectors):
            with T.vectorized(0, tile.lanes) as lane:
                column = vector * tile.lanes + lane
                write(row, column, row * tile.columns + column)


def _store(row: Row, place: PrimExpr, value: PrimExpr) -> None:
    row[place] = value


def _apply(mask: Mask, shares: Row, start: PrimExpr, operand: Row, place: PrimExpr, keys: int, lanes: int) -> None:
    """Do to a row of scores what a mask says."""

    def one(column: PrimExpr) -> None:
        shares[start + column] = mask.applied(shares[start + column], operand[place + column * mask.strides[-1]])

    whole = keys // lanes
    if whole:
        with T.serial(0, whole) as vector, T.vectorized(0, lanes) as lane:
            one(vector * lanes + lane)
    if keys % lanes:
        with T.serial(whole * lanes, keys) as column:
            one(column)


def _kept(form: Form, operand: Row, place: PrimExpr | None) -> Callable[[PrimExpr, PrimExpr], PrimExpr]:
    """Return what is kept of a share of a row; a guard is one value for the whole row."""

    def kept(value: PrimExpr, column: PrimExpr) -> PrimExpr:
        if form.guard is not None:
            return form.guard.applied(value, operand[place])
        if form.zeroes_nan:
            name = tirx.Var("share", "float32")
            return tirx.Let(name, value, tirx.Select(tirx.isnan(name), number(0.0), name))
        return value

    return kept
