"""LSTM, GRU and RNN: one product for the inputs of all steps, then one function whose loop goes over the steps.

Columns of the weights belong to gates, which stand side by side in blocks; the gates of a block are computed in one
sweep over the state. Each block is filled up with zeros to whole register tiles:

    LSTM    one block     i o f c
    GRU     two blocks    z r  and  h, whose product waits for r (or, with linear_before_reset, does not)
    RNN     one block     i

Code does not grow with the number of steps. Equations: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html,
onnx__RNN.html; what they leave open (clip before activations, zeros behind the end of a sequence) is ONNX Runtime's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax, tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.activations import Activation, chosen_activations
from crossfarm.backends.tvm.operators.emitting import cast, optional, part, permuted, reshaped, tensor
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm, shape_of
from crossfarm.backends.tvm.operators.serial import Row, local, run_loops, scalar
from crossfarm.backends.tvm.passes.relax_utils import constant_array
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr

_LANES, _VECTORS = 8, 4
_TILE = _LANES * _VECTORS
"""Columns that are summed up at once: they stay in registers, also of a processor that has sixteen of four lanes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Cell:
    """What kind of node it is.

    Attributes:
        blocks: gates of each block.
        activations: of each direction, by default.
    """

    blocks: tuple[int, ...]
    activations: tuple[str, ...]

    @property
    def gates(self) -> int:
        """Gates in all."""
        return sum(self.blocks)


_CELLS = {
    "LSTM": _Cell(blocks=(4,), activations=("Sigmoid", "Tanh", "Tanh")),
    "GRU": _Cell(blocks=(2, 1), activations=("Sigmoid", "Tanh")),
    "RNN": _Cell(blocks=(1,), activations=("Tanh",)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Form:
    """Extents and attributes of a node.

    Attributes:
        steps: of the longest sequence.
        batch: sequences.
        width: elements of an input at one step.
        hidden: elements of the state.
        reversed: for each direction, whether it goes from the last step to the first.
        clip: bound of what goes into an activation; None for no bound.
        activations: for each direction.
        columns: of each block, filled up to whole tiles.
        dtype: of everything.
    """

    cell: _Cell
    steps: int
    batch: int
    width: int
    hidden: int
    reversed: tuple[bool, ...]
    clip: float | None
    activations: tuple[tuple[Activation, ...], ...]
    columns: tuple[int, ...]
    dtype: str

    @property
    def directions(self) -> int:
        """One or two."""
        return len(self.reversed)

    @property
    def total(self) -> int:
        """Columns of one direction."""
        return sum(self.columns)

    def clipped(self, value: PrimExpr) -> PrimExpr:
        """Return what goes into an activation."""
        if self.clip is None:
            return value
        bound = tirx.const(self.clip, self.dtype)
        return tirx.max(tirx.min(value, bound), -bound)


def _import(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    form = _form(node)
    batch_first = bool(node.attributes.get("layout", 0))
    x = permuted(node, node.input(0), [1, 0, 2] if batch_first else [0, 1, 2])
    before_reset = bool(node.attributes.get("linear_before_reset", 0)) and node.operator == "GRU"
    projected = _projected(node, form, x, before_reset=before_reset)
    recurrent = _columns(node, form, node.input(2), rows=form.hidden)
    _require_shapes(node, form, batch_first=batch_first)
    inputs = [projected, recurrent]
    places: dict[str, int] = {}

    def given(name: str, expression: RelaxExpr | None) -> None:
        if expression is not None:
            places[name] = len(inputs)
            inputs.append(expression)

    given("lengths", None if optional(node, 4) is None else cast(node, node.input(4), "int32"))
    given("h", _state(node, 5, batch_first=batch_first))
    given("c", _state(node, 6, batch_first=batch_first) if node.operator == "LSTM" else None)
    given("peepholes", optional(node, 7) if node.operator == "LSTM" else None)
    given("bias", _recurrent_bias(node, form) if before_reset and node.has(3) else None)
    step, state = (form.batch, form.hidden), (form.directions, form.batch, form.hidden)
    outputs: list[tuple[Sequence[int], str]] = [
        ((form.steps, form.directions, *step), form.dtype),
        (state, form.dtype),
        (state, form.dtype),
        ((form.total,), form.dtype),
        ((form.hidden,), form.dtype),
    ]

    def body(*rows: Row) -> None:
        memory = _Memory(
            form=form,
            projected=rows[0],
            recurrent=rows[1],
            given={name: rows[place] for name, place in places.items()},
            results=rows[len(inputs) : len(inputs) + 3],
            gates=rows[len(inputs) + 3],
            scratch=rows[len(inputs) + 4],
        )
        step = _STEPS[node.operator]
        if node.operator == "LSTM":
            step = functools.partial(step, coupled=bool(node.attributes.get("input_forget", 0)))
        elif node.operator == "GRU":
            step = functools.partial(step, before_reset=before_reset)
        for direction in range(form.directions):
            memory.over_sequences(direction, step)

    made = run_loops(node, body, inputs=inputs, outputs=outputs)
    y, last, cell = made[:3]
    if batch_first:
        y = permuted(node, y, [2, 0, 1, 3])
        last, cell = (permuted(node, each, [1, 0, 2]) for each in (last, cell))
    return [y, last, cell][: 3 if node.operator == "LSTM" else 2]


def _form(node: Node) -> _Form:
    cell = _CELLS[node.operator]
    attributes = node.attributes
    extents = node.shape(0)
    steps, batch = (extents[1], extents[0]) if attributes.get("layout", 0) else extents[:2]
    directions, rows, width = node.shape(1)
    hidden = rows // cell.gates
    direction = attributes.get("direction", "forward")
    turned = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(direction)
    if turned is None or len(turned) != directions:
        raise UnsupportedForm(f"its direction {direction!r} does not fit weights for {directions} direction(s)")
    if node.dtype(0) not in ("float32", "float64"):
        raise UnsupportedForm(f"it computes in {node.dtype(0)}; float32 and float64 are known")
    if min(steps, batch, hidden, width) < 1:
        raise UnsupportedForm("one of its extents is 0")
    return _Form(
        cell=cell,
        steps=steps,
        batch=batch,
        width=width,
        hidden=hidden,
        reversed=turned,
        clip=float(attributes["clip"]) if attributes.get("clip") else None,
        activations=chosen_activations(attributes, default=cell.activations, directions=directions),
        columns=tuple(-(-gates * hidden // _TILE) * _TILE for gates in cell.blocks),
        dtype=node.dtype(0),
    )


def _columns(node: Node, form: _Form, weights: RelaxExpr, *, rows: int) -> RelaxExpr:
    """Return weights [directions, gates * hidden, rows] as [directions, rows, columns], blocks filled up with zeros."""
    blocks, start = [], 0
    for gates, columns in zip(form.cell.blocks, form.columns, strict=True):
        end = start + gates * form.hidden
        zeros = tensor(np.zeros((form.directions, columns - (end - start), rows), form.dtype))
        blocks.append(part(node, weights, axis=1, begin=start, end=end))
        blocks.append(zeros)
        start = end
    return permuted(node, _joined(node, blocks, axis=1), [0, 2, 1])


def _joined(node: Node, blocks: Sequence[RelaxExpr], *, axis: int) -> RelaxExpr:
    arrays = [constant_array(block) for block in blocks]
    if all(array is not None for array in arrays):
        return tensor(np.concatenate([array for array in arrays if array is not None], axis=axis))
    filled = [block for block in blocks if 0 not in shape_of(block)]
    return filled[0] if len(filled) == 1 else node.emit(relax.op.concat(filled, axis=axis))


def _projected(node: Node, form: _Form, x: RelaxExpr, *, before_reset: bool) -> RelaxExpr:
    """Return what the inputs add to the gates: [steps * batch, directions * columns]."""
    wide = form.directions * form.total
    weights = permuted(node, _columns(node, form, node.input(1), rows=form.width), [1, 0, 2])
    flat = reshaped(node, x, [form.steps * form.batch, form.width])
    product = node.emit(relax.op.matmul(flat, reshaped(node, weights, [form.width, wide])))
    if not node.has(3):
        return product
    bias = reshaped(node, _bias(node, form, before_reset=before_reset), [wide])
    return node.emit(relax.op.add(product, bias))


def _bias(node: Node, form: _Form, *, before_reset: bool) -> RelaxExpr:
    """Return the sum of both biases [directions, 1, columns]; the recurrent one of GRU's gate h may stand elsewhere."""
    size = form.cell.gates * form.hidden
    first = part(node, node.input(3), axis=1, begin=0, end=size)
    second = part(node, node.input(3), axis=1, begin=size, end=2 * size)
    if before_reset:
        kept = part(node, second, axis=1, begin=0, end=2 * form.hidden)
        second = _joined(node, [kept, tensor(np.zeros((form.directions, form.hidden), form.dtype))], axis=1)
    arrays = constant_array(first), constant_array(second)
    if arrays[0] is not None and arrays[1] is not None:
        added = tensor(arrays[0] + arrays[1])
    else:
        added = node.emit(relax.op.add(first, second))
    return _columns(node, form, reshaped(node, added, [form.directions, size, 1]), rows=1)


def _recurrent_bias(node: Node, form: _Form) -> RelaxExpr:
    """Return the recurrent bias of GRU's gate h [directions, hidden]."""
    return part(node, node.input(3), axis=1, begin=5 * form.hidden, end=6 * form.hidden)


def _require_shapes(node: Node, form: _Form, *, batch_first: bool) -> None:
    """Raise UnsupportedForm for an input that may be left out and has another shape than the loops count on."""
    first, second = (form.batch, form.directions) if batch_first else (form.directions, form.batch)
    state = (first, second, form.hidden)
    wanted = {4: (form.batch,), 5: state, 6: state, 7: (form.directions, 3 * form.hidden)}
    for number, shape in wanted.items():
        if node.has(number):
            node.require(number, shape)


def _state(node: Node, place: int, *, batch_first: bool) -> RelaxExpr | None:
    return permuted(node, node.input(place), [1, 0, 2] if batch_first else [0, 1, 2]) if node.has(place) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Memory:
    """The buffers of the function.

    Attributes:
        projected: [steps, batch, directions, columns].
        recurrent: weights [directions, hidden, columns].
        given: inputs that may be left out.
        results: Y [steps, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden], which hold the state.
        gates: of one step, [columns].
        scratch: [hidden].
    """

    form: _Form
    projected: Row
    recurrent: Row
    given: dict[str, Row]
    results: Sequence[Row]
    gates: Row
    scratch: Row

    def over_sequences(self, direction: int, step: Callable[..., None]) -> None:
        """Write the loops over sequences and steps of one direction."""
        form = self.form
        y, h, c = self.results
        with T.serial(0, form.batch) as sequence:
            state = (direction * form.batch + sequence) * form.hidden
            with T.serial(0, form.hidden) as k:
                h[state + k] = self._initial("h", state + k)
                c[state + k] = self._initial("c", state + k)
            length: PrimExpr = tirx.const(form.steps, "int32")
            if "lengths" in self.given:
                bounded = scalar("int32")
                bounded[0] = tirx.max(tirx.min(self.given["lengths"][sequence], form.steps), 0)
                length = bounded[0]
            with T.serial(0, form.steps) as number, T.If(number < length):
                with T.Then():
                    moment = length - 1 - number if form.reversed[direction] else number
                    place = ((moment * form.directions + direction) * form.batch + sequence) * form.hidden
                    first = ((moment * form.batch + sequence) * form.directions + direction) * form.total
                    step(self, direction, first, state)
                    with T.serial(0, form.hidden) as k:
                        y[place + k] = h[state + k]
                with T.Else():
                    place = ((number * form.directions + direction) * form.batch + sequence) * form.hidden
                    with T.serial(0, form.hidden) as k:
                        y[place + k] = tirx.const(0, form.dtype)

    def _initial(self, name: str, place: PrimExpr) -> PrimExpr:
        return self.given[name][place] if name in self.given else tirx.const(0, self.form.dtype)

    def sum_up(
        self,
        direction: int,
        block: int,
        vector: Callable[[PrimExpr], PrimExpr],
        start: Callable[[PrimExpr], PrimExpr],
    ) -> None:
        """Write the product of a vector with the recurrent weights of one block into its gates.

        Args:
            direction: whose weights.
            block: number of the block.
            vector: returns element k of the vector.
            start: returns what the sum of a column begins with.
        """
        form = self.form
        offset = sum(form.columns[:block])
        base = direction * form.hidden * form.total + offset
        with T.serial(0, form.columns[block] // _TILE) as tile:
            sums = local(_TILE, form.dtype)
            for vector_number in range(_VECTORS):
                with T.vectorized(0, _LANES) as lane:
                    column = vector_number * _LANES + lane
                    sums[column] = start(tile * _TILE + column)
            with T.serial(0, form.hidden) as k:
                for vector_number in range(_VECTORS):
                    with T.vectorized(0, _LANES) as lane:
                        column = vector_number * _LANES + lane
                        weight = self.recurrent[base + k * form.total + tile * _TILE + column]
                        sums[column] = sums[column] + vector(k) * weight
            for vector_number in range(_VECTORS):
                with T.vectorized(0, _LANES) as lane:
                    column = vector_number * _LANES + lane
                    self.gates[offset + tile * _TILE + column] = sums[column]


def _lstm_step(memory: _Memory, direction: int, first: PrimExpr, state: PrimExpr, *, coupled: bool) -> None:
    form = memory.form
    _, h, c = memory.results
    f, g, last = form.activations[direction]
    size, gates = form.hidden, memory.gates
    peepholes = memory.given.get("peepholes")
    memory.sum_up(direction, 0, lambda k: h[state + k], lambda column: memory.projected[first + column])

    def looked(number: int, k: PrimExpr) -> PrimExpr:
        """Return what the state of the cell adds to a gate."""
        if peepholes is None:
            return tirx.const(0, form.dtype)
        return peepholes[direction * 3 * size + number * size + k] * c[state + k]

    with T.serial(0, size) as k:
        entered, kept, fresh, cell = (scalar(form.dtype) for _ in range(4))
        entered[0] = f(form.clipped(gates[k] + looked(0, k)))
        if coupled:
            kept[0] = tirx.const(1, form.dtype) - entered[0]
        else:
            kept[0] = f(form.clipped(gates[2 * size + k] + looked(2, k)))
        fresh[0] = g(form.clipped(gates[3 * size + k]))
        cell[0] = kept[0] * c[state + k] + entered[0] * fresh[0]
        c[state + k] = cell[0]
        leaves = scalar(form.dtype)
        leaves[0] = f(form.clipped(gates[size + k] + looked(1, k)))
        h[state + k] = leaves[0] * last(cell[0])


def _gru_step(memory: _Memory, direction: int, first: PrimExpr, state: PrimExpr, *, before_reset: bool) -> None:
    form = memory.form
    _, h, _ = memory.results
    f, g = form.activations[direction]
    size, gates, offset = form.hidden, memory.gates, form.columns[0]
    memory.sum_up(direction, 0, lambda k: h[state + k], lambda column: memory.projected[first + column])
    with T.serial(0, size) as k:
        # The state behind the reset gate, or the gate alone where its product with the weights comes first.
        reset = f(form.clipped(gates[size + k]))
        memory.scratch[k] = reset if before_reset else reset * h[state + k]
    zero = tirx.const(0, form.dtype)
    if before_reset:
        memory.sum_up(direction, 1, lambda k: h[state + k], lambda column: zero)
    else:
        memory.sum_up(
            direction, 1, lambda k: memory.scratch[k], lambda column: memory.projected[first + offset + column]
        )
    with T.serial(0, size) as k:
        update, fresh = scalar(form.dtype), scalar(form.dtype)
        update[0] = f(form.clipped(gates[k]))
        candidate = gates[offset + k]
        if before_reset:
            bias = memory.given.get("bias")
            own = candidate if bias is None else candidate + bias[direction * size + k]
            candidate = memory.projected[first + offset + k] + memory.scratch[k] * own
        fresh[0] = g(form.clipped(candidate))
        h[state + k] = (tirx.const(1, form.dtype) - update[0]) * fresh[0] + update[0] * h[state + k]


def _rnn_step(memory: _Memory, direction: int, first: PrimExpr, state: PrimExpr) -> None:
    form = memory.form
    h = memory.results[1]
    f = form.activations[direction][0]
    memory.sum_up(direction, 0, lambda k: h[state + k], lambda column: memory.projected[first + column])
    with T.serial(0, form.hidden) as k:
        h[state + k] = f(form.clipped(memory.gates[k]))


_STEPS: dict[str, Callable[..., None]] = {"LSTM": _lstm_step, "GRU": _gru_step, "RNN": _rnn_step}


CONVERTERS: dict[str, Converter] = {
    "GRU": _import,
    "LSTM": _import,
    "RNN": _import,
}
"""Operator -> its converter."""
