"""Register tiles of integer products: which instruction, how many rows and how many vectors of accumulators at once."""

from __future__ import annotations

import dataclasses

from crossfarm.backends.tvm.int8.dot_instructions import Dot, IntegerUnit
from crossfarm.backends.tvm.schedules.tiles import divisors

MAX_ROWS = 28
MAX_VECTORS = 16
IN_FLIGHT = 8
"""Independent accumulators that keep the multipliers full: a latency of 4 to 5 cycles times two units of half the
width."""
EVEN_ROWS = 8
"""Rows of the tiles that were the fastest where several should have been equal, with AVX2 and with VNNI."""
ENOUGH_ACCUMULATORS = 7
"""The same where products are added by a second instruction: what waits for an accumulator is an addition of one
cycle."""
EPILOGUE_CYCLES = (1.5, 3.5)
"""Cycles of the epilogue of a vector of accumulators: for any, and more for one of full width, narrower ones in
proportion. Measured on a Zen 4 core: 2.4 for 8 accumulators and 3.4 for 16 where they are scaled alone, 4.7 and 6.8
with an activation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegerTile:
    """A block of accumulators that stays in registers; see register_tiles.py.

    Attributes:
        dot: the instruction.
        rows: of activations.
        vectors: of weights, side by side.
    """

    dot: Dot
    rows: int
    vectors: int

    @property
    def columns(self) -> int:
        """Columns of accumulators."""
        return self.vectors * self.dot.lanes


def integer_tile(
    unit: IntegerUnit, *, rows: int, columns: int, steps: int, overlaps: bool = False, even_rows: int = EVEN_ROWS
) -> IntegerTile:
    """Return the best tile for a product.

    A step needs `vectors` vectors of weights, `rows` broadcasts and rows * vectors instructions. The accumulators and
    the fewer of both have registers all the time, the others one at a time. What decides is the time of the steps and
    of the epilogue, over the results. Of equal tiles that with wide vectors and about `even_rows` rows is taken, and
    with no more accumulators than keep the multipliers full: a large tile has all its results to scale and to store at
    once, while nothing is multiplied.

    Args:
        unit: whose instructions.
        rows: of the result.
        columns: of the result, a multiple of the narrowest vector unless vectors may overlap.
        steps: instructions that a sum takes.
        overlaps: vectors need not divide the columns: the last one may overlap (overlapping_vectors.py).
        even_rows: rows that a tile has rather than others that take as long.
    """
    found: list[tuple[float, bool, int, int, int, IntegerTile]] = []
    for dot in unit.dots:
        slots = -(-columns // dot.lanes) * dot.lanes
        if slots != columns and not (overlaps and columns > dot.lanes):
            continue
        # An instruction that does not add needs a register for the products, and one more operation.
        extra, enough = (0, IN_FLIGHT) if dot.accumulates else (1, ENOUGH_ACCUMULATORS)
        for vectors in divisors(slots // dot.lanes, MAX_VECTORS):
            for height in divisors(rows, MAX_ROWS):
                accumulators = height * vectors
                if accumulators + min(vectors, height) + 1 + extra > unit.registers and accumulators > 1:
                    continue
                tile = IntegerTile(dot=dot, rows=height, vectors=vectors)
                time = _cycles(unit, tile, steps) / (accumulators * dot.lanes * columns / slots)
                found.append((time, accumulators < enough, -dot.lanes, abs(height - even_rows), accumulators, tile))
    if not found:
        raise ValueError(f"no vector of {[dot.lanes for dot in unit.dots]} lanes divides {columns} columns")
    return min(found, key=lambda entry: entry[:5])[5]


def _cycles(unit: IntegerUnit, tile: IntegerTile, steps: int) -> float:
    """Return the time of a tile.

    A step takes that of its instructions, of its loads, of which a broadcast of 256 bits takes half a cycle, or the
    latency of a dependent accumulator, whichever is longest. Where every load is an instruction that takes the place of
    a multiplication, their times add up.
    """
    width = max(tile.dot.lanes / unit.dots[0].lanes, 0.5)
    accumulators = tile.rows * tile.vectors
    if unit.loads_aside:
        loads = tile.vectors * width + 0.5 * tile.rows * max(1.0, tile.dot.lanes / 8)
        step = max(accumulators * width, loads, IN_FLIGHT * width / 2)
    else:
        step = (accumulators + tile.vectors) * width + tile.rows
    return steps * step + accumulators * (EPILOGUE_CYCLES[0] + EPILOGUE_CYCLES[1] * width)


def padded_channels(unit: IntegerUnit, channels: int) -> int:
    """Return the channels that weights are padded to, so that the narrowest vector divides them."""
    narrowest = unit.dots[-1].lanes
    return -(-channels // narrowest) * narrowest
