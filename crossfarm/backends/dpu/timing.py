"""The analytic count: how many cycles a command list takes.

Two engines run at the same time, one that moves words between memory and banks and the array with its ALU. Each runs
its own commands in their order; a command begins when its engine is free and as many commands of the other have ended
as it waits for. So what the banks have room for is loaded while the array computes, and a layer begins when the one
before it has ended. The core in runner/dpu/rtl counts the same.

What a count contains: every step of the array and of the ALU, every word between memory and banks at the declared
bandwidth, one cycle for fetching a command, and the declared time beside the array for each layer and run. What it does
not: conflicts of banks, memory latency and refresh, and the host.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from crossfarm.backends.dpu.array import RATE_ONE, Array
from crossfarm.backends.dpu.commands import Alu, Command, Op

FETCH = 1
CONTAINS = (
    "array, ALU, memory transfers at the declared bandwidth, both engines overlapped, and the declared time of layers "
    "and of the run; not conflicts of banks, memory latency, the host, nor the parts of the CPU"
)
_WINDOWED = (Alu.MAX, Alu.AVERAGE, Alu.DEPTHWISE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count:
    """Cycles of a run: in all, and how long each engine was busy with what."""

    cycles: int
    convolution: int
    alu: int
    memory: int
    layers: int


def duration(command: Command, array: Array) -> int:
    """Return the cycles of a command without its fetch; of LAYER those that it was given."""
    if command.op == Op.LAYER:
        return command.cycles
    if command.is_memory:
        return -(-command.words * RATE_ONE // array.rate)
    window = command.kernel_y * command.kernel_x if command.op == Op.CONV or command.kind in _WINDOWED else 1
    pixels = array.pixels if command.op == Op.CONV else array.alu_pixels
    return window * command.in_words * -(-command.out_rows // pixels) * command.out_width


def end(steps: Iterable[tuple[bool, int, int]]) -> int:
    """Return when the last of some commands has ended.

    Args:
        steps: of each, in the order of the program: whether it is the memory engine's, how many commands of the other
            engine it waits for, and its cycles.
    """
    ended: dict[bool, list[int]] = {True: [0], False: [0]}
    for is_memory, wait, cycles in steps:
        mine = ended[is_memory]
        mine.append(max(mine[-1], ended[not is_memory][wait]) + FETCH + cycles)
    return max(ended[True][-1], ended[False][-1])


def count(commands: Sequence[Command]) -> Count:
    """Return how long commands take that carry their cycles.

    Args:
        commands: of a program, in its order.
    """
    busy = dict.fromkeys(Op, 0)
    for command in commands:
        busy[command.op] += command.cycles
    return Count(
        cycles=end((command.is_memory, command.wait, command.cycles) for command in commands),
        convolution=busy[Op.CONV],
        alu=busy[Op.ALU],
        memory=busy[Op.LOAD] + busy[Op.WEIGHTS] + busy[Op.SAVE],
        layers=busy[Op.LAYER],
    )
