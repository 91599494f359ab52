"""Which strips of pixels an epilogue may take."""

from __future__ import annotations

import pytest
from tvm import tirx

from crossfarm.backends.tvm.int8.epilogue_strips import LONGEST, StripEpilogue, pixels_of_strip


def epilogue(across: int, channels: int) -> StripEpilogue:
    """Return an epilogue on a processor with vectors of 64 bytes."""
    return StripEpilogue(realize=None, source=tirx.decl_buffer((1, 2, across, channels), "int16"), params=(), lanes=64)


@pytest.mark.parametrize(
    ("across", "channels", "step", "pixels"),
    [(96, 200, 2, 8), (24, 8, 4, 8), (56, 64, 7, 7), (7, 512, 1, 1), (96, 24, 6, 24)],
)
def test_a_strip_has_the_fewest_pixels_that_fill_vectors(across: int, channels: int, step: int, pixels: int) -> None:
    found = pixels_of_strip(epilogue(across, channels), across=across, step=step)
    assert found == pixels
    assert epilogue(across, channels).fits(found)


def test_a_strip_is_no_longer_than_a_stack_bears() -> None:
    assert epilogue(8, LONGEST // 8).fits(8)
    assert not epilogue(16, LONGEST // 8).fits(16)
    assert not epilogue(8, 2 * LONGEST).fits(1)


def test_a_strip_whose_vectors_are_no_wider_than_those_of_accumulators_is_none() -> None:
    assert not epilogue(17, 16).fits(17)
    assert not epilogue(23, 31).fits(23)
    assert epilogue(17, 32).fits(17)
