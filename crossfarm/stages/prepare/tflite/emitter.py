"""Writes ONNX nodes for tensors of a TFLite graph, in either order of the axes.

TFLite keeps the channels last, ONNX convolutions want them first. Each tensor may be there in both orders; the second
is made when something first asks for it, so that between two convolutions no transposition is ever written.
A quantised tensor is seen by its readers as real numbers: QuantizeLinear and DequantizeLinear stand behind its writer.
"""

from __future__ import annotations

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


class Emitter:
    """Collects the nodes and initialisers of an ONNX graph."""

    def __init__(self, graph: TfliteGraph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._reals: dict[tuple[int, Layout], str] = {}
        self._stored: dict[int, str] = {}
        self._aliases: dict[int, int] = {}
        self._used: set[str] = set()

    def tensor(self, index: int) -> TfliteTensor:
        """Return the tensor of this index, or the one that it stands for."""
        return self.graph.tensors[self._aliases.get(index, index)]

    def unique(self, name: str) -> str:
        """Return `name`, with a number behind it when it is taken, and take it."""
        candidate, number = name, 1
        while candidate in self._used:
            number += 1
            candidate = f"{name}_{number}"
        self._used.add(candidate)
        return candidate

    def emit(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node with one output called `name` (made unique), and return the output's name."""
        output = self.unique(name)
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, values: NDArray[Any], name: str) -> str:
        """Add an initialiser and return its name."""
        unique = self.unique(name)
        contiguous = np.ascontiguousarray(values).reshape(values.shape)
        self.initialisers.append(onnx.numpy_helper.from_array(contiguous, unique))
        return unique

    def has_first(self, index: int) -> bool:
        """Say whether the tensor is there with the channels first already."""
        return (self.tensor(index).index, "first") in self._reals

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
        tensor = self.tensor(index)
        known = self._reals.get((tensor.index, layout))
        if known is not None:
            return known
        if tensor.data is not None:
            name = self._real_constant(tensor, tensor.data, layout)
        else:
            other: Layout = "last" if layout == "first" else "first"
            source = self._reals.get((tensor.index, other))
            if source is None:
                raise ModelError(f"tensor {tensor.name!r} is read before anything writes it; the file is damaged")
            name = self._turn(source, tensor, layout)
        self._reals[tensor.index, layout] = name
        return name

    def alias(self, index: int, source: int) -> None:
        """Let the tensor `index` stand for the same real numbers as `source`."""
        self._aliases[index] = self._aliases.get(source, source)

    def set_input(self, index: int, name: str, *, as_real: bool) -> None:
        """Take a graph input: real numbers, which a quantised tensor rounds first, or the stored integers."""
        tensor = self.tensor(index)
        if as_real or tensor.quantisation is None:
            self.write(index, name, "last")
            return
        self._stored[index] = name
        steps = self._steps(tensor.quantisation, np.dtype(tensor.dtype), tensor.name)
        self._reals[index, "last"] = self.emit("DequantizeLinear", [name, *steps], f"{tensor.name}/real")

    def write(self, index: int, name: str, layout: Layout, *, unchanged_from: int | None = None) -> None:
        """Make `name` (float32) the value of a tensor; a quantised tensor rounds it to its own steps.

        Args:
            index: the tensor.
            name: its real numbers.
            layout: order of their axes.
            unchanged_from: a tensor whose numbers are only moved: with the same quantisation nothing is rounded.
        """
        tensor = self.graph.tensors[index]
        check_computable(tensor)
        source = None if unchanged_from is None else self.tensor(unchanged_from).quantisation
        if tensor.quantisation is not None and not tensor.quantisation.same_as(source):
            steps = self._steps(tensor.quantisation, np.dtype(tensor.dtype), tensor.name)
            stored = self.emit("QuantizeLinear", [name, *steps], f"{tensor.name}/stored{_suffix(layout)}")
            if layout == "last":
                self._stored[index] = stored
            name = self.emit("DequantizeLinear", [stored, *steps], f"{tensor.name}/real{_suffix(layout)}")
        self._reals[index, layout] = name

    def stored(self, index: int) -> str:
        """Return the name of a tensor's stored integers, channels last; of one that is not quantised, the real numbers.

        Rounding again what was rounded in the other layout changes nothing.
        """
        tensor = self.tensor(index)
        if tensor.quantisation is None:
            return self.real(index)
        if tensor.index not in self._stored:
            steps = self._steps(tensor.quantisation, np.dtype(tensor.dtype), tensor.name)
            self._stored[tensor.index] = self.emit(
                "QuantizeLinear", [self.real(index), *steps], f"{tensor.name}/stored"
            )
        return self._stored[tensor.index]

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
        steps = self._steps(quantisation, values.dtype, name, zero_point=zero_point)
        attributes = {"axis": axis} if quantisation.scale.size > 1 else {}
        return self.emit("DequantizeLinear", [self.constant(values, f"{name}/stored"), *steps], name, **attributes)

    def _real_constant(self, tensor: TfliteTensor, values: NDArray[Any], layout: Layout) -> str:
        check_computable(tensor)
        quantisation = tensor.quantisation
        axis = quantisation.axis if quantisation and quantisation.scale.size > 1 else None
        if layout == "first":
            axis = None if axis is None else TO_FIRST.index(axis + IMAGE_RANK - values.ndim)
            values = values.reshape((1,) * (IMAGE_RANK - values.ndim) + values.shape).transpose(TO_FIRST)
        name = tensor.name + _suffix(layout)
        if quantisation is None:
            return self.constant(values.astype(np.float32), name)
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


def check_computable(tensor: TfliteTensor) -> None:
    """Refuse a tensor that is neither floating nor 8-bit quantised.

    Raises:
        ModelError: names the tensor and its type.
    """
    quantised = tensor.quantisation is not None
    floating = tensor.dtype == "float32" or (tensor.dtype == "float16" and tensor.data is not None)
    if (quantised and tensor.dtype in _QUANTISED) or (not quantised and floating):
        return
    kind = f"{tensor.dtype}, {'quantised' if quantised else 'not quantised'}"
    raise ModelError(f"tensor {tensor.name!r} ({kind}) cannot be computed with; use float32 or 8-bit quantisation")


def _suffix(layout: Layout) -> str:
    return "/first" if layout == "first" else ""
