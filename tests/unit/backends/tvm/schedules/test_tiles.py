from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.tiles import MAX_ROWS, Product, divisors, register_tiles

AVX512 = Processor(lanes=(16, 8, 4), registers=32)
AVX2 = Processor(lanes=(8, 4), registers=16)
NEON = Processor(lanes=(4,), registers=16)
SCALAR = Processor(lanes=(1,), registers=16)
processors = st.sampled_from([AVX512, AVX2, NEON, SCALAR])


def product(rows: int, columns: int, depth: int, *, run: int | None = None) -> Product:
    return Product(rows=rows, run=run or rows, columns=columns, steps=depth, depth=depth)


@given(processors, st.integers(1, 30), st.integers(1, 30), st.integers(1, 600), st.integers(1, 5000))
def test_a_tile_fits_into_registers(processor: Processor, height: int, width: int, columns: int, depth: int) -> None:
    tiles = register_tiles(processor, product(height * width, columns, depth, run=width))
    assert tiles
    for tile in tiles:
        assert tile.rows <= height * width
        assert tile.lanes in processor.lanes
        assert (tile.rows + 1) * tile.vectors + 1 <= processor.registers
        assert depth % 1024 or tile.rows <= 8


@given(processors, st.integers(1, 10_000))
def test_columns_are_padded_little(processor: Processor, columns: int) -> None:
    best = register_tiles(processor, product(84, columns, 64))[0]
    assert -(-columns // best.columns) * best.columns <= 2 * columns + 4


@pytest.mark.parametrize(("processor", "accumulators"), [(AVX512, 24), (AVX2, 12), (NEON, 12)])
def test_a_large_product_fills_the_registers(processor: Processor, accumulators: int) -> None:
    best = register_tiles(processor, product(84, 256, 64))[0]
    assert best.lanes == processor.widest
    assert best.rows * best.vectors >= accumulators


def test_rows_that_lie_4_kib_apart_are_few() -> None:
    assert register_tiles(AVX512, product(28, 256, 1024))[0].rows <= 8
    assert register_tiles(AVX512, product(28, 256, 1000))[0].rows > 8


@pytest.mark.parametrize("width", [7, 13, 14, 17, 28])
def test_rows_of_any_length_leave_few_registers_and_little_work_unused(width: int) -> None:
    best = register_tiles(AVX2, product(width * width, 256, 2304, run=width))[0]
    assert best.rows * best.vectors >= 10
    assert -(-width * width // best.rows) * best.rows <= 1.05 * width * width


@given(st.integers(1, 500))
def test_divisors_are_all_and_ascend(number: int) -> None:
    assert divisors(number, MAX_ROWS) == [k for k in range(1, MAX_ROWS + 1) if number % k == 0]
    assert np.all(np.diff(divisors(number, MAX_ROWS)) > 0)
