"""Writes ONNX nodes for tensors of a TFLite graph, in either order of the axes.

TFLite keeps the channels last, ONNX convolutions want them first. Each tensor may be there in both orders; the second
is made when something first asks for it, so that between two convolutions no transposition is ever written.
A quantised tensor is seen by its readers as real numbers: QuantizeLinear and DequantizeLinear stand behind its writer.
Integers and booleans that are no quantised numbers are there as they are stored.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.reader import Operator, TensorQuantisation, TfliteGraph, TfliteTensor

Layout = Literal["last", "first"]
TO_FIRST = (0, 3, 1, 2)
TO_LAST = (0, 2, 3, 1)
IMAGE_RANK = 4
_QUANTISED = ("int8", "uint8")
_WIDE = "int16"
_STATE_LIMIT = 1 << 26
_WIDE_BOUNDS = (-32768.0, 32767.0)


class Emitter:
    """Collects the nodes and initialisers of an ONNX graph."""

    def __init__(self, graph: TfliteGraph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.handles: dict[int, str] = {}
        """Tensor that is the handle of a variable -> the variable's name."""
        self.variables: dict[str, str] = {}
        """Name of a variable -> what it holds at this place of the graph."""
        self.assigned: dict[str, TfliteTensor] = {}
        """Name of a variable -> the tensor that was assigned last."""
        self.states: dict[int, str] = {}
        """Tensor that keeps its values between runs -> its real numbers at this place of the graph."""
        self._tensors = list(graph.tensors)
        self._values: dict[tuple[int, Layout], str] = {}
        self._stored: dict[int, str] = {}
        self._aliases: dict[int, int] = {}
        self._used: set[str] = set()

    def fresh(self) -> Emitter:
        """Return an emitter of the same graph, with the constants that are known by now and no nodes."""
        other = Emitter(self.graph)
        other._tensors, other._aliases = list(self._tensors), dict(self._aliases)
        return other

    def tensor(self, index: int) -> TfliteTensor:
        """Return the tensor of this index, or the one that it stands for."""
        return self._tensors[self._aliases.get(index, index)]

    def set_constant(self, index: int, values: NDArray[Any]) -> None:
        """Make a tensor a constant, because what it is computed from is; its shape becomes that of the values."""
        tensor = self._tensors[index]
        self._tensors[index] = dataclasses.replace(tensor, shape=values.shape, data=values.astype(tensor.dtype))

    def unique(self, name: str) -> str:
        """Return `name`, with a number behind it when it is taken, and take it."""
        candidate, number = name, 1
        while candidate in self._used:
            number += 1
            candidate = f"{name}_{number}"
        self._used.add(candidate)
        return candidate

    def emit(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output called `name` (made unique), and return the output's name."""
        return self.emit_all(operator, inputs, [name], **attributes)[0]

    def emit_all(self, operator: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        outputs = [self.unique(name) for name in names]
        self.nodes.append(onnx.helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def constant(self, values: NDArray[Any], name: str) -> str:
        """Add an initialiser and return its name."""
        unique = self.unique(name)
        contiguous = np.ascontiguousarray(values).reshape(values.shape)
        self.initialisers.append(onnx.numpy_helper.from_array(contiguous, unique))
        return unique

    def has_first(self, index: int) -> bool:
        """Say whether the tensor is there with the channels first already."""
        return (self.tensor(index).index, "first") in self._values

    def common_layout(self, operator: Operator, rank: int) -> Layout:
        """Return the layout in which an operator that does not care is written: channels first when that is at hand."""
        read = [index for index in operator.inputs if index >= 0 and self.tensor(index).data is None]
        images = all(len(self.tensor(index).shape) == IMAGE_RANK for index in read)
        if rank == IMAGE_RANK and images and any(self.has_first(index) for index in read):
            return "first"
        return "last"

    def real(self, index: int, layout: Layout = "last") -> str:
        """Return the name of a tensor's real numbers (float32) in the given layout.

        Raises:
            ModelError: the tensor is not numbers that can be computed with.
        """
        check_computable(self.tensor(index))
        return self.value(index, layout)

    def value(self, index: int, layout: Layout = "last") -> str:
        """Return the name of a tensor's real numbers, or of its integers or booleans if it is not made of any.

        Raises:
            ModelError: nothing has written the tensor.
        """
        tensor = self.tensor(index)
        known = self._values.get((tensor.index, layout))
        if known is not None:
            return known
        if tensor.data is not None:
            name = self._constant_value(tensor, tensor.data, layout)
        else:
            other: Layout = "last" if layout == "first" else "first"
            source = self._values.get((tensor.index, other))
            if source is None:
                raise ModelError(
                    f"tensor {tensor.name!r} (number {index}) is read before anything writes it; the file is damaged"
                )
            name = self._turn(source, tensor, layout)
        self._values[tensor.index, layout] = name
        return name

    def alias(self, index: int, source: int) -> None:
        """Let the tensor `index` stand for the same numbers as `source`."""
        self._aliases[index] = self._aliases.get(source, source)

    def set_input(self, index: int, name: str, *, as_real: bool) -> None:
        """Take a graph input: real numbers, which a quantised tensor rounds first, or the stored integers."""
        tensor = self.tensor(index)
        if not is_real(tensor):
            self._values[index, "last"] = name
            return
        if as_real or tensor.quantisation is None:
            self.write(index, name, "last")
            return
        self._stored[index] = name
        self._values[index, "last"] = self._from_stored(name, tensor, f"{tensor.name}/real")

    def write(self, index: int, name: str, layout: Layout, *, unchanged_from: int | None = None) -> None:
        """Make `name` (float32) the value of a tensor; a quantised tensor rounds it to its own steps.

        Args:
            index: the tensor.
            name: its real numbers.
            layout: order of their axes.
            unchanged_from: a tensor whose numbers are only moved: with the same quantisation nothing is rounded.

        Raises:
            ModelError: the tensor does not hold real numbers.
        """
        tensor = self._tensors[index]
        check_computable(tensor)
        source = None if unchanged_from is None else self.tensor(unchanged_from).quantisation
        if tensor.quantisation is not None and not tensor.quantisation.same_as(source):
            stored = self._to_stored(name, tensor, f"{tensor.name}/stored{_suffix(layout)}")
            if layout == "last":
                self._stored[index] = stored
            name = self._from_stored(stored, tensor, f"{tensor.name}/real{_suffix(layout)}")
        self._values[index, layout] = name

    def write_plain(self, index: int, name: str, layout: Layout, dtype: str) -> None:
        """Make `name` the value of a tensor of integers or booleans.

        Args:
            index: the tensor.
            name: its elements.
            layout: order of their axes.
            dtype: NumPy's name of their type.

        Raises:
            ModelError: the file says another type of the tensor.
        """
        tensor = self._tensors[index]
        if is_real(tensor) or tensor.dtype != dtype:
            raise ModelError(
                f"tensor {tensor.name!r} (number {index}) is {describe_type(tensor)}, but {dtype} is written to it"
            )
        self._values[index, layout] = name

    def write_moved(self, index: int, name: str, layout: Layout, source: int, *, rounded: bool = True) -> None:
        """Make `name` the value of a tensor whose elements come from `source` unchanged.

        Args:
            index: the tensor.
            name: its elements.
            layout: order of their axes.
            source: where they come from.
            rounded: quantise them even where that changes nothing, so that what follows sees a quantised tensor also
                behind an operator for which the backends have no integer form.
        """
        origin = self.tensor(source)
        if is_real(origin):
            self.write(index, name, layout, unchanged_from=None if rounded else source)
        else:
            self.write_plain(index, name, layout, origin.dtype)

    def stored(self, index: int) -> str:
        """Return the name of a tensor's stored integers, channels last; of one that is not quantised, its value.

        Rounding again what was rounded in the other layout changes nothing.
        """
        tensor = self.tensor(index)
        if tensor.quantisation is None or not is_real(tensor):
            return self.value(index)
        if tensor.index not in self._stored:
            name = f"{tensor.name}/stored"
            if tensor.data is not None:
                self._stored[tensor.index] = self.constant(tensor.data, name)
            else:
                self._stored[tensor.index] = self._to_stored(self.real(index), tensor, name)
        return self._stored[tensor.index]

    def state(self, index: int) -> str:
        """Return the real numbers of a tensor that keeps its values between runs: zeros unless it is an input."""
        tensor = self.tensor(index)
        if not tensor.variable:
            return self.real(index)
        if index not in self.states:
            check_computable(tensor)
            if min(tensor.shape, default=0) < 0 or math.prod(tensor.shape) > _STATE_LIMIT:
                raise ModelError(
                    f"tensor {tensor.name!r} keeps a state of shape {list(tensor.shape)}, too large to hold"
                )
            self.states[index] = self.constant(np.zeros(tensor.shape, np.float32), f"{tensor.name}/zeros")
        return self.states[index]

    def set_state(self, index: int, name: str) -> None:
        """Say what a tensor that keeps its values holds from here on."""
        self.states[index] = name

    def rounded(self, index: int, name: str) -> str:
        """Return real numbers rounded to the steps of a tensor, if it is quantised."""
        tensor = self.tensor(index)
        if tensor.quantisation is None or not is_real(tensor):
            return name
        return self._from_stored(self._to_stored(name, tensor, f"{tensor.name}/stored"), tensor, f"{tensor.name}/real")

    def dequantised(
        self, values: NDArray[Any], quantisation: TensorQuantisation, axis: int, name: str, *, zero_point: bool = True
    ) -> str:
        """Add constant integers with a DequantizeLinear behind them and return the name of the real numbers.

        Args:
            values: the stored integers.
            quantisation: their steps.
            axis: the axis of `values` that has one scale for each index, if there is more than one scale.
            name: wanted name of the result.
            zero_point: False for int32, which ONNX allows around zero only.
        """
        if values.dtype.name not in (*_QUANTISED, "int32"):
            shape = [1] * values.ndim
            if quantisation.scale.size > 1:
                shape[axis] = -1
            zero, scale = quantisation.zero_point.reshape(shape), quantisation.scale.reshape(shape)
            return self.constant(((values - zero) * scale.astype(np.float64)).astype(np.float32), name)
        steps = self._steps(quantisation, values.dtype, name, zero_point=zero_point)
        attributes = {"axis": axis} if quantisation.scale.size > 1 else {}
        return self.emit("DequantizeLinear", [self.constant(values, f"{name}/stored"), *steps], name, **attributes)

    def _to_stored(self, name: str, tensor: TfliteTensor, target: str) -> str:
        """Round real numbers to the steps of a quantised tensor; 16-bit ones by arithmetic, as opset 18 asks."""
        quantisation = _steps_of(tensor)
        if tensor.dtype != _WIDE:
            steps = self._steps(quantisation, np.dtype(tensor.dtype), tensor.name)
            return self.emit("QuantizeLinear", [name, *steps], target)
        scale = self.constant(quantisation.scale.reshape(()), f"{tensor.name}/scale")
        low, high = (self.constant(np.array(bound, np.float32), f"{target}/bound") for bound in _WIDE_BOUNDS)
        rounded = self.emit("Round", [self.emit("Div", [name, scale], f"{target}/steps")], f"{target}/rounded")
        clipped = self.emit("Clip", [rounded, low, high], f"{target}/clipped")
        return self.emit("Cast", [clipped], target, to=onnx.TensorProto.INT16)

    def _from_stored(self, stored: str, tensor: TfliteTensor, target: str) -> str:
        quantisation = _steps_of(tensor)
        if tensor.dtype != _WIDE:
            steps = self._steps(quantisation, np.dtype(tensor.dtype), tensor.name)
            return self.emit("DequantizeLinear", [stored, *steps], target)
        scale = self.constant(quantisation.scale.reshape(()), f"{tensor.name}/scale")
        widened = self.emit("Cast", [stored], f"{target}/steps", to=onnx.TensorProto.FLOAT)
        return self.emit("Mul", [widened, scale], target)

    def _constant_value(self, tensor: TfliteTensor, values: NDArray[Any], layout: Layout) -> str:
        quantisation = tensor.quantisation if is_real(tensor) else None
        axis = quantisation.axis if quantisation and quantisation.scale.size > 1 else None
        if layout == "first":
            axis = None if axis is None else TO_FIRST.index(axis + IMAGE_RANK - values.ndim)
            values = values.reshape((1,) * (IMAGE_RANK - values.ndim) + values.shape).transpose(TO_FIRST)
        name = tensor.name + _suffix(layout)
        if quantisation is None:
            return self.constant(values.astype(np.float32) if is_real(tensor) else values, name)
        return self.dequantised(values, quantisation, axis or 0, name)

    def _turn(self, source: str, tensor: TfliteTensor, layout: Layout) -> str:
        """Change the order of the axes; where only axes of extent 1 move, nothing has to be copied."""
        batch, height, width, channels = tensor.shape
        name = f"{tensor.name}/{layout}"
        if height * width == 1 or channels == 1:
            shape = (batch, channels, height, width) if layout == "first" else tensor.shape
            return self.emit("Reshape", [source, self.constant(np.array(shape, np.int64), f"{name}/shape")], name)
        return self.emit("Transpose", [source], name, perm=TO_FIRST if layout == "first" else TO_LAST)

    def _steps(
        self, quantisation: TensorQuantisation, dtype: np.dtype[Any], name: str, *, zero_point: bool = True
    ) -> list[str]:
        """Add scale and zero point: scalars, or vectors with one entry a channel."""
        shape: tuple[int, ...] = () if quantisation.scale.size == 1 else (-1,)
        steps = [self.constant(quantisation.scale.reshape(shape), f"{name}/scale")]
        if zero_point:
            stored_zero = quantisation.zero_point.astype(dtype).reshape(shape)
            steps.append(self.constant(stored_zero, f"{name}/zero_point"))
        return steps


def _steps_of(tensor: TfliteTensor) -> TensorQuantisation:
    if tensor.quantisation is None:
        raise ModelError(f"tensor {tensor.name!r} has no scale; the file is damaged")
    if tensor.quantisation.scale.size > 1:
        raise ModelError(
            f"tensor {tensor.name!r} is computed and has a scale for each channel; give computed tensors one scale"
        )
    if tensor.dtype == _WIDE and tensor.quantisation.zero_point.any():
        raise ModelError(f"tensor {tensor.name!r} is of 16 bits around another number than 0; quantise it around 0")
    return tensor.quantisation


def is_real(tensor: TfliteTensor) -> bool:
    """Say whether a tensor holds real numbers: floating ones that can be computed with, or quantised ones."""
    if tensor.quantisation is not None and tensor.dtype in (*_QUANTISED, _WIDE):
        return True
    return tensor.dtype == "float32" or (tensor.dtype == "float16" and tensor.data is not None)


def check_computable(tensor: TfliteTensor) -> None:
    """Refuse a tensor that is neither floating nor 8-bit or 16-bit quantised.

    Raises:
        ModelError: names the tensor and its type.
    """
    if not is_real(tensor):
        raise ModelError(
            f"tensor {tensor.name!r} ({describe_type(tensor)}) cannot be computed with; use float32 or 8-bit "
            "quantisation"
        )


def describe_type(tensor: TfliteTensor) -> str:
    """Return the type of a tensor as messages say it: `int16, not quantised`."""
    return f"{tensor.dtype}, {'quantised' if tensor.quantisation is not None else 'not quantised'}"


def _suffix(layout: Layout) -> str:
    return "/first" if layout == "first" else ""
