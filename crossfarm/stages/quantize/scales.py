"""Scales that are powers of two: what accelerators with shifters instead of multipliers compute with."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from crossfarm.stages.data.tensors import Array

_TRIED = 5
"""Exponents that are tried for weights: that of the given scale, rounded up, and smaller ones."""


def to_powers_of_two(model: ModelProto, weights: dict[str, Array]) -> None:
    """Round all scales of a symmetric QDQ graph to powers of two, in place.

    Scales of activations are rounded up, so that nothing is clipped that was not. Those of weights are the power of two
    with the least mean squared error, for each channel. Biases are in units of input times weight.

    Args:
        model: QDQ with all zero points 0.
        weights: the float32 initialisers of the model before it was quantised.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in tensors]
    biases = [node for node in constants if tensors[node.input[0]].data_type == TensorProto.INT32]
    own = {node.input[1] for node in constants}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] not in own:
            scale = numpy_helper.to_array(tensors[node.input[1]])
            _replace(tensors[node.input[1]], np.array(_power_above(scale), np.float32))
    for node in constants:
        if node not in biases:
            stored, scale = tensors[node.input[0]], tensors[node.input[1]]
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            _store_weights(stored, scale, weights[_float_name(node.input[0])], axis)
    makers = {node.output[0]: node for node in model.graph.node}
    for user in model.graph.node:
        if len(user.input) == 3 and makers.get(user.input[2]) in biases:
            factors = [numpy_helper.to_array(tensors[makers[name].input[1]]) for name in user.input[:2]]
            scale_of_sums = np.asarray(factors[0] * factors[1], np.float32).reshape(-1)
            node = makers[user.input[2]]
            real = weights[_float_name(node.input[0])]
            _replace(tensors[node.input[1]], scale_of_sums.reshape(numpy_helper.to_array(tensors[node.input[1]]).shape))
            limits = np.iinfo(np.int32)
            stored_bias = np.clip(np.rint(real.astype(np.float64) / scale_of_sums), limits.min, limits.max)
            _replace(tensors[node.input[0]], stored_bias.astype(np.int32))


def _float_name(name: str) -> str:
    return name.removesuffix("_quantized")


def _store_weights(stored: TensorProto, scale: TensorProto, real: Array, axis: int) -> None:
    given = numpy_helper.to_array(scale)
    channels = np.moveaxis(real, axis, 0).reshape(given.size, -1) if given.size > 1 else real.reshape(1, -1)
    found = np.array(
        [_best_power(channel, float(old)) for channel, old in zip(channels, given.reshape(-1), strict=True)]
    )
    shape = [-1 if k == axis else 1 for k in range(real.ndim)] if given.size > 1 else []
    numbers = np.clip(np.rint(real / found.reshape(shape)), -127, 127).astype(np.int8)
    _replace(scale, found.astype(np.float32).reshape(given.shape))
    _replace(stored, numbers)


def _best_power(channel: Array, scale: float) -> float:
    first = _power_above(np.array(scale))
    powers = [first * 2.0**-k for k in range(_TRIED)]
    return min(powers, key=lambda power: float(np.mean((_rounded(channel, power) - channel) ** 2)))


def _rounded(channel: Array, power: float) -> Array:
    return np.asarray(np.clip(np.rint(channel / power), -127, 127) * power)


def _power_above(scale: Array) -> float:
    return 2.0 ** math.ceil(math.log2(float(scale.reshape(-1)[0])))


def _replace(tensor: TensorProto, array: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), tensor.name))
