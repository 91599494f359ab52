"""Where a layer finds its inputs and puts its output: of all that fits into the banks, what takes the least time."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from crossfarm.backends.dpu.array import RATE_ONE, Array
from crossfarm.backends.dpu.layer_commands import Step
from crossfarm.backends.dpu.layers import Layer, Network
from crossfarm.backends.dpu.placement import FeatureBanks, Place
from crossfarm.errors import UnfitError

WITHOUT_WINDOW = ("add", "concat", "table")
"""Each pixel of the result is made of the same pixel of what is read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
    """Of plans: the output lies in the banks wholly or as tiles, and so many places are for each tile."""

    is_output_whole: bool
    buffers: int


_KINDS = tuple(_Kind(is_output_whole=whole, buffers=buffers) for whole in (True, False) for buffers in (2, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """What lies where when a layer begins.

    Attributes:
        banks: with the tensors that lie there wholly.
        saved: tensors that memory holds.
        needed: tensors that a layer or a reader of the outputs still needs.
    """

    banks: FeatureBanks
    saved: Collection[str]
    needed: Collection[str]


class Planner:
    """Plans the layers of one network."""

    def __init__(self, network: Network, array: Array) -> None:
        """Look at when tensors are used.

        Args:
            network: whose layers are planned, in their order.
            array: for which.
        """
        self._network = network
        self._array = array
        self._uses: dict[str, list[int]] = {}
        for number, layer in enumerate(network.layers):
            for name in layer.inputs:
                self._uses.setdefault(name, []).append(number)

    def plan(self, layer: Layer, steps: Sequence[Step], number: int, state: State) -> Plan:
        """Choose what lies in the banks wholly and how many rows a tile has: what takes the least time.

        Args:
            layer: the one of that number.
            steps: its commands.
            number: its place in the network.
            state: what lies where.

        Raises:
            UnfitError: no tile of it fits; the message says how much it needs.
        """
        inputs = tuple(dict.fromkeys(layer.inputs))
        here = tuple(name for name in inputs if name in state.banks.taken)
        others = [name for name in state.banks.taken if name not in inputs]
        others.sort(key=lambda name: self._next_use(name, number), reverse=True)
        kinds = dict.fromkeys((inputs, here, ()))
        found = [
            plan
            for whole in kinds
            for kind in _KINDS
            if (plan := self._first(layer, whole, others, state, kind)) is not None
        ]
        if not found:
            raise UnfitError(self._too_large(layer))
        return min(found, key=lambda plan: self._cost(layer, steps, plan, state))

    def _first(
        self, layer: Layer, whole: Sequence[str], others: Sequence[str], state: State, kind: _Kind
    ) -> Plan | None:
        """Return the plan of this kind that moves the fewest other tensors out, and then has the largest tiles."""
        evicted = tuple(name for name in layer.inputs if name in state.banks.taken and name not in whole)
        is_whole = kind.is_output_whole and set(whole) == set(layer.inputs)
        for gone in range(len(others) + 1):
            for rows in self._row_counts(layer, is_whole=is_whole):
                leaving = (*others[:gone], *evicted)
                plan = self._try(layer, whole, state.banks.without(leaving), kind, rows=rows)
                if plan is not None:
                    return dataclasses.replace(plan, gone=leaving)
        return None

    def _cost(self, layer: Layer, steps: Sequence[Step], plan: Plan, state: State) -> float:
        """Return about how many cycles a layer takes with a plan, what it leaves to be loaded later included."""
        out, array = self._network.tensors[layer.output], self._array
        tiles = -(-out.height // plan.rows)
        lanes = array.pixels if layer.kind == "conv" else array.alu_pixels
        last = out.height - (tiles - 1) * plan.rows
        blocks = (tiles - 1) * -(-plan.rows // lanes) + -(-last // lanes)
        words = array.words(self._network.tensors[layer.inputs[0]].channels)
        window = layer.kernel[0] * layer.kernel[1] if layer.kind not in WITHOUT_WINDOW else 1
        computed = blocks * out.width * window * words * len(steps)
        slots = array.weight_words // max(1, *(step.constant_words for step in steps))
        weights = sum(step.constant_words for step in steps) * (1 if slots >= len(steps) else tiles)
        overlapped = sum(tiles * self._tile_words(layer, name, plan.rows) for name in plan.streamed)
        apart = sum(self.words(name) for name in plan.whole if name not in state.banks.taken)
        apart += sum((1 if name in state.saved else 2) * self.words(name) for name in plan.gone if name in state.needed)
        if not plan.is_output_whole:
            overlapped += self.words(layer.output)
            apart += self.words(layer.output)
        if plan.buffers == 1:
            apart, overlapped = apart + overlapped, 0
        moved = RATE_ONE / array.rate
        return max(computed, (weights + overlapped) * moved) + apart * moved

    def _try(self, layer: Layer, whole: Sequence[str], banks: FeatureBanks, kind: _Kind, *, rows: int) -> Plan | None:
        """Return a plan of this kind; None when it does not fit."""
        places: dict[str, Place] = {}
        for name in whole:
            place = banks.taken.get(name) or banks.take(name, self.words(name))
            if place is None:
                return None
            places[name] = place
        out = self._network.tensors[layer.output]
        row = out.width * self._array.words(out.channels)
        count = 1 if rows >= out.height else kind.buffers
        if kind.is_output_whole:
            place = banks.take(layer.output, self.words(layer.output))
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
        return Plan(
            banks=kept,
            gone=(),
            whole=places,
            streamed=streamed,
            output=outputs,
            rows=rows,
            is_output_whole=kind.is_output_whole,
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
        """Yield how many rows a tile of the output may have: all, then fewer, multiples of the array's at first."""
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
        if layer.kind in WITHOUT_WINDOW:
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
            f"layer {layer.name}: a tile of one row needs {needed} words of the feature banks ({row} for the result "
            f"and {sum(reads.values())} for what it reads), which hold {self._array.feature_words}; raise "
            "code.bank_depth or code.bank_num, or choose another target"
        )

    def words(self, name: str) -> int:
        """Return how many words a tensor takes."""
        tensor = self._network.tensors[name]
        return tensor.height * tensor.width * self._array.words(tensor.channels)

    def _next_use(self, name: str, number: int) -> int:
        return min((use for use in self._uses.get(name, ()) if use >= number), default=1 << 30)


_TILE = "\0tile "
"""Begins the names of tiles among the places of tensors."""
