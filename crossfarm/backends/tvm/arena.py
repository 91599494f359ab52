"""Plans the arena: one piece of memory in which every intermediate tensor of a model has its place.

Greedy by size: the largest block first, each into the smallest gap that is free during its whole life and fits, else
behind everything that it overlaps in time. Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net
Inference, MLSys 2020 workshop (arXiv:2001.03288), section 5. Other orders are tried as well and the smallest arena
wins, because none is best for every model. Pure: no I/O.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

ALIGNMENT = 64
"""Bytes; compiled code loads whole vectors, and a cache line is as long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lifetime:
    """A block and when it is alive: from step `first` to step `last`, both included.

    Attributes:
        size: bytes.
        first: the step that writes it.
        last: the last step that reads it, `first` or later.
    """

    size: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Say whether both are alive in some step."""
        return self.first <= other.last and other.first <= self.last


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arena:
    """Where each block lies.

    Attributes:
        offsets: bytes from the start of the arena, multiples of ALIGNMENT, one per block.
        size: bytes of the whole arena.
    """

    offsets: tuple[int, ...]
    size: int


def plan_arena(blocks: Sequence[Lifetime]) -> Arena:
    """Give every block a place such that no two that are alive in the same step share a byte.

    The result depends on the blocks alone, and is at least `most_alive(blocks)` long.
    """
    orders: tuple[Callable[[Lifetime], tuple[int, ...]], ...] = (
        lambda block: (-align(block.size), block.first),
        lambda block: (block.first - block.last, -align(block.size), block.first),
        lambda block: (-align(block.size) * (block.last - block.first + 1), block.first),
        lambda block: (block.first, -align(block.size)),
    )
    arenas = [_place(blocks, sorted(range(len(blocks)), key=lambda i: (order(blocks[i]), i))) for order in orders]
    return min(arenas, key=lambda arena: arena.size)


def most_alive(blocks: Sequence[Lifetime]) -> int:
    """Return the most bytes that are alive in one step, each block rounded up to ALIGNMENT: no arena is smaller."""
    changes: dict[int, int] = {}
    for block in blocks:
        changes[block.first] = changes.get(block.first, 0) + align(block.size)
        changes[block.last + 1] = changes.get(block.last + 1, 0) - align(block.size)
    most = alive = 0
    for step in sorted(changes):
        alive += changes[step]
        most = max(most, alive)
    return most


def align(size: int) -> int:
    """Round up to a multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _place(blocks: Sequence[Lifetime], order: Sequence[int]) -> Arena:
    offsets = [0] * len(blocks)
    placed: list[int] = []
    """Indices of the blocks that have a place, by offset."""
    for index in order:
        block = blocks[index]
        if block.size == 0:
            continue
        taken = [(offsets[i], offsets[i] + align(blocks[i].size)) for i in placed if blocks[i].overlaps(block)]
        offsets[index] = _best_gap(taken, align(block.size))
        placed.append(index)
        placed.sort(key=offsets.__getitem__)
    return Arena(
        offsets=tuple(offsets),
        size=max((offsets[i] + align(blocks[i].size) for i in placed), default=0),
    )


def _best_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Return the start of the smallest gap of at least `size` bytes between [start, end) ranges sorted by start."""
    best: tuple[int, int] | None = None
    end = 0
    for start, stop in taken:
        if start - end >= size and (best is None or start - end < best[0]):
            best = (start - end, end)
        end = max(end, stop)
    return best[1] if best is not None else end
