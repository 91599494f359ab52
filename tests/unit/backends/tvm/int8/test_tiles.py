"""Register tiles of integer products."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crossfarm.backends.tvm.int8.dot_instructions import DOTS, IntegerUnit
from crossfarm.backends.tvm.int8.tiles import integer_tile, padded_channels

VNNI = IntegerUnit(activation="uint8", dots=(DOTS["vnni16"], DOTS["vnni8"], DOTS["vnni4"]), registers=32)
AVX2 = IntegerUnit(activation="uint8", dots=(DOTS["pairs8"], DOTS["pairs4"]), registers=16)
NEON = IntegerUnit(activation="int8", dots=(DOTS["plain4"],), registers=26, loads_aside=False)
STEPS = 144
SCALARS = IntegerUnit(activation="int8", dots=(DOTS["plain1"],), registers=16)


@given(st.sampled_from([VNNI, AVX2, NEON, SCALARS]), st.integers(1, 300), st.integers(1, 700))
def test_a_tile_divides_the_product_and_fits_into_registers(unit: IntegerUnit, rows: int, channels: int) -> None:
    columns = padded_channels(unit, channels)
    tile = integer_tile(unit, rows=rows, columns=columns, steps=STEPS)
    assert rows % tile.rows == columns % tile.columns == 0
    assert tile.rows * tile.vectors == 1 or tile.rows * tile.vectors + min(tile.rows, tile.vectors) < unit.registers


@pytest.mark.parametrize("unit", [VNNI, AVX2])
@pytest.mark.parametrize("rows", [8, 56, 14, 7, 24])
def test_a_tile_has_as_many_sums_as_keep_the_multipliers_full_and_not_twice_as_many(
    unit: IntegerUnit, rows: int
) -> None:
    tile = integer_tile(unit, rows=rows, columns=128, steps=STEPS)
    assert tile.dot == unit.dots[0]
    assert 7 <= tile.rows * tile.vectors <= 16


def test_where_loads_take_the_place_of_multiplications_a_tile_has_few_of_them() -> None:
    aside = IntegerUnit(activation="int8", dots=NEON.dots, registers=26)
    for rows in (8, 14, 28, 56):
        few, others = (integer_tile(unit, rows=rows, columns=64, steps=STEPS) for unit in (NEON, aside))
        loads, usual = ((tile.rows + tile.vectors) / (tile.rows * tile.vectors) for tile in (few, others))
        assert loads < usual


def test_rows_that_are_wanted_are_taken_where_that_costs_nothing() -> None:
    assert integer_tile(AVX2, rows=16, columns=64, steps=STEPS, even_rows=2).rows == 2
    assert integer_tile(AVX2, rows=16, columns=64, steps=STEPS, even_rows=8).rows == 8
    assert integer_tile(AVX2, rows=16, columns=8, steps=STEPS, even_rows=2).rows == 8


@given(st.sampled_from([VNNI, AVX2, NEON]), st.integers(1, 300), st.integers(1, 700), st.integers(1, 500))
def test_vectors_that_may_overlap_compute_few_sums_twice(
    unit: IntegerUnit, rows: int, channels: int, steps: int
) -> None:
    assume(channels > unit.dots[-1].lanes)
    tile = integer_tile(unit, rows=rows, columns=channels, steps=steps, overlaps=True)
    places = -(-channels // tile.dot.lanes) * tile.dot.lanes
    assert places % tile.columns == 0
    assert tile.dot.lanes < channels or channels % tile.dot.lanes == 0
    assert places - channels < tile.dot.lanes


def test_wide_vectors_are_taken_where_they_compute_few_sums_twice() -> None:
    assert integer_tile(VNNI, rows=96, columns=200, steps=8, overlaps=True).dot.lanes == 16
    assert integer_tile(VNNI, rows=96, columns=24, steps=2, overlaps=True).dot.lanes == 8
    assert integer_tile(VNNI, rows=96, columns=200, steps=8).dot.lanes == 8
