"""Reads a TFLite flatbuffer into plain values; nothing here knows of ONNX.

Format: tensorflow/lite/schema/schema.fbs, read with the generated classes of the package `tflite`.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from crossfarm.errors import ModelError

IDENTIFIER = b"TFL3"

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
}


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_OPERATORS = _names(tflite.BuiltinOperator)
_ACTIVATIONS = _names(tflite.ActivationFunctionType)


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
    """A tensor of the file; `data` is given for constants alone."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantisation: TensorQuantisation | None
    data: NDArray[Any] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatorOptions:
    """The fields of an operator's options that the converters read; pairs are height and width."""

    activation: str = "NONE"
    same_padding: bool = False
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    window: tuple[int, int] = (1, 1)
    axis: int = 0
    keep_dims: bool = False
    beta: float = 1.0
    shuffled_weights: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator of the file; an input of -1 is an optional one that is left out."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: OperatorOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfliteGraph:
    """The first subgraph of the file."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(content: bytes) -> TfliteGraph:
    """Return the first subgraph of a TFLite file.

    Raises:
        ModelError: not a TFLite file, damaged, or with tensors of a kind that is not supported.
    """
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"the file is not a TFLite model ({len(content)} bytes, no {IDENTIFIER.decode()}); {_ADVICE}")
    try:
        model = tflite.Model.GetRootAsModel(content, 0)
        graph = model.Subgraphs(0)
        tensors = tuple(_read_tensor(model, graph.Tensors(index), index) for index in range(graph.TensorsLength()))
        operators = tuple(
            _read_operator(model, graph.Operators(index), index) for index in range(graph.OperatorsLength())
        )
        inputs, outputs = _ints(graph.InputsAsNumpy()), _ints(graph.OutputsAsNumpy())
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ModelError(f"the TFLite file is damaged: {error}; fetch or export it again") from error
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
    if not inputs or not outputs or min(named) < 0 or max(named) >= len(tensors):
        raise ModelError("the TFLite file is damaged: it names tensors that it does not hold; fetch or export it again")


def _read_tensor(model: Any, tensor: Any, index: int) -> TfliteTensor:
    name = (tensor.Name() or b"").decode("utf-8", errors="replace") or f"tensor_{index}"
    dtype = _DTYPES.get(tensor.Type())
    if dtype is None or tensor.Sparsity() is not None:
        kind = "a sparse tensor" if dtype else f"of TFLite type {_names(tflite.TensorType).get(tensor.Type())}"
        raise ModelError(f"tensor {name!r} is {kind}, which cannot be converted; export the model without it")
    shape = _ints(tensor.ShapeAsNumpy())
    stored = model.Buffers(tensor.Buffer()).DataAsNumpy()
    data = None
    if isinstance(stored, np.ndarray):
        data = np.frombuffer(stored.tobytes(), dtype=np.dtype(dtype).newbyteorder("<")).reshape(shape)
    return TfliteTensor(
        index=index,
        name=name,
        shape=shape,
        dtype=dtype,
        quantisation=_read_quantisation(tensor.Quantization()),
        data=data,
    )


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
    read = _OPTIONS.get(name)
    return Operator(
        index=index,
        name=name,
        inputs=_ints(operator.InputsAsNumpy()),
        outputs=_ints(operator.OutputsAsNumpy()),
        options=read(operator.BuiltinOptions()) if read and operator.BuiltinOptions() else OperatorOptions(),
    )


def _ints(array: Any) -> tuple[int, ...]:
    """Return a vector of the file as integers; an absent one is read as the number 0."""
    return tuple(int(item) for item in array) if isinstance(array, np.ndarray) else ()


def _opened(kind: type, table: Any) -> Any:
    options = kind()
    options.Init(table.Bytes, table.Pos)
    return options


def _activation(options: Any) -> str:
    return _ACTIVATIONS.get(options.FusedActivationFunction(), "unknown")


def _convolution(kind: type) -> Callable[[Any], OperatorOptions]:
    def read(table: Any) -> OperatorOptions:
        options = _opened(kind, table)
        return OperatorOptions(
            activation=_activation(options),
            same_padding=options.Padding() == tflite.Padding.SAME,
            stride=(options.StrideH(), options.StrideW()),
            dilation=(options.DilationHFactor(), options.DilationWFactor()),
        )

    return read


def _pool(table: Any) -> OperatorOptions:
    options = _opened(tflite.Pool2DOptions, table)
    return OperatorOptions(
        activation=_activation(options),
        same_padding=options.Padding() == tflite.Padding.SAME,
        stride=(options.StrideH(), options.StrideW()),
        window=(options.FilterHeight(), options.FilterWidth()),
    )


def _arithmetic(kind: type) -> Callable[[Any], OperatorOptions]:
    return lambda table: OperatorOptions(activation=_activation(_opened(kind, table)))


def _fully_connected(table: Any) -> OperatorOptions:
    options = _opened(tflite.FullyConnectedOptions, table)
    return OperatorOptions(activation=_activation(options), shuffled_weights=options.WeightsFormat() != 0)


def _concatenation(table: Any) -> OperatorOptions:
    options = _opened(tflite.ConcatenationOptions, table)
    return OperatorOptions(activation=_activation(options), axis=options.Axis())


def _reducer(table: Any) -> OperatorOptions:
    return OperatorOptions(keep_dims=bool(_opened(tflite.ReducerOptions, table).KeepDims()))


def _softmax(table: Any) -> OperatorOptions:
    return OperatorOptions(beta=float(_opened(tflite.SoftmaxOptions, table).Beta()))


_OPTIONS: dict[str, Callable[[Any], OperatorOptions]] = {
    "CONV_2D": _convolution(tflite.Conv2DOptions),
    "DEPTHWISE_CONV_2D": _convolution(tflite.DepthwiseConv2DOptions),
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "ADD": _arithmetic(tflite.AddOptions),
    "SUB": _arithmetic(tflite.SubOptions),
    "MUL": _arithmetic(tflite.MulOptions),
    "FULLY_CONNECTED": _fully_connected,
    "CONCATENATION": _concatenation,
    "MEAN": _reducer,
    "SOFTMAX": _softmax,
}
