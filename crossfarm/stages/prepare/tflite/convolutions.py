"""Converters of products: convolutions, pooling, dense layers, products of matrices.

Semantics: tensorflow/lite/kernels/internal/reference. Integer kernels round halves away from zero and scale in fixed
point; the converted graph rounds halves to even and scales in float32, so a stored value may differ by one step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.common import (
    Converter,
    constant_input,
    finish,
    given,
    integers,
    number,
    output_name,
    place,
    refuse,
    reshape_to,
)
from crossfarm.stages.prepare.tflite.emitter import TO_FIRST, Emitter, check_computable
from crossfarm.stages.prepare.tflite.options import TRANSPOSE_CONV_BIAS
from crossfarm.stages.prepare.tflite.reader import Operator, TensorQuantisation, TfliteTensor

_VOLUME_FIRST = (0, 4, 1, 2, 3)
_VOLUME_LAST = (0, 2, 3, 4, 1)
_BAND_LIMIT = 4096


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


def _weights(emitter: Emitter, index: int, permutation: tuple[int, ...]) -> str:
    """Return weights as real numbers with their axes in another order."""
    tensor = emitter.tensor(index)
    check_computable(tensor)
    if tensor.data is None:
        computed = emitter.real(index)
        if permutation == tuple(range(len(permutation))):
            return computed
        return emitter.emit("Transpose", [computed], f"{tensor.name}/weights", perm=permutation)
    values = tensor.data.transpose(permutation)
    if tensor.quantisation is None:
        return emitter.constant(values.astype(np.float32), tensor.name)
    axis = permutation.index(tensor.quantisation.axis) if tensor.quantisation.scale.size > 1 else 0
    return emitter.dequantised(values, tensor.quantisation, axis, tensor.name)


def _bias(emitter: Emitter, operator: Operator, *, position: int = 2, products: tuple[int, int] = (0, 1)) -> list[str]:
    """Return the bias as real numbers, or nothing; an integer bias is in units of input scale times weight scale.

    Args:
        emitter: of the graph.
        operator: a product.
        position: of the bias among its inputs.
        products: positions of what is multiplied.
    """
    if not given(operator, position):
        return []
    bias = emitter.tensor(operator.inputs[position])
    if bias.dtype not in ("int32", "int64"):
        return [emitter.real(bias.index)]
    if bias.data is None:
        raise refuse(
            emitter, operator, f"has the computed bias {bias.name!r} of integers; only a constant one is known"
        )
    read, weights = (emitter.tensor(operator.inputs[at]).quantisation for at in products)
    if read is None or weights is None:
        raise ModelError(f"{place(emitter, operator)} has an {bias.dtype} bias without quantised input and weights")
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
        f"{output_name(emitter, operator)}/conv",
        kernel_shape=window,
        strides=operator.options.stride,
        dilations=operator.options.dilation,
        pads=_padding(operator, image, (window[0], window[1])),
        group=groups,
    )
    finish(emitter, operator, result, "first")


def _conv_2d(emitter: Emitter, operator: Operator) -> None:
    channels = emitter.tensor(operator.inputs[0]).shape[3]
    _convolve(emitter, operator, TO_FIRST, channels // emitter.tensor(operator.inputs[1]).shape[3])


def _depthwise_conv_2d(emitter: Emitter, operator: Operator) -> None:
    # Weights are [1, height, width, channels * multiplier].
    _convolve(emitter, operator, (3, 0, 1, 2), emitter.tensor(operator.inputs[0]).shape[3])


def _conv_3d(emitter: Emitter, operator: Operator) -> None:
    """Weights are [depth, height, width, inputs, outputs]; the input is [batch, depth, height, width, channels]."""
    options, name = operator.options, output_name(emitter, operator)
    volume, weights = (emitter.tensor(index) for index in operator.inputs[:2])
    window = weights.shape[:3]
    strides = (options.depth_stride, *options.stride)
    dilations = (options.depth_dilation, *options.dilation)
    pads = [(0, 0)] * 3
    if options.same_padding:
        pads = [same_padding(volume.shape[1 + at], window[at], strides[at], dilations[at]) for at in range(3)]
    source = emitter.emit("Transpose", [emitter.real(volume.index)], f"{name}/volume", perm=_VOLUME_FIRST)
    result = emitter.emit(
        "Conv",
        [source, _weights(emitter, weights.index, (4, 3, 0, 1, 2)), *_bias(emitter, operator)],
        f"{name}/conv",
        kernel_shape=window,
        strides=strides,
        dilations=dilations,
        pads=[pair[0] for pair in pads] + [pair[1] for pair in pads],
        group=volume.shape[4] // weights.shape[3],
    )
    finish(emitter, operator, emitter.emit("Transpose", [result], f"{name}/last", perm=_VOLUME_LAST), "last")


def _transpose_conv(emitter: Emitter, operator: Operator) -> None:
    """Inputs are the shape of the output, weights [outputs, height, width, inputs], the image and perhaps a bias."""
    wanted = integers(constant_input(emitter, operator, 0))[1:3]
    _transposed(emitter, operator, wanted, image=2, bias=3)


def _transpose_conv_bias(emitter: Emitter, operator: Operator) -> None:
    """Inputs are the image, weights as for TRANSPOSE_CONV, and a bias; the file states the shape of the output."""
    wanted = emitter.graph.tensors[operator.outputs[0]].shape[1:3]
    _transposed(emitter, operator, wanted, image=0, bias=2)


def _transposed(emitter: Emitter, operator: Operator, wanted: Sequence[int], *, image: int, bias: int) -> None:
    """Add a ConvTranspose whose weights are the second input.

    Formula: the padding is that of the convolution that leads from the output to the image
    (ComputePaddingHeightWidth in tensorflow/lite/kernels/transpose_conv.cc).
    """
    name, options = output_name(emitter, operator), operator.options
    source, weights = emitter.tensor(operator.inputs[image]), emitter.tensor(operator.inputs[1])
    window = weights.shape[1:3]
    begins, ends, extra = [], [], []
    for at in range(2):
        reach = (source.shape[1 + at] - 1) * options.stride[at] + window[at]
        total = max(reach - wanted[at], 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
        extra.append(max(wanted[at] - reach, 0))
    result = emitter.emit(
        "ConvTranspose",
        [
            emitter.real(source.index, "first"),
            _weights(emitter, weights.index, (3, 0, 1, 2)),
            *_bias(emitter, operator, position=bias, products=(image, 1)),
        ],
        f"{name}/transposed",
        kernel_shape=window,
        strides=options.stride,
        pads=[*begins, *ends],
        output_padding=extra,
    )
    finish(emitter, operator, result, "first")


def _pool(kind: str, **attributes: int) -> Converter:
    def convert(emitter: Emitter, operator: Operator) -> None:
        options, source = operator.options, operator.inputs[0]
        result = emitter.emit(
            kind,
            [emitter.real(source, "first")],
            f"{output_name(emitter, operator)}/pool",
            kernel_shape=options.window,
            strides=options.stride,
            pads=_padding(operator, emitter.tensor(source), options.window),
            **attributes,
        )
        moved_only = kind == "MaxPool" and options.activation == "NONE"
        finish(emitter, operator, result, "first", unchanged_from=source if moved_only else None)

    return convert


def _l2_pool(emitter: Emitter, operator: Operator) -> None:
    """Return the root of the mean of squares; the padding is left out of the mean."""
    name, options = output_name(emitter, operator), operator.options
    image = emitter.tensor(operator.inputs[0])
    values = emitter.real(image.index, "first")
    mean = emitter.emit(
        "AveragePool",
        [emitter.emit("Mul", [values, values], f"{name}/squares")],
        f"{name}/mean",
        kernel_shape=options.window,
        strides=options.stride,
        pads=_padding(operator, image, options.window),
        count_include_pad=0,
    )
    finish(emitter, operator, emitter.emit("Sqrt", [mean], f"{name}/root"), "first")


def _fully_connected(emitter: Emitter, operator: Operator) -> None:
    if operator.options.shuffled_weights:
        raise refuse(emitter, operator, "has shuffled weights, which cannot be converted")
    output = emitter.graph.tensors[operator.outputs[0]]
    source = emitter.tensor(operator.inputs[0])
    features = emitter.tensor(operator.inputs[1]).shape[1]
    rows = math.prod(source.shape) // features
    flat = emitter.real(source.index)
    if source.shape != (rows, features):
        flat = reshape_to(emitter, flat, (rows, features), f"{output.name}/flat")
    inputs = [flat, _weights(emitter, operator.inputs[1], (0, 1)), *_bias(emitter, operator)]
    result = emitter.emit("Gemm", inputs, f"{output.name}/gemm", transB=1)
    if len(output.shape) != 2:
        result = reshape_to(emitter, result, output.shape, f"{output.name}/reshape")
    finish(emitter, operator, result, "last")


def _batch_matmul(emitter: Emitter, operator: Operator) -> None:
    name = output_name(emitter, operator)
    factors = []
    for index, swapped in zip(operator.inputs[:2], (operator.options.adj_x, operator.options.adj_y), strict=True):
        rank = len(emitter.tensor(index).shape)
        order = (*range(rank - 2), rank - 1, rank - 2) if swapped else tuple(range(rank))
        factors.append(_weights(emitter, index, order))
    finish(emitter, operator, emitter.emit("MatMul", factors, f"{name}/matmul"), "last")


def _local_response_normalization(emitter: Emitter, operator: Operator) -> None:
    """Divide by (bias + alpha * sum)^beta, with the sum of squares over `radius` channels on either side.

    The sum is a product with a band of ones.
    """
    name, options = output_name(emitter, operator), operator.options
    image = emitter.tensor(operator.inputs[0])
    if image.shape[3] > _BAND_LIMIT:
        raise refuse(emitter, operator, f"is over {image.shape[3]} channels; {_BAND_LIMIT} are the most")
    channels = np.arange(image.shape[3])
    band = (np.abs(channels[:, None] - channels[None, :]) <= options.radius).astype(np.float32)
    values = emitter.real(image.index, "first")
    squares = emitter.emit("Mul", [values, values], f"{name}/squares")
    weights = emitter.constant(band.reshape(*band.shape, 1, 1) * np.float32(options.alpha), f"{name}/band")
    sums = emitter.emit("Conv", [squares, weights], f"{name}/sums", kernel_shape=(1, 1))
    base = emitter.emit("Add", [sums, number(emitter, options.bias, f"{name}/bias")], f"{name}/base")
    power = emitter.emit("Pow", [base, number(emitter, options.beta, f"{name}/beta")], f"{name}/power")
    finish(emitter, operator, emitter.emit("Div", [values, power], f"{name}/normalised"), "first")


CONVERTERS: dict[str, Converter] = {
    "AVERAGE_POOL_2D": _pool("AveragePool", count_include_pad=0),
    "BATCH_MATMUL": _batch_matmul,
    "CONV_2D": _conv_2d,
    "CONV_3D": _conv_3d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "FULLY_CONNECTED": _fully_connected,
    "L2_POOL_2D": _l2_pool,
    "LOCAL_RESPONSE_NORMALIZATION": _local_response_normalization,
    "MAX_POOL_2D": _pool("MaxPool"),
    "TRANSPOSE_CONV": _transpose_conv,
    TRANSPOSE_CONV_BIAS: _transpose_conv_bias,
}
