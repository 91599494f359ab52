"""The id of a cell, and the cell of an id."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.config.base import NAME_PATTERN
from crossfarm.config.cell import Cell
from crossfarm.errors import ConfigError

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: not name.endswith("\n"))


@given(st.builds(Cell, model=NAMES, target=NAMES, variant=NAMES))
def test_the_cell_of_an_id_is_the_one_that_the_id_names(cell: Cell) -> None:
    assert Cell.parse(cell.id) == cell


@pytest.mark.parametrize(
    "text",
    [
        *("", "armv7", "armv7-mnist_cnn", "armv7-mnist_cnn-float32-1", "armv7--float32", "-mnist_cnn-float32"),
        *("armv7-mnist_cnn-", "armv7-MNIST-float32", "armv7-mnist*-float32", "armv7-mnist_cnn-float32\n", "a/b-c-d"),
    ],
)
def test_what_is_no_id_is_told_with_what_one_looks_like(text: str) -> None:
    said = f"{text!r} is not the id of a cell; give TARGET-MODEL-VARIANT, like armv7-mnist_cnn-float32"
    with pytest.raises(ConfigError, match=re.escape(said)):
        Cell.parse(text)


def test_a_text_without_end_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError) as refused:
        Cell.parse("x" * 100_000)
    assert len(str(refused.value)) < 300
