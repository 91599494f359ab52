"""Register tiles of matrix products: how many rows and columns are computed at once in registers."""

from __future__ import annotations

import dataclasses

from crossfarm.backends.tvm.schedules.processor import ACCUMULATORS_IN_FLIGHT, Processor

MAX_ROWS = 28
MAX_VECTORS = 8
MAX_SCATTERED_ROWS = 8
"""Rows that do not follow each other evenly need an address each, and x86 has no more registers than that for them."""
ALIASING_DEPTH = 1024
"""Rows of that many floats lie 4 KiB apart, so all of them fall into one set of an 8-way L1 cache."""
ALIASING_ROWS = 8
"""Ways of such a set."""
LOAD_SLOTS = 1.25
"""Issue slots that a load takes: processors load two vectors in a cycle at best, and seldom keep that up."""
COPY_OVERHEAD = 4
"""Issue slots for each vector of a result that is copied out of its padding."""
TILE_OVERHEAD = 16
"""Issue slots that a tile costs beside its sum and per accumulator: loops and addresses."""
STORE_OVERHEAD = 3
"""Issue slots per accumulator: clearing it, what follows the sum, storing it."""
STALLS = 0.2
"""Share of a step that is lost when there are just enough accumulators: nothing is left to hide a late load behind."""
SCATTER_OVERHEAD = 8
"""Issue slots for the address of a row that does not follow the last one evenly."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """A block of the result that stays in registers while the sum runs.

    Attributes:
        rows: of the left operand, each broadcast.
        vectors: of the right operand, side by side.
        lanes: floats in a vector.
    """

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Columns of the result."""
        return self.vectors * self.lanes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product as far as its tile depends on it.

    Attributes:
        rows: of the result.
        run: rows that follow each other evenly in memory: all of them in a plain product, else a row of the image.
        columns: of the result.
        steps: length of the sum.
        depth: floats that a row of the left operand is apart from the next.
    """

    rows: int
    run: int
    columns: int
    steps: int
    depth: int


def register_tiles(processor: Processor, product: Product) -> list[Tile]:
    """Return the tiles that fit into registers, best first.

    A step of the sum loads `vectors` vectors, broadcasts `rows` values one after the other and issues rows * vectors
    multiply-adds. Spilled accumulators cost more than anything else, so (rows + 1) * vectors + 1 registers must exist.
    A step takes as long as its multiply-adds, as the latency of a dependent one, or as its loads. Tiles need divide
    neither rows nor columns: the last tile of rows may overlap the one before it, columns may be padded, and the cost
    of both is counted. This is the model of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
    (2008), without blocks for caches.
    """
    found: list[tuple[float, Tile]] = []
    for lanes in processor.lanes:
        if 2 * product.columns <= lanes > processor.lanes[-1]:
            continue
        for vectors in range(1, min(-(-product.columns // lanes), MAX_VECTORS) + 1):
            for rows in range(1, min(product.rows, MAX_ROWS) + 1):
                tile = Tile(rows=rows, vectors=vectors, lanes=lanes)
                if _fits(tile, product, processor):
                    found.append((_cost(tile, product), tile))
    # Python's sort is stable, so equal ones stay in the order above: wide vectors, few of them, few rows.
    return [tile for _, tile in sorted(found, key=lambda pair: pair[0])]


def _fits(tile: Tile, product: Product, processor: Processor) -> bool:
    if (tile.rows + 1) * tile.vectors + 1 > processor.registers or tile.rows > processor.rows:
        return False
    if product.depth % ALIASING_DEPTH == 0 and tile.rows > ALIASING_ROWS:
        return False
    return _is_even(tile, product) or tile.rows <= MAX_SCATTERED_ROWS


def _is_even(tile: Tile, product: Product) -> bool:
    """Say whether the rows of every tile follow each other evenly."""
    return product.run == product.rows or product.run % tile.rows == 0


def _cost(tile: Tile, product: Product) -> float:
    """Return issue slots: as many as multiply-adds could have been issued in that time."""
    accumulators = tile.rows * tile.vectors
    step = max(accumulators, ACCUMULATORS_IN_FLIGHT, LOAD_SLOTS * (tile.vectors + tile.rows))
    around = TILE_OVERHEAD + STORE_OVERHEAD * accumulators
    if not _is_even(tile, product):
        around += SCATTER_OVERHEAD * tile.rows
    blocks = -(-product.columns // tile.columns)
    tiles = -(-product.rows // tile.rows) * blocks
    slack = 1 + STALLS * ACCUMULATORS_IN_FLIGHT / accumulators
    is_padded = blocks * tile.columns != product.columns
    copied = COPY_OVERHEAD * product.rows * product.columns / tile.lanes if is_padded else 0
    return tiles * (product.steps * step * slack + around) + copied


def divisors(number: int, limit: int) -> list[int]:
    """Return the divisors of a number up to a limit, ascending."""
    return [divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0]
