"""The estimate of a run, its fit to published latencies, and how far it is off.

Three numbers of the count are not known of the hardware and are fitted: the share of the memory's bandwidth that one
core gets, and the time beside the array's of each layer and of each run. The published figures are end to end, so the
host's part is in them. All three stand in the toolchain files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from crossfarm.backends.dpu.array import MOST_WORDS_A_CYCLE, RATE_ONE
from crossfarm.backends.dpu.commands import Op, Program
from crossfarm.backends.dpu.timing import end

BANDWIDTHS = tuple(4.0 + 0.25 * step for step in range(33))
"""GB/s that the fit tries."""
NETWORKS = 13
"""Of crossfarm.backends.dpu.published."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terms:
    """What is fitted: GB/s, microseconds for each layer, microseconds for each run."""

    gigabytes_per_second: float
    layer_microseconds: float
    run_microseconds: float


class Timed:
    """A program whose terms may be changed without tiling it again: they change no command but its cycles."""

    def __init__(self, program: Program) -> None:
        """Keep the commands; a program that was made without time for layers has no layers to count.

        Args:
            program: made for an array whose layer_cycles are not 0.
        """
        self._channels = program.array.channels
        self._steps = [
            (command.is_memory, command.wait, command.words, 0 if command.op == Op.LAYER else command.cycles)
            for command in program.commands
        ]
        self._layers = sum(command.op == Op.LAYER for command in program.commands)
        self._runs = 1 if program.array.run_cycles else 0
        self._cycles: dict[int, int] = {}

    def milliseconds(self, terms: Terms, *, megahertz: float) -> float:
        """Return the latency of a run under these terms."""
        words = terms.gigabytes_per_second * 1000.0 / megahertz / self._channels
        rate = max(1, min(MOST_WORDS_A_CYCLE * RATE_ONE, round(words * RATE_ONE)))
        if rate not in self._cycles:
            self._cycles[rate] = end(
                (is_memory, wait, -(-words * RATE_ONE // rate) if is_memory else cycles)
                for is_memory, wait, words, cycles in self._steps
            )
        beside = (self._layers - self._runs) * terms.layer_microseconds + terms.run_microseconds
        return self._cycles[rate] / megahertz / 1000.0 + beside / 1000.0

    @property
    def layers(self) -> int:
        """Return how many layers take time beside the array's."""
        return self._layers - self._runs


def fit(programs: Mapping[str, Timed], published: Mapping[str, float], *, megahertz: float) -> Terms:
    """Return the terms with the least mean squared relative error; layer and run follow from the bandwidth.

    Args:
        programs: network -> its program.
        published: network -> milliseconds, for those that the fit may see.
        megahertz: clock of the board.
    """
    tried = []
    for bandwidth in BANDWIDTHS:
        bare = Terms(gigabytes_per_second=bandwidth, layer_microseconds=0.0, run_microseconds=0.0)
        base = {name: programs[name].milliseconds(bare, megahertz=megahertz) for name in published}
        layer, run = _least_squares(programs, published, base)
        terms = dataclasses.replace(bare, layer_microseconds=layer, run_microseconds=run)
        wrong = errors(programs, published, terms, megahertz=megahertz).values()
        tried.append((sum(error * error for error in wrong), bandwidth, terms))
    return min(tried, key=lambda each: each[:2])[2]


def errors(
    programs: Mapping[str, Timed], published: Mapping[str, float], terms: Terms, *, megahertz: float
) -> dict[str, float]:
    """Return network -> (estimate - published) / published."""
    return {
        name: programs[name].milliseconds(terms, megahertz=megahertz) / milliseconds - 1.0
        for name, milliseconds in published.items()
    }


def _least_squares(
    programs: Mapping[str, Timed], published: Mapping[str, float], base: Mapping[str, float]
) -> tuple[float, float]:
    """Return the times of layer and run, neither below 0, with base + layers * layer + run = published at best."""
    rows = [
        (programs[name].layers / time / 1000.0, 1.0 / time / 1000.0, 1.0 - base[name] / time)
        for name, time in published.items()
    ]
    layer, run = _solve(rows)
    if run < 0.0:
        layer, run = _ratio([(a, c) for a, _, c in rows]), 0.0
    elif layer < 0.0:
        layer, run = 0.0, _ratio([(b, c) for _, b, c in rows])
    return max(0.0, layer), max(0.0, run)


def _solve(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    aa, ab, bb = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    ac, bc = (sum(row[i] * row[2] for row in rows) for i in (0, 1))
    determinant = aa * bb - ab * ab
    return (ac * bb - bc * ab) / determinant, (bc * aa - ac * ab) / determinant


def _ratio(rows: Sequence[tuple[float, float]]) -> float:
    return sum(a * c for a, c in rows) / sum(a * a for a, _ in rows)


def accuracy(held_against: int) -> str:
    """Return what an estimate is worth, in the words of the reports.

    Args:
        held_against: networks whose published latency on this board it was held against.
    """
    if held_against:
        return f"within 15 % of published figures for {held_against} networks"
    return "held against no published figure on this board"
