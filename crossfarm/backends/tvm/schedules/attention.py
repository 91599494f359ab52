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
    pitch = -(-_padded(form.keys, tiles.scores.columns) // lanes) * lanes
    tile_count = -(-form.queries // rows)
    is_shared = form.flops > PARALLEL_FLOPS
    chunks = 2 if is_shared and form.heads < _FEW_HEADS and tile_count > 1 else 1
    per_chunk = -(-tile_count // chunks)

    def body(query: Row, key: Row, value: Row, *others: Row) -> None:
        jobs = form.heads * chunks
        loop = T.parallel if is_shared and jobs > 1 else T.serial
        with loop(0, jobs) as job:
            head = job // chunks
            keys = _packed(
                key,
                _offset(head, form, form.key),
                shape=(form.depth, form.keys),
                strides=form.key[-2:],
                tile=tiles.scores,
            )
            values = _packed(
                value,
                _offset(head, form, form.value),
                shape=(form.keys, form.columns),
                strides=form.value[-2:],
                tile=tiles.result,
            )
            shares = in_memory(rows * pitch)
            with T.serial(0, per_chunk) as tile:
                first = tirx.min((job % chunks * per_chunk + tile) * rows, form.queries - rows)
                base = _offset(head, form, form.query) + first * form.query[-2]
                _write_scores(form, tiles, query=query, base=base, keys=keys, shares=shares, pitch=pitch)
                with T.serial(0, rows) as row:
                    _write_shares(form, tiles, shares, others[:-1], head=head, query=first + row, start=row * pitch)
                target = _offset(head, form, form.result) + first * form.result[-2]
                _write_result(
                    form, tiles, shares=shares, pitch=pitch, values=values, result=others[-1], target=target
                )  # fmt: skip

    return body


def _write_scores(form: Form, tiles: Tiles, *, query: Row, base: PrimExpr, keys: Row, shares: Row, pitch: int) -> None:
    """Write the products of a tile of queries with all keys."""
    tile, (down, along) = tiles.scores, form.query[-2:]

    def element(row: int, k: PrimExpr) -> PrimExpr:
        return query[base + row * down + k * along]

    with T.serial(0, _blocks(form.keys, tile.columns)) as block:
        sums = _sums(tile, element, keys, block, depth=form.depth, most=tiles.depth_unroll)
        start = block * tile.columns

        def store(row: int, column: PrimExpr, at: PrimExpr) -> None:
            shares[row * pitch + start + column] = sums[at] * number(form.scale)

        _each(tile, store)


def _write_shares(
    form: Form, tiles: Tiles, shares: Row, operands: Sequence[Row], *, head: PrimExpr, query: PrimExpr, start: PrimExpr
) -> None:
    """Make a row of scores shares; what a whole vector has behind the last key counts for nothing."""

    def place_of(mask: Mask) -> PrimExpr:
        return _offset(head, form, mask.strides) + query * mask.strides[-2]

    for mask, operand in zip(form.masks, operands, strict=False):
        _apply(mask, shares, start, operand=operand, place=place_of(mask), keys=form.keys, lanes=tiles.lanes)
    vectors = _blocks(form.keys, tiles.lanes)
    fill(shares, start + form.keys, vectors * tiles.lanes - form.keys, tiles.lanes, -math.inf)

    def kept(value: PrimExpr, column: PrimExpr) -> PrimExpr:
        if form.guard is not None:
            return form.guard.applied(value, operands[-1][place_of(form.guard)])
        if form.zeroes_nan:
            name = tirx.Var("share", "float32")
            return tirx.Let(name, value, tirx.Select(tirx.isnan(name), number(0.0), name))
        return value

    share(shares, start, vectors, tiles.lanes, kept)


def _write_result(
    form: Form, tiles: Tiles, *, shares: Row, pitch: int, values: Row, result: Row, target: PrimExpr
) -> None:
    """Write the products of a tile of shares with all values."""
    tile, (down, across) = tiles.result, form.result[-2:]

    def element(row: int, k: PrimExpr) -> PrimExpr:
        return shares[row * pitch + k]

    def block_of(block: PrimExpr, columns: int) -> None:
        sums = _sums(tile, element, values, block, depth=form.keys, most=tiles.depth_unroll)
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


def _packed(source: Row, base: PrimExpr, *, shape: tuple[int, int], strides: Sequence[int], tile: Tile) -> Row:
    """Write a matrix [depth, columns] as [blocks, depth, columns of a block], with zeros behind the last column."""
    depth, columns = shape
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
            fill(panels, start + rest, width - rest, tile.lanes, 0.0)
            with T.serial(0, rest) as column:
                panels[start + column] = source[base + k * down + (full * width + column) * along]
    return panels


def _sums(
    tile: Tile, left: Callable[[int, PrimExpr], PrimExpr], panels: Row, block: PrimExpr, *, depth: int, most: int
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


def _apply(mask: Mask, shares: Row, start: PrimExpr, *, operand: Row, place: PrimExpr, keys: int, lanes: int) -> None:
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
