"""Converters of recurrent operators, one step after the other: LSTM, RNN, SVDF.

Semantics: tensorflow/lite/kernels/lstm_eval.cc, internal/kernel_utils.cc, svdf.cc. What they keep between runs (tensors
that the file calls variable) is a graph input where the user declares one, and zero at the start of each run else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.common import (
    Converter,
    activate,
    extents,
    given,
    number,
    output_name,
    refuse,
    reshape_to,
)
from crossfarm.stages.prepare.tflite.emitter import Emitter
from crossfarm.stages.prepare.tflite.reader import Operator, TensorQuantisation

STEPS_LIMIT = 2000
"""The most steps that are written out."""
_GATES = 4
_INPUT_GATE, _FORGET_GATE, _CELL_GATE, _OUTPUT_GATE = range(_GATES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Places:
    """Where the inputs of an LSTM stand among those of its operator."""

    weights: int
    hidden: int
    cell: int
    normalisation: int | None


def _matrix(emitter: Emitter, index: int, name: str) -> str:
    """Return weights [outputs, inputs] turned for a product from the left."""
    return emitter.emit("Transpose", [emitter.real(index)], f"{name}/turned", perm=(1, 0))


def _bias_of(emitter: Emitter, operator: Operator, position: int, weights: int) -> str:
    """Return a bias as real numbers; integers have the steps of input times weights."""
    bias = emitter.tensor(operator.inputs[position])
    if bias.dtype not in ("int32", "int64"):
        return emitter.real(bias.index)
    read, scaled = (emitter.tensor(operator.inputs[at]).quantisation for at in (0, weights))
    if bias.data is None or read is None or scaled is None:
        raise refuse(emitter, operator, f"has the integer bias {bias.name!r}, but not both input and weights quantised")
    steps = TensorQuantisation(scale=read.scale * scaled.scale, zero_point=np.zeros(1, np.int64), axis=0)
    if bias.quantisation is not None and bias.quantisation.scale.size == 1:
        steps = dataclasses.replace(bias.quantisation, zero_point=np.zeros(1, np.int64))
    return emitter.dequantised(bias.data, steps, 0, bias.name, zero_point=False)


def _clipped(emitter: Emitter, values: str, bound: float, name: str) -> str:
    if bound <= 0.0:
        return values
    bounds = [number(emitter, limit, f"{name}/bound") for limit in (-bound, bound)]
    return emitter.emit("Clip", [values, *bounds], f"{name}/clipped")


def _times(emitter: Emitter, operator: Operator) -> tuple[list[str], tuple[int, int, int]]:
    """Return the input's steps, each [batch, features], and steps, batch, features."""
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    if len(source.shape) != 3:
        raise refuse(emitter, operator, f"reads {list(source.shape)}, not batch, time and features")
    first, second, features = source.shape
    steps, batch = (first, second) if operator.options.time_major else (second, first)
    if steps > STEPS_LIMIT:
        raise refuse(emitter, operator, f"has {steps} steps; {STEPS_LIMIT} are the most that are written out")
    axis = 0 if operator.options.time_major else 1
    parts = [emitter.real(source.index)]
    if steps > 1:
        sizes = extents(emitter, [1] * steps, f"{name}/steps")
        parts = emitter.emit_all("Split", [parts[0], sizes], [f"{name}/step"] * steps, axis=axis)
    return [reshape_to(emitter, part, (batch, features), f"{name}/now") for part in parts], (steps, batch, features)


def _joined(emitter: Emitter, operator: Operator, steps: Sequence[str], batch: int, width: int) -> str:
    """Join the steps of a result along time, in the order of axes of the operator."""
    name, major = output_name(emitter, operator), operator.options.time_major
    shape = (1, batch, width) if major else (batch, 1, width)
    parts = [reshape_to(emitter, step, shape, f"{name}/then") for step in steps]
    return parts[0] if len(parts) == 1 else emitter.emit("Concat", parts, f"{name}/all", axis=0 if major else 1)


class _Lstm:
    """One direction of an LSTM: its weights, turned and joined once, and its step."""

    def __init__(self, emitter: Emitter, operator: Operator, places: _Places) -> None:
        self.emitter, self.operator, self.places = emitter, operator, places
        self.name = output_name(emitter, operator)
        base = places.weights
        # Without weights of its own the input gate is 1 less the forget gate.
        self.gates = [gate for gate in range(_GATES) if given(operator, base + gate)]
        self.coupled = _INPUT_GATE not in self.gates
        if self.gates[-3:] != [_FORGET_GATE, _CELL_GATE, _OUTPUT_GATE]:
            raise refuse(emitter, operator, "lacks the weights of a gate")
        self.units = emitter.tensor(operator.inputs[base + _FORGET_GATE]).shape[0]
        self.normalised = places.normalisation is not None and given(operator, places.normalisation + _FORGET_GATE)
        self.read = self._joined_weights(base)
        self.recurrent = self._joined_weights(base + _GATES)
        biases = [_bias_of(emitter, operator, base + 11 + gate, base + gate) for gate in self.gates]
        self.biases = dict(zip(self.gates, biases, strict=True))
        self.bias = "" if self.normalised else emitter.emit("Concat", biases, f"{self.name}/bias", axis=0)
        self.projection = None
        if given(operator, base + 15):
            self.projection = _matrix(emitter, operator.inputs[base + 15], f"{self.name}/projection")

    def _joined_weights(self, base: int) -> str:
        turned = [
            _matrix(self.emitter, self.operator.inputs[base + gate], f"{self.name}/weights") for gate in self.gates
        ]
        return self.emitter.emit("Concat", turned, f"{self.name}/weights", axis=1)

    def run(self, steps: Sequence[str]) -> list[str]:
        """Return the hidden values of all steps; the state is read and written."""
        hidden_index, cell_index = (self.operator.inputs[at] for at in (self.places.hidden, self.places.cell))
        hidden, cell = self.emitter.state(hidden_index), self.emitter.state(cell_index)
        results = []
        for step in steps:
            hidden, cell = self._step(step, hidden, cell)
            hidden = self.emitter.rounded(hidden_index, hidden)
            cell_rounded = self.emitter.rounded(cell_index, cell)
            cell = cell_rounded
            results.append(hidden)
        self.emitter.set_state(hidden_index, hidden)
        self.emitter.set_state(cell_index, cell)
        return results

    def _step(self, step: str, hidden: str, cell: str) -> tuple[str, str]:
        emitter, operator, name = self.emitter, self.operator, self.name
        sums = emitter.emit(
            "Add",
            [
                emitter.emit("MatMul", [step, self.read], f"{name}/read"),
                emitter.emit("MatMul", [hidden, self.recurrent], f"{name}/recurrent"),
            ],
            f"{name}/sums",
        )
        if self.bias:
            sums = emitter.emit("Add", [sums, self.bias], f"{name}/sums")
        sizes = extents(emitter, [self.units] * len(self.gates), f"{name}/gates")
        split = emitter.emit_all("Split", [sums, sizes], [f"{name}/gate"] * len(self.gates), axis=1)
        gates = dict(zip(self.gates, split, strict=True))
        forget = self._sigmoid(gates[_FORGET_GATE], _FORGET_GATE, cell)
        if self.coupled:
            one = number(emitter, 1.0, f"{name}/one")
            take = emitter.emit("Sub", [one, forget], f"{name}/take")
        else:
            take = self._sigmoid(gates[_INPUT_GATE], _INPUT_GATE, cell)
        fresh = activate(
            emitter, operator, operator.options.activation, self._normalised(gates[_CELL_GATE], _CELL_GATE)
        )
        kept = emitter.emit("Mul", [forget, cell], f"{name}/kept")
        added = emitter.emit("Mul", [take, fresh], f"{name}/added")
        cell = emitter.emit("Add", [kept, added], f"{name}/cell")
        cell = _clipped(emitter, cell, operator.options.cell_clip, f"{name}/cell")
        gate = self._sigmoid(gates[_OUTPUT_GATE], _OUTPUT_GATE, cell)
        shown = activate(emitter, operator, operator.options.activation, cell)
        hidden = emitter.emit("Mul", [gate, shown], f"{name}/hidden")
        if self.projection is not None:
            hidden = emitter.emit("MatMul", [hidden, self.projection], f"{name}/projected")
            base = self.places.weights
            if given(operator, base + 16):
                bias = _bias_of(emitter, operator, base + 16, base + 15)
                hidden = emitter.emit("Add", [hidden, bias], f"{name}/projected")
            hidden = _clipped(emitter, hidden, operator.options.proj_clip, f"{name}/projected")
        return hidden, cell

    def _sigmoid(self, sums: str, gate: int, cell: str) -> str:
        """Add what the gate sees of the cell (a vector of weights), normalise, and squash."""
        peepholes = {_INPUT_GATE: 8, _FORGET_GATE: 9, _OUTPUT_GATE: 10}
        position = self.places.weights + peepholes[gate]
        if given(self.operator, position):
            weights = self.emitter.real(self.operator.inputs[position])
            seen = self.emitter.emit("Mul", [cell, weights], f"{self.name}/seen")
            sums = self.emitter.emit("Add", [sums, seen], f"{self.name}/sums")
        return self.emitter.emit("Sigmoid", [self._normalised(sums, gate)], f"{self.name}/sigmoid")

    def _normalised(self, sums: str, gate: int) -> str:
        """Bring mean and variance to 0 and 1 where the file has coefficients for it."""
        if not self.normalised or self.places.normalisation is None:
            return sums
        emitter, name = self.emitter, f"{self.name}/normalised"
        axes = extents(emitter, [-1], f"{name}/axes")
        mean = emitter.emit("ReduceMean", [sums, axes], f"{name}/mean", keepdims=1)
        centred = emitter.emit("Sub", [sums, mean], f"{name}/centred")
        squares = emitter.emit("Mul", [centred, centred], f"{name}/squares")
        variance = emitter.emit("ReduceMean", [squares, axes], f"{name}/variance", keepdims=1)
        lifted = emitter.emit("Add", [variance, number(emitter, 1e-8, f"{name}/epsilon")], f"{name}/lifted")
        divided = emitter.emit("Div", [centred, emitter.emit("Sqrt", [lifted], f"{name}/deviation")], name)
        weights = emitter.real(self.operator.inputs[self.places.normalisation + gate])
        scaled = emitter.emit("Mul", [divided, weights], f"{name}/scaled")
        return emitter.emit("Add", [scaled, self.biases[gate]], f"{name}/shifted")


_ONE_DIRECTION = _Places(weights=1, hidden=18, cell=19, normalisation=20)
_FORWARDS = _Places(weights=1, hidden=35, cell=36, normalisation=None)
_BACKWARDS = _Places(weights=18, hidden=37, cell=38, normalisation=None)


def _sequence_lstm(emitter: Emitter, operator: Operator) -> None:
    if operator.options.diagonal:
        raise refuse(emitter, operator, "has diagonal recurrent weights, which cannot be converted")
    steps, (_, batch, _) = _times(emitter, operator)
    results = _Lstm(emitter, operator, _ONE_DIRECTION).run(steps)
    width = emitter.tensor(operator.inputs[_ONE_DIRECTION.hidden]).shape[-1]
    emitter.write(operator.outputs[0], _joined(emitter, operator, results, batch, width), "last")


def _lstm(emitter: Emitter, operator: Operator) -> None:
    """One step; the older form has all weights in one tensor and no state of its own."""
    if operator.options.basic_kernel:
        _basic_lstm(emitter, operator)
        return
    cell = _Lstm(emitter, operator, _ONE_DIRECTION)
    emitter.write(operator.outputs[0], cell.run([emitter.real(operator.inputs[0])])[0], "last")


def _basic_lstm(emitter: Emitter, operator: Operator) -> None:
    """Gates stand in the order input, new, forget, output (LstmCell in internal/reference/reference_ops.h)."""
    name = output_name(emitter, operator)
    source, hidden, weights, bias, cell = operator.inputs[:5]
    units = emitter.tensor(weights).shape[0] // _GATES
    joined = emitter.emit("Concat", [emitter.real(source), emitter.real(hidden)], f"{name}/joined", axis=1)
    if emitter.tensor(bias).dtype == "int32":
        raise refuse(emitter, operator, "is quantised in the older form; convert the model again, or give it floating")
    sums = emitter.emit("Gemm", [joined, emitter.real(weights), emitter.real(bias)], f"{name}/sums", transB=1)
    sizes = extents(emitter, [units] * _GATES, f"{name}/gates")
    take, fresh, forget, show = emitter.emit_all("Split", [sums, sizes], [f"{name}/gate"] * _GATES, axis=1)
    take, forget, show = (emitter.emit("Sigmoid", [gate], f"{name}/sigmoid") for gate in (take, forget, show))
    added = emitter.emit("Mul", [take, emitter.emit("Tanh", [fresh], f"{name}/fresh")], f"{name}/added")
    kept = emitter.emit("Mul", [forget, emitter.real(cell)], f"{name}/kept")
    state = emitter.emit("Add", [added, kept], f"{name}/cell")
    shown = emitter.emit("Mul", [show, emitter.emit("Tanh", [state], f"{name}/tanh")], f"{name}/hidden")
    emitter.write(operator.outputs[0], shown, "last")
    emitter.write(operator.outputs[1], state, "last")


def _write_directions(
    emitter: Emitter, operator: Operator, forwards: Sequence[str], backwards: Sequence[str], widths: tuple[int, int]
) -> None:
    """Write both directions to their outputs, or joined along the last axis to one."""
    source = emitter.tensor(operator.inputs[0])
    batch = source.shape[1 if operator.options.time_major else 0]
    results = [
        _joined(emitter, operator, steps, batch, width)
        for steps, width in zip((forwards, list(backwards)[::-1]), widths, strict=True)
    ]
    if operator.options.merge_outputs:
        joined = emitter.emit("Concat", results, f"{output_name(emitter, operator)}/both", axis=2)
        emitter.write(operator.outputs[0], joined, "last")
        return
    for index, result in zip(operator.outputs, results, strict=True):
        emitter.write(index, result, "last")


def _bidirectional_lstm(emitter: Emitter, operator: Operator) -> None:
    if any(given(operator, position) for position in range(39, 48)):
        raise refuse(emitter, operator, "has an auxiliary input, which cannot be converted")
    steps, _ = _times(emitter, operator)
    forwards = _Lstm(emitter, operator, _FORWARDS).run(steps)
    backwards = _Lstm(emitter, operator, _BACKWARDS).run(steps[::-1])
    widths = [emitter.tensor(operator.inputs[at.hidden]).shape[-1] for at in (_FORWARDS, _BACKWARDS)]
    _write_directions(emitter, operator, forwards, backwards, (widths[0], widths[1]))


def _run_rnn(emitter: Emitter, operator: Operator, steps: Sequence[str], first: int) -> list[str]:
    """Return the hidden values of all steps; weights, recurrent weights, bias and state stand from `first` on."""
    name = output_name(emitter, operator)
    read, recurrent = (_matrix(emitter, operator.inputs[first + at], name) for at in range(2))
    bias = _bias_of(emitter, operator, first + 2, first)
    index = operator.inputs[first + 3]
    hidden = emitter.state(index)
    results = []
    for step in steps:
        products = [
            emitter.emit("MatMul", [step, read], f"{name}/read"),
            emitter.emit("MatMul", [hidden, recurrent], f"{name}/recurrent"),
        ]
        sums = emitter.emit("Add", [emitter.emit("Add", products, f"{name}/sums"), bias], f"{name}/sums")
        hidden = emitter.rounded(index, activate(emitter, operator, operator.options.activation, sums))
        results.append(hidden)
    emitter.set_state(index, hidden)
    return results


def _rnn(emitter: Emitter, operator: Operator) -> None:
    (result,) = _run_rnn(emitter, operator, [emitter.real(operator.inputs[0])], 1)
    emitter.write(operator.outputs[0], result, "last")


def _sequence_rnn(emitter: Emitter, operator: Operator) -> None:
    steps, (_, batch, _) = _times(emitter, operator)
    results = _run_rnn(emitter, operator, steps, 1)
    width = emitter.tensor(operator.inputs[4]).shape[-1]
    emitter.write(operator.outputs[0], _joined(emitter, operator, results, batch, width), "last")


def _bidirectional_rnn(emitter: Emitter, operator: Operator) -> None:
    if any(given(operator, position) for position in range(9, 12)):
        raise refuse(emitter, operator, "has an auxiliary input, which cannot be converted")
    steps, _ = _times(emitter, operator)
    forwards = _run_rnn(emitter, operator, steps, 1)
    backwards = _run_rnn(emitter, operator, steps[::-1], 5)
    widths = [emitter.tensor(operator.inputs[at]).shape[-1] for at in (4, 8)]
    _write_directions(emitter, operator, forwards, backwards, (widths[0], widths[1]))


def _svdf(emitter: Emitter, operator: Operator) -> None:
    """Each filter keeps its last values, newest last; a unit is the weighted sum over those of its `rank` filters."""
    name = output_name(emitter, operator)
    features, times = (emitter.tensor(index) for index in operator.inputs[1:3])
    filters, memory = times.shape
    rank, batch = operator.options.rank, emitter.tensor(operator.inputs[0]).shape[0]
    if rank < 1 or filters % rank:
        raise ModelError(f"an SVDF has {filters} filters of rank {rank}")
    index = operator.inputs[4]
    turned = _matrix(emitter, features.index, name)
    fresh = emitter.emit("MatMul", [emitter.real(operator.inputs[0]), turned], f"{name}/fresh")
    fresh = reshape_to(emitter, fresh, (batch, filters, 1), f"{name}/newest")
    state = reshape_to(emitter, emitter.state(index), (batch, filters, memory), f"{name}/state")
    bounds = [
        extents(emitter, [bound], f"{name}/{what}") for bound, what in ((1, "start"), (memory, "end"), (2, "axis"))
    ]
    older = emitter.emit("Slice", [state, *bounds], f"{name}/older")
    kept = emitter.emit("Concat", [older, fresh], f"{name}/kept", axis=2) if memory > 1 else fresh
    flat = emitter.rounded(index, reshape_to(emitter, kept, (batch, filters * memory), f"{name}/flat"))
    emitter.set_state(index, flat)
    rounded = reshape_to(emitter, flat, (batch, filters, memory), f"{name}/memory")
    weighted = emitter.emit("Mul", [rounded, emitter.real(times.index)], f"{name}/weighted")
    grouped = reshape_to(emitter, weighted, (batch, filters // rank, rank * memory), f"{name}/grouped")
    result = emitter.emit("ReduceSum", [grouped, extents(emitter, [2], f"{name}/axes")], f"{name}/sum", keepdims=0)
    if given(operator, 3):
        result = emitter.emit("Add", [result, _svdf_bias(emitter, operator)], f"{name}/biased")
    emitter.write(operator.outputs[0], activate(emitter, operator, operator.options.activation, result), "last")


def _svdf_bias(emitter: Emitter, operator: Operator) -> str:
    """Return the bias; integers have the steps of the state times the weights over time."""
    bias = emitter.tensor(operator.inputs[3])
    if bias.dtype != "int32":
        return emitter.real(bias.index)
    state, times = (emitter.tensor(operator.inputs[at]).quantisation for at in (4, 2))
    if bias.data is None or state is None or times is None:
        raise refuse(emitter, operator, "has an integer bias without quantised weights and state")
    steps = TensorQuantisation(scale=state.scale * times.scale, zero_point=np.zeros(1, np.int64), axis=0)
    return emitter.dequantised(bias.data, steps, 0, bias.name, zero_point=False)


CONVERTERS: dict[str, Converter] = {
    "BIDIRECTIONAL_SEQUENCE_LSTM": _bidirectional_lstm,
    "BIDIRECTIONAL_SEQUENCE_RNN": _bidirectional_rnn,
    "LSTM": _lstm,
    "RNN": _rnn,
    "SVDF": _svdf,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _sequence_lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _sequence_rnn,
}
