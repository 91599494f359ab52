"""One converter for each TFLite operator: reads its inputs from the emitter, writes its output to it.

Semantics: tensorflow/lite/kernels/internal/reference. Integer kernels round halves away from zero and scale in fixed
point; the converted graph rounds halves to even and scales in float32, so a stored value may differ by one step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.emitter import IMAGE_RANK, TO_FIRST, Emitter, Layout
from crossfarm.stages.prepare.tflite.reader import Operator, TensorQuantisation, TfliteTensor

Converter = Callable[[Emitter, Operator], None]

_CLIPS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


def same_padding(extent: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the padding before and after one axis for TensorFlow's SAME: the output has ceil(extent / stride) entries.

    Formula: ComputePaddingWithOffset of tensorflow/lite/kernels/padding.h; the odd one goes behind.
    """
    outputs = -(-extent // stride)
    reach = (window - 1) * dilation + 1
    total = max((outputs - 1) * stride + reach - extent, 0)
    return total // 2, total - total // 2


def _padding(operator: Operator, image: TfliteTensor, window: tuple[int, int]) -> list[int]:
    """Return ONNX `pads` for height and width: begins, then ends."""
    options = operator.options
    if not options.same_padding:
        return [0, 0, 0, 0]
    top, bottom = same_padding(image.shape[1], window[0], options.stride[0], options.dilation[0])
    left, right = same_padding(image.shape[2], window[1], options.stride[1], options.dilation[1])
    return [top, left, bottom, right]


def _finish(
    emitter: Emitter, operator: Operator, name: str, layout: Layout, *, unchanged_from: int | None = None
) -> None:
    """Apply the fused activation and write the output."""
    output = operator.outputs[0]
    activated = _activate(emitter, operator, operator.options.activation, name)
    emitter.write(output, activated, layout, unchanged_from=unchanged_from)


def _activate(emitter: Emitter, operator: Operator, activation: str, name: str) -> str:
    if activation == "NONE":
        return name
    target = f"{_output_name(emitter, operator)}/{activation.lower()}"
    if activation == "RELU":
        return emitter.emit("Relu", [name], target)
    if activation in _CLIPS:
        low, high = (emitter.constant(np.array(bound, np.float32), f"{target}/bound") for bound in _CLIPS[activation])
        return emitter.emit("Clip", [name, low, high], target)
    if activation == "TANH":
        return emitter.emit("Tanh", [name], target)
    raise ModelError(f"{_place(emitter, operator)} has the fused activation {activation}, which cannot be converted")


def _place(emitter: Emitter, operator: Operator) -> str:
    return f"operator {operator.index} ({operator.name}, output {_output_name(emitter, operator)!r})"


def _output_name(emitter: Emitter, operator: Operator) -> str:
    return emitter.graph.tensors[operator.outputs[0]].name


def _constant(emitter: Emitter, operator: Operator, position: int) -> NDArray[Any]:
    """Return the values of an input that must be a constant."""
    tensor = emitter.tensor(operator.inputs[position])
    if tensor.data is None:
        raise ModelError(
            f"{_place(emitter, operator)} needs {tensor.name!r} as a constant; export it with fixed shapes"
        )
    return tensor.data


def _weights(emitter: Emitter, index: int, permutation: tuple[int, ...]) -> str:
    """Return constant weights as real numbers with their axes in another order."""
    tensor = emitter.tensor(index)
    if tensor.data is None:
        raise ModelError(f"weights {tensor.name!r} are computed; only constant weights can be converted")
    values = tensor.data.transpose(permutation)
    if tensor.quantisation is None:
        return emitter.constant(values.astype(np.float32), tensor.name)
    axis = permutation.index(tensor.quantisation.axis) if tensor.quantisation.scale.size > 1 else 0
    return emitter.dequantised(values, tensor.quantisation, axis, tensor.name)


def _bias(emitter: Emitter, operator: Operator) -> list[str]:
    """Return the bias as real numbers, or nothing; an int32 bias is in units of input scale times weight scale."""
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return []
    bias = emitter.tensor(operator.inputs[2])
    if bias.data is None:
        raise ModelError(f"bias {bias.name!r} is computed; only a constant bias can be converted")
    if bias.dtype != "int32":
        return [emitter.constant(bias.data.astype(np.float32), bias.name)]
    read, weights = (emitter.tensor(index).quantisation for index in operator.inputs[:2])
    if read is None or weights is None:
        raise ModelError(f"{_place(emitter, operator)} has an int32 bias without quantised input and weights")
    scale = (read.scale.astype(np.float64) * weights.scale.astype(np.float64)).astype(np.float32)
    steps = TensorQuantisation(scale=scale, zero_point=np.zeros(scale.shape, np.int64), axis=0)
    return [emitter.dequantised(bias.data, steps, 0, bias.name, zero_point=False)]


def _convolve(emitter: Emitter, operator: Operator, permutation: tuple[int, ...], groups: int) -> None:
    image = emitter.tensor(operator.inputs[0])
    window = emitter.tensor(operator.inputs[1]).shape[1:3]
    inputs = [
        emitter.real(operator.inputs[0], "first"),
        _weights(emitter, operator.inputs[1], permutation),
        *_bias(emitter, operator),
    ]
    result = emitter.emit(
        "Conv",
        inputs,
        f"{_output_name(emitter, operator)}/conv",
        kernel_shape=window,
        strides=operator.options.stride,
        dilations=operator.options.dilation,
        pads=_padding(operator, image, (window[0], window[1])),
        group=groups,
    )
    _finish(emitter, operator, result, "first")


def _conv_2d(emitter: Emitter, operator: Operator) -> None:
    channels = emitter.tensor(operator.inputs[0]).shape[3]
    _convolve(emitter, operator, TO_FIRST, channels // emitter.tensor(operator.inputs[1]).shape[3])


def _depthwise_conv_2d(emitter: Emitter, operator: Operator) -> None:
    # Weights are [1, height, width, channels * multiplier].
    _convolve(emitter, operator, (3, 0, 1, 2), emitter.tensor(operator.inputs[0]).shape[3])


def _pool(kind: str, **attributes: int) -> Converter:
    def convert(emitter: Emitter, operator: Operator) -> None:
        options, source = operator.options, operator.inputs[0]
        result = emitter.emit(
            kind,
            [emitter.real(source, "first")],
            f"{_output_name(emitter, operator)}/pool",
            kernel_shape=options.window,
            strides=options.stride,
            pads=_padding(operator, emitter.tensor(source), options.window),
            **attributes,
        )
        moved_only = kind == "MaxPool" and options.activation == "NONE"
        _finish(emitter, operator, result, "first", unchanged_from=source if moved_only else None)

    return convert


def _elementwise(kind: str) -> Converter:
    def convert(emitter: Emitter, operator: Operator) -> None:
        output = emitter.graph.tensors[operator.outputs[0]]
        layout = emitter.common_layout(operator, len(output.shape))
        inputs = [emitter.real(index, layout) for index in operator.inputs]
        _finish(emitter, operator, emitter.emit(kind, inputs, f"{output.name}/{kind.lower()}"), layout)

    return convert


def _activation(activation: str) -> Converter:
    def convert(emitter: Emitter, operator: Operator) -> None:
        layout = emitter.common_layout(operator, len(emitter.graph.tensors[operator.outputs[0]].shape))
        result = _activate(emitter, operator, activation, emitter.real(operator.inputs[0], layout))
        emitter.write(operator.outputs[0], result, layout)

    return convert


def _mean(emitter: Emitter, operator: Operator) -> None:
    source = emitter.tensor(operator.inputs[0])
    rank = len(source.shape)
    axes = sorted({int(axis) % rank for axis in _constant(emitter, operator, 1).reshape(-1)})
    name = _output_name(emitter, operator)
    layout: Layout = "last"
    if rank == IMAGE_RANK and axes == [1, 2]:
        layout, axes = "first", [2, 3]
    named = emitter.constant(np.array(axes, np.int64), f"{name}/axes")
    keep = operator.options.keep_dims
    result = emitter.emit("ReduceMean", [emitter.real(source.index, layout), named], f"{name}/mean", keepdims=int(keep))
    # Without the reduced axes, channels first and last are the same order.
    _finish(emitter, operator, result, layout if keep else "last")


def _fully_connected(emitter: Emitter, operator: Operator) -> None:
    if operator.options.shuffled_weights:
        raise ModelError(f"{_place(emitter, operator)} has shuffled weights, which cannot be converted")
    output = emitter.graph.tensors[operator.outputs[0]]
    source = emitter.tensor(operator.inputs[0])
    features = emitter.tensor(operator.inputs[1]).shape[1]
    rows = int(np.prod(source.shape)) // features
    flat = emitter.real(source.index)
    if source.shape != (rows, features):
        flat = _reshape_to(emitter, flat, (rows, features), f"{output.name}/flat")
    inputs = [flat, _weights(emitter, operator.inputs[1], (0, 1)), *_bias(emitter, operator)]
    result = emitter.emit("Gemm", inputs, f"{output.name}/gemm", transB=1)
    if len(output.shape) != 2:
        result = _reshape_to(emitter, result, output.shape, f"{output.name}/reshape")
    _finish(emitter, operator, result, "last")


def _reshape_to(emitter: Emitter, name: str, shape: tuple[int, ...], target: str) -> str:
    return emitter.emit("Reshape", [name, emitter.constant(np.array(shape, np.int64), f"{target}/shape")], target)


def _reshape(emitter: Emitter, operator: Operator) -> None:
    """Reshape to the shape that the file states for the output, so that a computed shape need not be converted."""
    source, output = emitter.tensor(operator.inputs[0]), emitter.graph.tensors[operator.outputs[0]]
    if np.prod(source.shape) != np.prod(output.shape):
        raise ModelError(
            f"{_place(emitter, operator)} turns {list(source.shape)} into {list(output.shape)}; "
            "export the model with fixed shapes"
        )
    result = _reshape_to(emitter, emitter.real(source.index), output.shape, f"{output.name}/reshape")
    _finish(emitter, operator, result, "last", unchanged_from=source.index)


def _softmax(emitter: Emitter, operator: Operator) -> None:
    name = _output_name(emitter, operator)
    scores = emitter.real(operator.inputs[0])
    if operator.options.beta != 1.0:
        beta = emitter.constant(np.array(operator.options.beta, np.float32), f"{name}/beta")
        scores = emitter.emit("Mul", [scores, beta], f"{name}/scores")
    _finish(emitter, operator, emitter.emit("Softmax", [scores], f"{name}/softmax", axis=-1), "last")


def _quantize(emitter: Emitter, operator: Operator) -> None:
    source = operator.inputs[0]
    layout = emitter.common_layout(operator, len(emitter.tensor(source).shape))
    emitter.write(operator.outputs[0], emitter.real(source, layout), layout, unchanged_from=source)


def _dequantize(emitter: Emitter, operator: Operator) -> None:
    emitter.alias(operator.outputs[0], operator.inputs[0])


def _pad(emitter: Emitter, operator: Operator) -> None:
    source = operator.inputs[0]
    pairs = _constant(emitter, operator, 1).reshape(-1, 2).astype(np.int64)
    # The operand of PADV2 is padding's value; PAD pads with the real number 0.
    value = np.zeros((), np.float32)
    if operator.name == "PADV2":
        value = _real_scalar(emitter.tensor(operator.inputs[2]))
    layout = emitter.common_layout(operator, len(pairs))
    if layout == "first":
        pairs = pairs[list(TO_FIRST)]
    name = _output_name(emitter, operator)
    pads = emitter.constant(pairs.T.reshape(-1), f"{name}/pads")
    fill = emitter.constant(value, f"{name}/value")
    result = emitter.emit("Pad", [emitter.real(source, layout), pads, fill], f"{name}/pad")
    _finish(emitter, operator, result, layout, unchanged_from=source)


def _real_scalar(tensor: TfliteTensor) -> NDArray[np.float32]:
    if tensor.data is None or tensor.data.size != 1:
        raise ModelError(f"tensor {tensor.name!r} must be one constant number to pad with")
    value = tensor.data.reshape(()).astype(np.float32)
    if tensor.quantisation is not None:
        value = (value - tensor.quantisation.zero_point[0]) * tensor.quantisation.scale[0]
    return np.asarray(value, np.float32)


def _concatenation(emitter: Emitter, operator: Operator) -> None:
    output = emitter.graph.tensors[operator.outputs[0]]
    rank = len(output.shape)
    layout = emitter.common_layout(operator, rank)
    axis = operator.options.axis % rank
    if layout == "first":
        axis = TO_FIRST.index(axis)
    joined = [emitter.real(index, layout) for index in operator.inputs]
    result = emitter.emit("Concat", joined, f"{output.name}/concat", axis=axis)
    _finish(emitter, operator, result, layout)


CONVERTERS: dict[str, Converter] = {
    "ADD": _elementwise("Add"),
    "AVERAGE_POOL_2D": _pool("AveragePool", count_include_pad=0),
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEQUANTIZE": _dequantize,
    "FULLY_CONNECTED": _fully_connected,
    "LOGISTIC": _elementwise("Sigmoid"),
    "MAX_POOL_2D": _pool("MaxPool"),
    "MEAN": _mean,
    "MUL": _elementwise("Mul"),
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _quantize,
    "RELU": _activation("RELU"),
    "RELU6": _activation("RELU6"),
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "SUB": _elementwise("Sub"),
    "TANH": _elementwise("Tanh"),
}
