"""Register tiles of matrix products: how many rows and columns are computed at once in registers."""

from __future__ import annotations

import dataclasses

from crossfarm.backends.cpu.processor import ACCUMULATORS_IN_FLIGHT, Processor

MAX_ROWS = 28
MAX_VECTORS = 8
ALIASING_DEPTH = 1024
"""Rows of that many floats lie 4 KiB apart, so all of them fall into one set of an 8-way L1 cache."""
ALIASING_ROWS = 8
"""Ways of such a set."""


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


def register_tiles(processor: Processor, *, rows: int, columns: int, depth: int) -> list[Tile]:
    """Return the tiles that divide a product evenly and fit into registers, best first.

    A step of the sum loads `vectors` vectors, broadcasts `rows` values and issues rows * vectors multiply-adds. Spilled
    accumulators cost more than anything else, so rows * vectors + 2 * vectors registers must exist (the second set of
    vectors is the next step's, loaded ahead). Among those the share of multiply-adds in a step's cycles decides: a
    step takes as long as its multiply-adds, as the latency of a dependent one, or as its loads. This is the model of
    Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), without blocks for caches.

    Args:
        processor: whose registers.
        rows: of the result.
        columns: of the result.
        depth: length of the sum.
    """
    found: list[tuple[float, Tile]] = []
    for lanes in processor.lanes:
        if columns % lanes:
            continue
        for vectors in divisors(columns // lanes, MAX_VECTORS):
            for height in divisors(rows, MAX_ROWS):
                if (height + 2) * vectors > processor.registers:
                    continue
                if depth % ALIASING_DEPTH == 0 and height > ALIASING_ROWS:
                    continue
                tile = Tile(rows=height, vectors=vectors, lanes=lanes)
                found.append((_efficiency(tile, processor), tile))
    # Python's sort is stable, so equal ones stay in the order above: wide vectors, few of them, few rows.
    return [tile for _, tile in sorted(found, key=lambda pair: -pair[0])]


def _efficiency(tile: Tile, processor: Processor) -> float:
    accumulators = tile.rows * tile.vectors
    cycles = max(accumulators, ACCUMULATORS_IN_FLIGHT, tile.vectors + 0.5 * tile.rows)
    busy = accumulators * tile.lanes / processor.widest / cycles
    # Ties: more accumulators hide more of the loads' latency, and two vectors balance loads against broadcasts.
    return busy + 0.02 * min(accumulators, 24) / 24 - 0.01 * abs(tile.vectors - 2)


def divisors(number: int, limit: int) -> list[int]:
    """Return the divisors of a number up to a limit, ascending."""
    return [divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0]


def padded_columns(processor: Processor, columns: int) -> int:
    """Return the columns that a weight is padded to so that vectors divide it."""
    narrowest = processor.lanes[-1]
    if columns % narrowest == 0:
        return columns
    return -(-columns // narrowest) * narrowest if columns < processor.widest else _round_up(columns, processor.widest)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
