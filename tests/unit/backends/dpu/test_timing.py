"""The analytic count of single commands and of two engines side by side."""

from __future__ import annotations

import dataclasses

import pytest

from crossfarm.backends.dpu.array import RATE_ONE, Array
from crossfarm.backends.dpu.commands import Alu, Command, Op
from crossfarm.backends.dpu.hazards import Access, Hazards, Space, Span
from crossfarm.backends.dpu.timing import FETCH, count, duration, end

ARRAY = Array(
    pixels=8,
    channels=16,
    alu_pixels=4,
    feature_words=1024,
    weight_words=1024,
    weight_lines=32,
    rate=RATE_ONE * 3 // 2,
    layer_cycles=0,
    run_cycles=0,
)
SHAPE = {"in_words": 3, "out_rows": 9, "out_width": 5}


@pytest.mark.parametrize(
    "command, cycles",
    [
        (Command(op=Op.CONV, kernel_y=3, kernel_x=2, **SHAPE), 3 * 2 * 3 * 2 * 5),
        (Command(op=Op.ALU, kind=Alu.MAX, kernel_y=3, kernel_x=2, **SHAPE), 3 * 2 * 3 * 3 * 5),
        (Command(op=Op.ALU, kind=Alu.ADD, kernel_y=3, kernel_x=2, **SHAPE), 3 * 3 * 5),
        (Command(op=Op.LOAD, words=10), 7),
        (Command(op=Op.SAVE, words=9), 6),
        (Command(op=Op.LAYER, cycles=70), 70),
    ],
    ids=["convolution", "pool", "sum", "load", "save", "layer"],
)
def test_a_command_takes_its_steps(command: Command, cycles: int) -> None:
    assert duration(command, ARRAY) == cycles


def test_loads_overlap_with_products_and_a_product_waits_for_its_load() -> None:
    steps = [(True, 0, 10), (False, 1, 100), (True, 0, 10), (False, 2, 100)]
    assert end(steps) == (FETCH + 10) + 2 * (FETCH + 100)
    slow = [(True, 0, 500), (False, 1, 100), (True, 0, 500), (False, 2, 100)]
    assert end(slow) == 2 * (FETCH + 500) + FETCH + 100


def test_a_count_says_what_each_engine_did() -> None:
    commands = [
        Command(op=Op.LOAD, words=10),
        Command(op=Op.CONV, wait=1, **SHAPE),
        Command(op=Op.LAYER, wait=1, cycles=7),
    ]
    found = count([dataclasses.replace(each, cycles=duration(each, ARRAY)) for each in commands])
    assert (found.memory, found.convolution, found.alu, found.layers) == (7, 30, 0, 7)
    assert found.cycles == 3 * FETCH + 7 + 30 + 7


def _span(start: int, words: int, space: Space = Space.FEATURES) -> Span:
    return Span(space=space, start=start, words=words)


def test_a_command_waits_for_what_wrote_what_it_reads_and_for_what_read_what_it_writes() -> None:
    hazards = Hazards()
    assert hazards.issue(Access(writes=(_span(0, 10),)), is_memory=True) == 0
    assert hazards.issue(Access(writes=(_span(10, 10),)), is_memory=True) == 0
    assert hazards.issue(Access(reads=(_span(9, 1),), writes=(_span(50, 5),)), is_memory=False) == 1
    assert hazards.issue(Access(reads=(_span(30, 5),)), is_memory=False) == 1, "not less than the one before"
    assert hazards.issue(Access(writes=(_span(9, 1),)), is_memory=True) == 1
    assert hazards.issue(Access(writes=(_span(9, 1, Space.WEIGHTS),)), is_memory=True) == 1
    assert hazards.issue(Access(is_barrier=True), is_memory=False) == 4
    assert hazards.issue(Access(writes=(_span(900, 1),)), is_memory=True) == 3, "everything waits for a barrier"
