"""Numbers as reports show them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.util.text import count, quantity


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (850, "ns", "850 ns"),
        (12_340, "ns", "12.3 µs"),
        (1_234_000, "ns", "1.23 ms"),
        (123_400_000, "ns", "123 ms"),
        (0, "ns", "0 ns"),
        (0.5, "s", "500 ms"),
        (61.0, "s", "61.0 s"),
        (317_440, "bytes", "310 KiB"),
        (5 * 2**20, "bytes", "5.00 MiB"),
        (512, "bytes", "512 B"),
        (0.9, "share", "90.0 %"),
        (1.0, "share", "100 %"),
        (0.9996, "share", "100.0 %"),
        (3.14e-7, "scale", "3.1e-07"),
        (0, "scale", "0"),
        (12345, "count", "12,345"),
        (41.6, "celsius", "42 °C"),
        (1.5, None, "1.5"),
        (1.5, "furlong\n", "1.5 furlong"),
        (math.nan, "ns", "not finite"),
        (-math.inf, "share", "not finite"),
    ],
)
def test_a_number_is_shown_with_its_unit(value: float, unit: str | None, text: str) -> None:
    assert quantity(value, unit) == text


@given(st.floats(), st.sampled_from(["ns", "s", "bytes", "share", "scale", "count", "celsius", None]))
def test_every_float_can_be_shown(value: float, unit: str | None) -> None:
    assert quantity(value, unit)


def test_one_and_many_are_told_apart() -> None:
    assert [count(1, "cell"), count(2, "cell"), count(0, "reply", "replies")] == ["1 cell", "2 cells", "0 replies"]
