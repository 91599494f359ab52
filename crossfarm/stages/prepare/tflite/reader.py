"""Reads a TFLite flatbuffer into plain values; nothing here knows of ONNX.

Format: tensorflow/lite/schema/schema.fbs, read with the generated classes of the package `tflite`.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.foreign_files import foreign_kind
from crossfarm.stages.prepare.tflite.options import OperatorOptions, read_options
from crossfarm.stages.prepare.tflite.sparse import DenseBudget, read_sparse

IDENTIFIER = b"TFL3"
TENSORS_LIMIT = 1_000_000
"""The most tensors of all subgraphs of a file, and of its graph with all calls written out."""

_ADVICE = "give a TFLite file, or say `format: onnx`"
_DTYPES = {
    tflite.TensorType.FLOAT32: "float32",
    tflite.TensorType.FLOAT16: "float16",
    tflite.TensorType.INT32: "int32",
    tflite.TensorType.UINT8: "uint8",
    tflite.TensorType.INT64: "int64",
    tflite.TensorType.BOOL: "bool",
    tflite.TensorType.INT16: "int16",
    tflite.TensorType.INT8: "int8",
    tflite.TensorType.FLOAT64: "float64",
    tflite.TensorType.UINT16: "uint16",
    tflite.TensorType.UINT32: "uint32",
    tflite.TensorType.UINT64: "uint64",
    tflite.TensorType.COMPLEX64: "complex64",
    tflite.TensorType.INT4: "int4",
    tflite.TensorType.RESOURCE: "resource",
}
_QUANTISED = ("int4", "int8", "uint8", "int16", "int32", "int64")
WITHOUT_VALUES = ("complex64", "resource")


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_OPERATORS = _names(tflite.BuiltinOperator)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorQuantisation:
    """real = scale * (stored - zero_point), with one scale for the tensor or one for each index of `axis`."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int

    def same_as(self, other: TensorQuantisation | None) -> bool:
        """Say whether both give the same real number to the same stored one."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfliteTensor:
    """A tensor of the file.

    Attributes:
        index: its place in the graph.
        name: as in the file, or `tensor_INDEX`.
        shape: extents as the file states them.
        dtype: NumPy's name of the stored type, or `resource`; 4-bit constants are widened to int8.
        quantisation: what stored integers stand for.
        data: the values of a constant; sparse ones are filled up.
        variable: it keeps its values from one run to the next.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantisation: TensorQuantisation | None
    data: NDArray[Any] | None
    variable: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator of the file; an input of -1 is an optional one that is left out."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: OperatorOptions = dataclasses.field(default_factory=OperatorOptions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfliteGraph:
    """A subgraph of the file; `called` are all subgraphs by number, given with the first one alone."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    called: tuple[TfliteGraph, ...] = ()


def read_tflite(content: bytes) -> TfliteGraph:
    """Return the first subgraph of a TFLite file.

    Raises:
        ModelError: not a TFLite file, damaged, or with tensors of a kind that is not supported.
    """
    if content[4:8] != IDENTIFIER:
        foreign = foreign_kind(content)
        known = f" but {foreign}" if foreign else f", no {IDENTIFIER.decode()} in it; {_ADVICE}"
        raise ModelError(f"the file is not a TFLite model ({len(content)} bytes){known}")
    try:
        model = tflite.Model.GetRootAsModel(content, 0)
        count = max(model.SubgraphsLength(), 1)
        _check_tensors(model, count)
        budget = DenseBudget()
        graphs = [_read_graph(model, model.Subgraphs(number), content, budget) for number in range(count)]
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ModelError(f"the TFLite file is damaged: {error}; fetch or export it again") from error
    first = graphs[0]
    if not first.inputs or not first.outputs:
        raise ModelError("the TFLite file is damaged: its graph has no input or no output; fetch or export it again")
    return dataclasses.replace(first, called=tuple(graphs))


def _check_tensors(model: Any, count: int) -> None:
    """Refuse a file with too many tensors before any is read: subgraphs may share their tables in the file."""
    tensors = 0
    for number in range(count):
        tensors += model.Subgraphs(number).TensorsLength()
        if tensors > TENSORS_LIMIT:
            raise ModelError(
                f"the TFLite file has more than {TENSORS_LIMIT} tensors in its first {number + 1} subgraphs; export a "
                "smaller model"
            )


def _read_graph(model: Any, graph: Any, content: bytes, budget: DenseBudget) -> TfliteGraph:
    count = graph.TensorsLength()
    tensors = tuple(_read_tensor(model, graph.Tensors(index), index, content, budget) for index in range(count))
    operators = tuple(_read_operator(model, graph.Operators(index), index) for index in range(graph.OperatorsLength()))
    inputs, outputs = _ints(graph.InputsAsNumpy()), _ints(graph.OutputsAsNumpy())
    _check_references(tensors, operators, inputs, outputs)
    return TfliteGraph(tensors=tensors, operators=operators, inputs=inputs, outputs=outputs)


def _check_references(
    tensors: tuple[TfliteTensor, ...],
    operators: tuple[Operator, ...],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
) -> None:
    named = {*inputs, *outputs}
    for operator in operators:
        named.update(operator.outputs, (index for index in operator.inputs if index != -1))
    if named and (min(named) < 0 or max(named) >= len(tensors)):
        raise ModelError("the TFLite file is damaged: it names tensors that it does not hold; fetch or export it again")


def _read_tensor(model: Any, tensor: Any, index: int, content: bytes, budget: DenseBudget) -> TfliteTensor:
    name = (tensor.Name() or b"").decode("utf-8", errors="replace") or f"tensor_{index}"
    dtype = _DTYPES.get(tensor.Type())
    if dtype is None:
        kind = _names(tflite.TensorType).get(tensor.Type())
        raise ModelError(
            f"tensor {name!r} (number {index}) is of TFLite type {kind}, which cannot be converted; export the model "
            "without it"
        )
    shape = _ints(tensor.ShapeAsNumpy())
    stored = _stored(model.Buffers(tensor.Buffer()), content)
    if stored is None and tensor.Buffer() and 0 in shape:
        stored = np.zeros(0, np.uint8)
    data = None
    if stored is not None and dtype not in WITHOUT_VALUES:
        data = _values(stored, dtype, shape, tensor.Sparsity(), budget)
    if dtype == "int4" and data is not None:
        dtype = "int8"
    return TfliteTensor(
        index=index,
        name=name,
        shape=shape,
        dtype=dtype,
        quantisation=_read_quantisation(tensor.Quantization()) if dtype in _QUANTISED else None,
        data=data,
        variable=bool(tensor.IsVariable()),
    )


def _stored(buffer: Any, content: bytes) -> NDArray[np.uint8] | None:
    """Return the bytes of a buffer as a view of the file; large files keep them behind the flatbuffer."""
    stored = buffer.DataAsNumpy()
    if isinstance(stored, np.ndarray) and stored.size:
        return stored
    if buffer.Offset() > 1:
        if buffer.Offset() + buffer.Size() > len(content):
            raise ValueError("a buffer lies outside of the file")
        return np.frombuffer(content, np.uint8, buffer.Size(), buffer.Offset())
    return None


def _values(
    stored: NDArray[np.uint8], dtype: str, shape: tuple[int, ...], sparsity: Any, budget: DenseBudget
) -> NDArray[Any]:
    if dtype == "int4":
        budget.take(2 * stored.size, what=f"a tensor of 4 bits of shape {list(shape)}")
        # Two to a byte, the first one low; both are signed.
        nibbles = np.stack([stored & 15, stored >> 4], axis=-1).reshape(-1)
        array = np.where(nibbles > 7, nibbles.astype(np.int8) - 16, nibbles).astype(np.int8)
        array = array if sparsity is not None else array[: math.prod(shape)]
    else:
        array = np.frombuffer(stored, dtype=np.dtype(dtype).newbyteorder("<"))
    return array.reshape(shape) if sparsity is None else read_sparse(sparsity, array, shape, budget=budget)


def _read_quantisation(parameters: Any) -> TensorQuantisation | None:
    if parameters is None or parameters.ScaleLength() == 0:
        return None
    scale = np.array(parameters.ScaleAsNumpy(), dtype=np.float32)
    zero_point = np.zeros(scale.shape, np.int64)
    if parameters.ZeroPointLength():
        zero_point = np.broadcast_to(np.array(parameters.ZeroPointAsNumpy(), dtype=np.int64), scale.shape).copy()
    return TensorQuantisation(scale=scale, zero_point=zero_point, axis=int(parameters.QuantizedDimension()))


def _read_operator(model: Any, operator: Any, index: int) -> Operator:
    entry = model.OperatorCodes(operator.OpcodeIndex())
    # Files from before schema 3a keep the code in the older, narrower field.
    code = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
    name = _OPERATORS.get(code, f"number {code}")
    if code == tflite.BuiltinOperator.CUSTOM:
        name = f"CUSTOM {(entry.CustomCode() or b'').decode('utf-8', errors='replace')}"
    return Operator(
        index=index,
        name=name,
        inputs=_ints(operator.InputsAsNumpy()),
        outputs=_ints(operator.OutputsAsNumpy()),
        options=read_options(operator, name),
    )


def _ints(array: Any) -> tuple[int, ...]:
    """Return a vector of the file as integers; an absent one is read as the number 0."""
    return tuple(int(item) for item in array) if isinstance(array, np.ndarray) else ()
