"""From layers to a command list: what lies in the banks when, and what a tile is where a tensor does not fit.

A tensor stays in the banks while it fits there; else rows of it are loaded and saved as tiles, two by two, so that one
is moved while the other is computed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from crossfarm.backends.dpu.array import Array
from crossfarm.backends.dpu.commands import Command, Op, Port, Program
from crossfarm.backends.dpu.hazards import Access, Hazards, Space, Span
from crossfarm.backends.dpu.layer_commands import Operand, Step, Tile, steps_of
from crossfarm.backends.dpu.layers import Layer, Network, Tensor, packed
from crossfarm.backends.dpu.placement import FeatureBanks, Place
from crossfarm.backends.dpu.plans import WITHOUT_WINDOW, Plan, Planner, State
from crossfarm.backends.dpu.timing import duration
from crossfarm.errors import UnfitError

_WITHOUT_OVERHEAD = ("add", "concat", "table")
"""They run as part of a layer beside them, as AMD's compiler has it."""


def tile(network: Network, array: Array) -> Program:
    """Return the command list of a network.

    Args:
        network: its layers keep to the rules of crossfarm.backends.dpu.rules.
        array: for which.

    Raises:
        UnfitError: a layer needs more than the banks hold; the message says how much.
    """
    return _Tiler(packed(network, channels=array.channels), array).program()


class _Tiler:
    """Makes the commands of one network."""

    def __init__(self, network: Network, array: Array) -> None:
        self._network = network
        self._array = array
        self._hazards = Hazards()
        self._commands: list[Command] = []
        self._banks = FeatureBanks(array.feature_words)
        self._homes: dict[str, int] = {}
        self._saved: set[str] = set(network.inputs)
        self._uses = Counter(name for layer in network.layers for name in layer.inputs)
        self._uses.update(network.outputs)
        self._planner = Planner(network, array)
        self._constants: list[bytes] = []
        self._constant_words = 0
        self._memory_words = 0
        self._slots: dict[int, tuple[str, int]] = {}
        self._turn = 0

    def program(self) -> Program:
        """Return the whole program."""
        network = self._network
        steps = {layer.name: list(steps_of(layer, network, self._array)) for layer in network.layers}
        self._memory_words = sum(step.constant_words for each in steps.values() for step in each)
        for name in network.inputs:
            self._home(name)
        for number, layer in enumerate(network.layers):
            self._layer(layer, steps[layer.name], number)
        for name in network.outputs:
            if name not in self._saved:
                self._save(name, self._banks.taken[name], first=0, words=self._planner.words(name))
        if self._array.run_cycles:
            self._emit(Command(op=Op.LAYER, cycles=self._array.run_cycles), Access(is_barrier=True))
        return Program(
            array=self._array,
            inputs=tuple(self._port(name) for name in network.inputs),
            outputs=tuple(self._port(name) for name in network.outputs),
            commands=tuple(self._commands),
            memory_words=self._memory_words,
            constants=b"".join(self._constants),
        )

    def _layer(self, layer: Layer, steps: Sequence[Step], number: int) -> None:
        needed = {name for name, uses in self._uses.items() if uses > 0}
        state = State(banks=self._banks, saved=self._saved, needed=needed)
        plan = self._planner.plan(layer, steps, number, state)
        for name in plan.gone:
            if name not in self._saved and self._uses[name] > 0:
                self._save(name, self._banks.taken[name], first=0, words=self._planner.words(name))
        fresh = [name for name in plan.whole if name not in self._banks.taken]
        self._banks = plan.banks
        for name in fresh:
            self._load(name, plan.whole[name], first=0, words=self._planner.words(name))
        self._slots.clear()
        self._tiles(layer, steps, plan)
        for name in layer.inputs:
            self._uses[name] -= 1
        used_up = [name for name in self._banks.taken if self._uses[name] <= 0]
        self._banks = self._banks.without(used_up)
        if layer.kind not in _WITHOUT_OVERHEAD and self._array.layer_cycles:
            self._emit(Command(op=Op.LAYER, cycles=self._array.layer_cycles), Access(is_barrier=True))

    def _tiles(self, layer: Layer, steps: Sequence[Step], plan: Plan) -> None:
        out = self._network.tensors[layer.output]
        row = out.width * self._array.words(out.channels)
        offsets: dict[int, int] = {}
        waiting: tuple[Place, int, int] | None = None
        for turn, first in enumerate(range(0, out.height, plan.rows)):
            last = min(out.height, first + plan.rows)
            operands = {
                name: self._operand(layer, name, plan, turn=turn, rows=(first, last))
                for name in dict.fromkeys(layer.inputs)
            }
            place = plan.output[turn % len(plan.output)]
            address = place.address + (first * row if plan.is_output_whole else 0)
            piece = Tile(first=first, rows=last - first, address=address, width=out.width)
            for index, step in enumerate(steps):
                weights = self._weights(layer, step, index, offsets, count=len(steps))
                self._compute(step, piece, [operands[name] for name in step.inputs], weights)
            if waiting is not None:
                self._save(layer.output, waiting[0], first=waiting[1], words=waiting[2])
            waiting = None if plan.is_output_whole else (place, first * row, (last - first) * row)
            if waiting is not None and plan.buffers == 1:
                self._save(layer.output, place, first=waiting[1], words=waiting[2])
                waiting = None
        if waiting is not None:
            self._save(layer.output, waiting[0], first=waiting[1], words=waiting[2])

    def _operand(self, layer: Layer, name: str, plan: Plan, *, turn: int, rows: tuple[int, int]) -> Operand:
        """Return what a tile reads of an input, and load it where it is streamed."""
        tensor = self._network.tensors[name]
        words = self._array.words(tensor.channels)
        row = tensor.width * words
        top, begin, end = _rows(layer, tensor, *rows)
        if name in plan.whole:
            address = plan.whole[name].address + begin * row
        else:
            place = plan.streamed[name][turn % len(plan.streamed[name])]
            self._load(name, place, first=begin * row, words=(end - begin) * row)
            address = place.address
        return Operand(address=address, rows=end - begin, width=tensor.width, words=words, top=top - begin)

    def _weights(self, layer: Layer, step: Step, index: int, offsets: dict[int, int], *, count: int) -> int:
        """Return where the constants of a step lie in the weight banks, and load them when they do not."""
        if not step.constant_words:
            return 0
        if index not in offsets:
            offsets[index] = self._constant_words
            self._constant_words += step.constant_words
            if step.constants is not None:
                self._constants.append(step.constants)
        slots = self._array.weight_words // step.constant_words
        if slots < 1:
            raise UnfitError(
                f"layer {layer.name}: {step.constant_words} words of weights do not fit into the weight banks, "
                f"which hold {self._array.weight_words}; raise code.bank_depth"
            )
        wanted = (layer.name, index)
        for slot, held in self._slots.items():
            if held == wanted:
                return slot * step.constant_words
        slot = index if count <= slots else self._turn % slots
        self._turn += 1
        self._slots[slot] = wanted
        address = slot * step.constant_words
        self._emit(
            Command(op=Op.WEIGHTS, memory=offsets[index], bank=address, words=step.constant_words),
            Access(
                reads=(Span(space=Space.MEMORY, start=offsets[index], words=step.constant_words),),
                writes=(Span(space=Space.WEIGHTS, start=address, words=step.constant_words),),
            ),
        )
        return address

    def _compute(self, step: Step, piece: Tile, operands: Sequence[Operand], weights: int) -> None:
        command = step.command(piece, operands, weights)
        reads = [
            Span(space=Space.FEATURES, start=operand.address, words=operand.rows * operand.width * operand.words)
            for operand in operands
        ]
        if step.constant_words:
            reads.append(Span(space=Space.WEIGHTS, start=weights, words=step.constant_words))
        written = ((piece.rows * piece.width) - 1) * command.out_stride + step.out_words
        writes = (Span(space=Space.FEATURES, start=command.out_address, words=written),)
        self._emit(command, Access(reads=reads, writes=writes))

    def _load(self, name: str, place: Place, *, first: int, words: int) -> None:
        address = self._home(name) + first
        self._emit(
            Command(op=Op.LOAD, memory=address, bank=place.address, words=words),
            Access(
                reads=(Span(space=Space.MEMORY, start=address, words=words),),
                writes=(Span(space=Space.FEATURES, start=place.address, words=words),),
            ),
        )

    def _save(self, name: str, place: Place, *, first: int, words: int) -> None:
        address = self._home(name) + first
        self._saved.add(name)
        self._emit(
            Command(op=Op.SAVE, memory=address, bank=place.address, words=words),
            Access(
                reads=(Span(space=Space.FEATURES, start=place.address, words=words),),
                writes=(Span(space=Space.MEMORY, start=address, words=words),),
            ),
        )

    def _emit(self, command: Command, access: Access) -> None:
        wait = self._hazards.issue(access, is_memory=command.is_memory)
        cycles = duration(command, self._array)
        self._commands.append(dataclasses.replace(command, wait=wait, cycles=cycles))

    def _home(self, name: str) -> int:
        """Return where a tensor lies in memory, behind the constants."""
        if name not in self._homes:
            self._homes[name] = self._memory_words
            self._memory_words += self._planner.words(name)
        return self._homes[name]

    def _port(self, name: str) -> Port:
        packing = self._network.packings.get(name)
        tensor = self._network.tensors[name]
        real = packing.tensor if packing is not None else tensor
        return Port(address=self._home(name), tensor=real, packing=packing, width=tensor.width)


def _rows(layer: Layer, tensor: Tensor, first: int, last: int) -> tuple[int, int, int]:
    """Return the row at which the first window of a tile begins, and the rows of an input that the tile reads."""
    if layer.kind in WITHOUT_WINDOW:
        return first, first, last
    top = first * layer.stride[0] - layer.padding[0]
    end = (last - 1) * layer.stride[0] - layer.padding[0] + (layer.kernel[0] - 1) * layer.dilation[0] + 1
    begin = min(max(0, top), tensor.height - 1)
    return top, begin, max(begin + 1, min(end, tensor.height))
