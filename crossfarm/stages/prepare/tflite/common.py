"""What the converters of all families share: names, constants, fused activations, reshaping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.emitter import Emitter, Layout, is_real
from crossfarm.stages.prepare.tflite.reader import Operator, TfliteTensor

Converter = Callable[[Emitter, Operator], None]

ELEMENTS_LIMIT = 1 << 26
"""The most elements that an operator may make out of a number in the file."""
_CLIPS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


def output_name(emitter: Emitter, operator: Operator) -> str:
    """Return the name of an operator's first output, under which its nodes are named."""
    return emitter.graph.tensors[operator.outputs[0]].name


def place(emitter: Emitter, operator: Operator) -> str:
    """Return a text that finds an operator: `operator 3 (CONV_2D, output 'features')`."""
    return f"operator {operator.index} ({operator.name}, output {output_name(emitter, operator)!r})"


def refuse(emitter: Emitter, operator: Operator, reason: str) -> ModelError:
    """Return the error that names an operator and says why it cannot be converted."""
    return ModelError(f"{place(emitter, operator)} {reason}")


def given(operator: Operator, position: int) -> bool:
    """Say whether an optional input is there."""
    return position < len(operator.inputs) and operator.inputs[position] >= 0


def constant_input(emitter: Emitter, operator: Operator, position: int) -> NDArray[Any]:
    """Return the values of an input that must be a constant.

    Raises:
        ModelError: it is computed.
    """
    tensor = emitter.tensor(operator.inputs[position])
    if tensor.data is None:
        raise refuse(
            emitter,
            operator,
            f"needs {tensor.name!r} as a constant, but it is computed from the data; export it with fixed shapes",
        )
    return tensor.data


def integers(values: NDArray[Any]) -> list[int]:
    """Return the elements of a constant of integers."""
    return [int(value) for value in values.reshape(-1)]


def real_scalar(emitter: Emitter, index: int) -> NDArray[np.float32]:
    """Return the real number of a constant with one element."""
    tensor = emitter.tensor(index)
    if tensor.data is None or tensor.data.size != 1:
        raise ModelError(f"tensor {tensor.name!r} must be one constant number")
    value = tensor.data.reshape(()).astype(np.float32)
    if tensor.quantisation is not None and is_real(tensor):
        value = (value - tensor.quantisation.zero_point[0]) * tensor.quantisation.scale[0]
    return np.asarray(value, np.float32)


def number(emitter: Emitter, value: float, name: str) -> str:
    """Add a float32 scalar."""
    return emitter.constant(np.array(value, np.float32), name)


def extents(emitter: Emitter, values: Sequence[int], name: str) -> str:
    """Add a vector of int64: a shape, axes, sizes."""
    return emitter.constant(np.array(values, np.int64), name)


def element_type(dtype: str) -> int:
    """Return ONNX's number of a type of NumPy."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def value_type(tensor: TfliteTensor) -> str:
    """Return NumPy's name of the type that a tensor has in the ONNX graph."""
    return "float32" if is_real(tensor) else tensor.dtype


def cast(emitter: Emitter, name: str, dtype: str, target: str) -> str:
    """Add a Cast."""
    return emitter.emit("Cast", [name], target, to=element_type(dtype))


def reshape_to(emitter: Emitter, name: str, shape: Sequence[int], target: str) -> str:
    """Add a Reshape."""
    return emitter.emit("Reshape", [name, extents(emitter, shape, f"{target}/shape")], target)


_CHOSEN = ("float32", "int32", "int64", "uint8")


def choose(emitter: Emitter, operands: Sequence[str], dtype: str, target: str) -> str:
    """Add a Where; types that ONNX Runtime does not choose between go through int32.

    Args:
        emitter: of the graph.
        operands: condition, what is taken where it holds, what is taken elsewhere.
        dtype: NumPy's name of the type of the two.
        target: name of the result.
    """
    if dtype in _CHOSEN:
        return emitter.emit("Where", operands, target)
    condition, left, right = operands
    wide = [cast(emitter, operand, "int32", f"{target}/wide") for operand in (left, right)]
    return cast(emitter, emitter.emit("Where", [condition, *wide], f"{target}/chosen"), dtype, target)


def check_elements(emitter: Emitter, operator: Operator, shape: Sequence[int]) -> None:
    """Refuse an operator that makes a huge or impossible tensor out of numbers of the file."""
    if min(shape, default=0) < 0 or math.prod(max(extent, 1) for extent in shape) > ELEMENTS_LIMIT:
        raise refuse(emitter, operator, f"makes a tensor of shape {list(shape)}, which cannot be compiled")


def finish(
    emitter: Emitter, operator: Operator, name: str, layout: Layout, *, unchanged_from: int | None = None
) -> None:
    """Apply the fused activation and write the output, which holds real numbers."""
    activated = activate(emitter, operator, operator.options.activation, name)
    emitter.write(operator.outputs[0], activated, layout, unchanged_from=unchanged_from)


def activate(emitter: Emitter, operator: Operator, activation: str, name: str) -> str:
    """Return the name of the activated numbers."""
    if activation == "NONE":
        return name
    target = f"{output_name(emitter, operator)}/{activation.lower()}"
    if activation == "RELU":
        return emitter.emit("Relu", [name], target)
    if activation in _CLIPS:
        low, high = (number(emitter, bound, f"{target}/bound") for bound in _CLIPS[activation])
        return emitter.emit("Clip", [name, low, high], target)
    if activation == "TANH":
        return emitter.emit("Tanh", [name], target)
    if activation == "SIGMOID":
        return emitter.emit("Sigmoid", [name], target)
    if activation == "SIGN_BIT":
        raise refuse(emitter, operator, "has the fused activation SIGN_BIT, for which LiteRT has no kernel")
    raise refuse(emitter, operator, f"has the fused activation {activation}, which cannot be converted")
