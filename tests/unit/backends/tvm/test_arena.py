"""Laws of the arena planner."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.tvm.arena import ALIGNMENT, Lifetime, align, most_alive, plan_arena


@st.composite
def lifetimes(draw: st.DrawFn) -> Lifetime:
    first = draw(st.integers(-1, 30))
    return Lifetime(size=draw(st.integers(0, 5000)), first=first, last=first + draw(st.integers(0, 12)))


BLOCKS = st.lists(lifetimes(), max_size=40)


@given(BLOCKS)
def test_no_two_blocks_that_are_alive_at_once_share_a_byte(blocks: list[Lifetime]) -> None:
    offsets = plan_arena(blocks).offsets
    for (one, at), (other, other_at) in combinations(zip(blocks, offsets, strict=True), 2):
        alive_at_once = any(other.first <= step <= other.last for step in range(one.first, one.last + 1))
        if alive_at_once and one.size and other.size:
            assert at + one.size <= other_at or other_at + other.size <= at


@given(BLOCKS)
def test_every_block_is_aligned_and_inside(blocks: list[Lifetime]) -> None:
    arena = plan_arena(blocks)
    assert len(arena.offsets) == len(blocks)
    for block, offset in zip(blocks, arena.offsets, strict=True):
        assert offset % ALIGNMENT == 0
        assert 0 <= offset <= offset + block.size <= arena.size


@given(BLOCKS)
def test_the_arena_is_no_smaller_than_what_is_alive_and_no_larger_than_everything(blocks: list[Lifetime]) -> None:
    size = plan_arena(blocks).size
    assert most_alive(blocks) <= size <= sum(align(block.size) for block in blocks)


@given(BLOCKS)
def test_equal_blocks_get_equal_places(blocks: list[Lifetime]) -> None:
    assert plan_arena(blocks) == plan_arena(list(blocks))


@given(st.integers(1, 5000), st.lists(st.integers(0, 63), min_size=2, max_size=30))
def test_a_chain_of_values_of_like_size_needs_two_places(size: int, less: list[int]) -> None:
    """Each value feeds the next, and all are equal once they are aligned: the optimum is known."""
    sizes = [align(size) - smaller for smaller in less]
    blocks = [Lifetime(size=size, first=step, last=step + 1) for step, size in enumerate(sizes)]
    assert plan_arena(blocks).size == 2 * align(size)


@given(BLOCKS)
def test_most_alive_counts_every_step(blocks: list[Lifetime]) -> None:
    steps = range(-1, 44)
    assert most_alive(blocks) == max(
        sum(align(block.size) for block in blocks if block.first <= step <= block.last) for step in steps
    )


def test_nothing_needs_no_arena() -> None:
    assert plan_arena([]).size == 0
    assert plan_arena([Lifetime(size=0, first=0, last=3)]).size == 0


def test_two_blocks_that_never_meet_share_their_place() -> None:
    arena = plan_arena([Lifetime(size=100, first=0, last=1), Lifetime(size=90, first=2, last=3)])
    assert arena.offsets == (0, 0)
    assert arena.size == 128


def test_a_block_that_is_read_in_the_step_that_writes_another_keeps_its_place() -> None:
    arena = plan_arena([Lifetime(size=64, first=0, last=1), Lifetime(size=64, first=1, last=2)])
    assert arena.size == 128


def test_the_smallest_gap_that_fits_is_taken() -> None:
    blocks = [
        Lifetime(size=640, first=0, last=9),
        Lifetime(size=576, first=0, last=4),
        Lifetime(size=512, first=0, last=9),
        Lifetime(size=448, first=0, last=4),
        Lifetime(size=384, first=0, last=9),
        Lifetime(size=320, first=5, last=9),
    ]
    arena = plan_arena(blocks)
    assert arena.size == most_alive(blocks)
