"""From layers to a command list: what lies in the banks when, and what a tile is where a tensor does not fit.

A tensor stays in the banks while it fits there; else rows of it are loaded and saved as tiles, two by two, so that one
is moved while the other is computed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from crossfarm.backends.dpu.array import RATE_ONE, Array
from crossfarm.backends.dpu.commands import Command, Op, Port, Program
from crossfarm.backends.dpu.hazards import Access, Hazards, Space, Span
from crossfarm.backends.dpu.layer_commands import Operand, Step, Tile, steps_of
from crossfarm.backends.dpu.layers import Layer, Network, Tensor, packed
from crossfarm.backends.dpu.placement import FeatureBanks, Place
from crossfarm.backends.dpu.timing import duration
from crossfarm.errors import ModelError

_WITHOUT_OVERHEAD = ("add", "concat")
"""They run as part of a layer beside them, as AMD's compiler has it."""
_WITHOUT_WINDOW = ("add", "concat", "table")


def tile(network: Network, array: Array) -> Program:
    """Return the command list of a network.

    Args:
        network: its layers keep to the rules of crossfarm.backends.dpu.rules.
        array: for which.

    Raises:
        ModelError: a layer needs more than the banks hold; the message says how much.
    """
    return _Tiler(packed(network, channels=array.channels), array).program()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """Where a layer finds its inputs and puts its output.

    Attributes:
        banks: after this layer.
        gone: tensors that make room.
        whole: input -> its place, for those that lie in the banks wholly.
        streamed: input -> its two places, for those of which tiles are loaded.
        output: places of the output, one when it lies there wholly.
        rows: of the output in a tile.
        is_output_whole: the output lies in the banks wholly.
        buffers: places of a tile; with two, one is moved while the other is computed.
    """

    banks: FeatureBanks
    gone: tuple[str, ...]
    whole: Mapping[str, Place]
    streamed: Mapping[str, Sequence[Place]]
    output: Sequence[Place]
    rows: int
    is_output_whole: bool
    buffers: int


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
        self._next_use = _next_uses(network)
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
                self._save(name, self._banks.taken[name], first=0, words=self._words(name))
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
        plan = self._plan(layer, steps, number)
        for name in plan.gone:
            if name not in self._saved and self._uses[name] > 0:
                self._save(name, self._banks.taken[name], first=0, words=self._words(name))
        fresh = [name for name in plan.whole if name not in self._banks.taken]
        self._banks = plan.banks
        for name in fresh:
            self._load(name, plan.whole[name], first=0, words=self._words(name))
        self._slots.clear()
        self._tiles(layer, steps, plan)
        for name in layer.inputs:
            self._uses[name] -= 1
        used_up = [name for name in self._banks.taken if self._uses[name] <= 0]
        self._banks = self._banks.without(used_up)
        if layer.kind not in _WITHOUT_OVERHEAD and self._array.layer_cycles:
            self._emit(Command(op=Op.LAYER, cycles=self._array.layer_cycles), Access(is_barrier=True))

    def _tiles(self, layer: Layer, steps: Sequence[Step], plan: _Plan) -> None:
        out = self._network.tensors[layer.output]
        row = out.width * self._array.words(out.channels)
        offsets: dict[int, int] = {}
        waiting: tuple[Place, int, int] | None = None
        for turn, first in enumerate(range(0, out.height, plan.rows)):
            last = min(out.height, first + plan.rows)
            operands = {name: self._operand(layer, name, plan, turn, first, last) for name in dict.fromkeys(layer.inputs)}
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

    def _operand(self, layer: Layer, name: str, plan: _Plan, turn: int, first: int, last: int) -> Operand:
        """Return what a tile reads of an input, and load it where it is streamed."""
        tensor = self._network.tensors[name]
        words = self._array.words(tensor.channels)
        row = tensor.width * words
        top, begin, end = _rows(layer, tensor, first, last)
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
            raise ModelError(
                f"layer {layer.name}: {step.constant_words} words of weights do not fit into the weight banks, which hold "
                f"{self._array.weight_words}; raise code.bank_depth"
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

    def _plan(self, layer: Layer, steps: Sequence[Step], number: int) -> _Plan:
        """Choose what lies in the banks wholly and how many rows a tile has: what takes the least time."""
        inputs = tuple(dict.fromkeys(layer.inputs))
        here = tuple(name for name in inputs if name in self._banks.taken)
        others = [name for name in self._banks.taken if name not in inputs]
        others.sort(key=lambda name: self._next_use(name, number), reverse=True)
        kinds = dict.fromkeys((inputs, here, ()))
        found = [
            plan
            for whole in kinds
            for is_output_whole in (True, False)
            for buffers in (2, 1)
            if (plan := self._first(layer, whole, others, is_output_whole=is_output_whole, buffers=buffers)) is not None
        ]
        if not found:
            raise ModelError(self._too_large(layer))
        return min(found, key=lambda plan: self._cost(layer, steps, plan))

    def _first(
        self, layer: Layer, whole: Sequence[str], others: Sequence[str], *, is_output_whole: bool, buffers: int
    ) -> _Plan | None:
        """Return the plan of this kind that moves the fewest other tensors out, and then has the largest tiles."""
        evicted = tuple(name for name in layer.inputs if name in self._banks.taken and name not in whole)
        is_whole = is_output_whole and set(whole) == set(layer.inputs)
        for gone in range(len(others) + 1):
            for rows in self._row_counts(layer, is_whole=is_whole):
                leaving = (*others[:gone], *evicted)
                plan = self._try(layer, whole, leaving, rows, is_output_whole=is_output_whole, buffers=buffers)
                if plan is not None:
                    return plan
        return None

    def _cost(self, layer: Layer, steps: Sequence[Step], plan: _Plan) -> float:
        """Return about how many cycles a layer takes with a plan, what it leaves to be loaded later included."""
        out, array = self._network.tensors[layer.output], self._array
        tiles = -(-out.height // plan.rows)
        lanes = array.pixels if layer.kind == "conv" else array.alu_pixels
        last = out.height - (tiles - 1) * plan.rows
        blocks = (tiles - 1) * -(-plan.rows // lanes) + -(-last // lanes)
        words = array.words(self._network.tensors[layer.inputs[0]].channels)
        window = layer.kernel[0] * layer.kernel[1] if layer.kind not in _WITHOUT_WINDOW else 1
        computed = blocks * out.width * window * words * len(steps)
        slots = array.weight_words // max(1, *(step.constant_words for step in steps))
        weights = sum(step.constant_words for step in steps) * (1 if slots >= len(steps) else tiles)
        overlapped = sum(tiles * self._tile_words(layer, name, plan.rows) for name in plan.streamed)
        apart = sum(self._words(name) for name in plan.whole if name not in self._banks.taken)
        apart += sum((1 if name in self._saved else 2) * self._words(name) for name in plan.gone if self._uses[name] > 0)
        if not plan.is_output_whole:
            overlapped += self._words(layer.output)
            apart += self._words(layer.output)
        if plan.buffers == 1:
            apart, overlapped = apart + overlapped, 0
        moved = RATE_ONE / array.rate
        return max(computed, (weights + overlapped) * moved) + apart * moved

    def _try(
        self, layer: Layer, whole: Sequence[str], leaving: Sequence[str], rows: int, *, is_output_whole: bool, buffers: int
    ) -> _Plan | None:
        """Return a plan of this kind; None when it does not fit."""
        banks = self._banks.without(leaving)
        places: dict[str, Place] = {}
        for name in whole:
            place = banks.taken.get(name) or banks.take(name, self._words(name))
            if place is None:
                return None
            places[name] = place
        out = self._network.tensors[layer.output]
        row = out.width * self._array.words(out.channels)
        count = 1 if rows >= out.height else buffers
        if is_output_whole:
            place = banks.take(layer.output, self._words(layer.output))
            outputs = [] if place is None else [place]
        else:
            outputs = self._pair(banks, "output", row * rows, count=count)
        streamed = {}
        for name in dict.fromkeys(layer.inputs):
            if name not in places:
                streamed[name] = self._pair(banks, f"input {name}", self._tile_words(layer, name, rows), count=count)
        if not outputs or not all(streamed.values()):
            return None
        kept = banks.without([*self._tile_names(banks)])
        return _Plan(
            banks=kept,
            gone=tuple(leaving),
            whole=places,
            streamed=streamed,
            output=outputs,
            rows=rows,
            is_output_whole=is_output_whole,
            buffers=count,
        )

    @staticmethod
    def _pair(banks: FeatureBanks, name: str, words: int, *, count: int) -> list[Place]:
        places = [banks.take(f"{_TILE}{name} {number}", words) for number in range(count)]
        found = [place for place in places if place is not None]
        return found if len(found) == count else []

    @staticmethod
    def _tile_names(banks: FeatureBanks) -> list[str]:
        return [name for name in banks.taken if name.startswith(_TILE)]

    def _row_counts(self, layer: Layer, *, is_whole: bool) -> Iterator[int]:
        """Yield how many rows of the output a tile may have: all, then fewer, multiples of the array's while it goes."""
        height, pixels = self._network.tensors[layer.output].height, self._array.pixels
        yield height
        if is_whole:
            return
        rows = height
        while rows > pixels:
            rows = (rows - 1) // pixels * pixels
            yield rows
        while rows > 1:
            rows = min(pixels, rows) // 2 or 1
            yield rows

    def _tile_words(self, layer: Layer, name: str, rows: int) -> int:
        """Return the most words of an input that a tile of so many rows reads."""
        tensor = self._network.tensors[name]
        if layer.kind in _WITHOUT_WINDOW:
            needed = rows
        else:
            needed = (rows - 1) * layer.stride[0] + (layer.kernel[0] - 1) * layer.dilation[0] + 1
        return min(needed, tensor.height) * tensor.width * self._array.words(tensor.channels)

    def _too_large(self, layer: Layer) -> str:
        out = self._network.tensors[layer.output]
        row = out.width * self._array.words(out.channels)
        reads = {name: self._tile_words(layer, name, 1) for name in dict.fromkeys(layer.inputs)}
        needed = row + sum(reads.values())
        return (
            f"layer {layer.name}: a tile of one row needs {needed} words of the feature banks ({row} for the result and "
            f"{sum(reads.values())} for what it reads), which hold {self._array.feature_words}; raise "
            "code.bank_depth or code.bank_num, or leave the cell out with `skip` in models.yaml"
        )

    def _words(self, name: str) -> int:
        tensor = self._network.tensors[name]
        return tensor.height * tensor.width * self._array.words(tensor.channels)

    def _home(self, name: str) -> int:
        """Return where a tensor lies in memory, behind the constants."""
        if name not in self._homes:
            self._homes[name] = self._memory_words
            self._memory_words += self._words(name)
        return self._homes[name]

    def _port(self, name: str) -> Port:
        packing = self._network.packings.get(name)
        tensor = self._network.tensors[name]
        real = packing.tensor if packing is not None else tensor
        return Port(address=self._home(name), tensor=real, packing=packing, width=tensor.width)


_TILE = "\0tile "
"""Begins the names of tiles among the places of tensors."""


def _rows(layer: Layer, tensor: Tensor, first: int, last: int) -> tuple[int, int, int]:
    """Return the row at which the first window of a tile begins, and the rows of an input that the tile reads."""
    if layer.kind in _WITHOUT_WINDOW:
        return first, first, last
    top = first * layer.stride[0] - layer.padding[0]
    end = (last - 1) * layer.stride[0] - layer.padding[0] + (layer.kernel[0] - 1) * layer.dilation[0] + 1
    begin = min(max(0, top), tensor.height - 1)
    return top, begin, max(begin + 1, min(end, tensor.height))


def _next_uses(network: Network) -> _NextUse:
    uses: dict[str, list[int]] = {}
    for number, layer in enumerate(network.layers):
        for name in layer.inputs:
            uses.setdefault(name, []).append(number)
    return _NextUse(uses)


class _NextUse:
    """When a tensor is needed next."""

    def __init__(self, uses: Mapping[str, Sequence[int]]) -> None:
        self._uses = uses

    def __call__(self, name: str, number: int) -> int:
        return min((use for use in self._uses.get(name, ()) if use >= number), default=1 << 30)


