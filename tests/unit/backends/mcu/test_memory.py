"""What a model takes on a microcontroller: the header that a firmware includes, and what is refused."""

from __future__ import annotations

import re

import pytest

from crossfarm.backends.mcu.memory import HANDLE_BYTES, Memory
from crossfarm.config.cell import Cell
from crossfarm.errors import UnfitError

CELL = Cell(model="m", target="cortex_m4", variant="int8")


def _memory(**changes: int) -> Memory:
    declared = {
        "flash_bytes": 100_000,
        "ram_bytes": 20_000,
        "tensor_bytes": 12_288,
        "workspace_bytes": 4_096,
        "weights_bytes": 80_000,
        "most_arguments": 5,
    }
    return Memory(**(declared | changes))


def test_an_arena_is_the_handle_the_tensors_and_the_workspaces() -> None:
    assert _memory().arena_bytes == HANDLE_BYTES + 12_288 + 4_096


def test_the_header_says_every_number_once() -> None:
    found = dict(re.findall(r"^#define CROSSFARM_MODEL_(\w+) (\d+)u /\* .+ \*/$", _memory().header(), re.MULTILINE))
    assert found == {
        "ARENA_BYTES": "16448",
        "HANDLE_BYTES": "64",
        "TENSOR_BYTES": "12288",
        "WORKSPACE_BYTES": "4096",
        "WEIGHTS_BYTES": "80000",
        "MOST_ARGUMENTS": "5",
    }


def test_an_arena_that_just_fits_is_taken_and_a_larger_one_is_refused_with_the_numbers() -> None:
    _memory(ram_bytes=16_448).check_ram(CELL)
    words = r"an arena of 16,448 bytes \(12,288 of tensors, 4,096 of workspace\), but ram_bytes of "
    with pytest.raises(UnfitError, match=words + r"toolchains/cortex_m4.yaml is 16,447"):
        _memory(ram_bytes=16_447).check_ram(CELL)


def test_code_that_just_fits_is_taken_and_more_is_refused_with_the_numbers() -> None:
    _memory().check_flash(CELL, code_bytes=20_000)
    words = r"takes 100,001 bytes of flash \(80,000 of weights, 20,001 of code\), but flash_bytes of "
    with pytest.raises(UnfitError, match=words + r"toolchains/cortex_m4.yaml is 100,000"):
        _memory().check_flash(CELL, code_bytes=20_001)
