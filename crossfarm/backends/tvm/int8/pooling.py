"""Maxima and means of stored integers."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8.values import Stored, Sums, Walk, channels_first, channels_last
from crossfarm.backends.tvm.int8.windows import Window, framed, window_of
from crossfarm.backends.tvm.passes.relax_utils import integers, operator_name, static_shape

_ATTRIBUTES = ("pool_size", "strides", "padding", "dilation", "ceil_mode", "count_include_pad")


def maximum(walk: Walk, value: Stored, window: Window) -> Stored:
    """Emit the maxima of windows; what stands around the image is less than anything in it."""
    compute = functools.partial(_maximum, window=window)
    return Stored(tensor=walk.call(compute, value.tensor, name="max_pool_int8"), steps=value.steps)


def mean(walk: Walk, value: Stored, window: Window) -> Sums:
    """Emit the sums of windows without padding, with the scale of their means."""
    tensor = walk.call(functools.partial(_sum, window=window), value.tensor, name="mean_int8")
    return _means(tensor, value, math.prod(window.kernel))


def mean_pool(walk: Walk, value: Stored, call: Any) -> Sums | None:
    """Emit a relax.nn.avg_pool2d; None where it pads, or rounds its size up."""
    attributes = call.attrs
    if bool(attributes.ceil_mode) or str(attributes.layout) != "NCHW":
        return None
    window = window_of(attributes, integers(attributes.pool_size))
    return None if any(window.padding) else mean(walk, value, window)


def global_mean(walk: Walk, value: Stored, call: Any) -> Sums | None:
    """Emit the means of whole images (relax.mean, or relax.nn.adaptive_avg_pool2d to one pixel); None of others."""
    shape = static_shape(value.tensor) or ()
    is_mean = operator_name(call) == "relax.mean"
    if len(shape) != 4:
        return None
    if is_mean and sorted(axis % 4 for axis in integers(call.attrs.axis or ())) != [2, 3]:
        return None
    if not is_mean and integers(call.attrs.output_size or ()) != (1, 1):
        return None
    made = mean(walk, value, Window(kernel=(shape[1], shape[2])))
    if not is_mean or bool(call.attrs.keepdims):
        return made
    return dataclasses.replace(made, tensor=walk.emit(relax.op.reshape(made.tensor, (shape[0], shape[3]))))


def _means(tensor: Any, value: Stored, count: int) -> Sums:
    channels = (static_shape(tensor) or ())[-1]
    return Sums(
        tensor=tensor,
        scale=np.full(channels, value.steps.scale / count),
        bias=np.full(channels, -value.steps.zero * count, np.int32),
    )


def _maximum(image: Any, *, window: Window) -> Any:
    batch, height, width, channels = (int(extent) for extent in image.shape)
    source = framed(image, window, fill=tirx.min_value(str(image.dtype)))
    ky, kx = te.reduce_axis((0, window.kernel[0]), "ky"), te.reduce_axis((0, window.kernel[1]), "kx")

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        row = y * window.strides[0] + ky * window.dilation[0]
        column = x * window.strides[1] + kx * window.dilation[1]
        return te.max(source[n, row, column, c], axis=[ky, kx])

    return te.compute((batch, *window.output(height, width), channels), element, name="crossfarm_int8_maximum")


def _sum(image: Any, *, window: Window) -> Any:
    batch, height, width, channels = (int(extent) for extent in image.shape)
    ky, kx = te.reduce_axis((0, window.kernel[0]), "ky"), te.reduce_axis((0, window.kernel[1]), "kx")

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        row = y * window.strides[0] + ky * window.dilation[0]
        column = x * window.strides[1] + kx * window.dilation[1]
        return te.sum(image[n, row, column, c].astype("int32"), axis=[ky, kx])

    return te.compute((batch, *window.output(height, width), channels), element, name="crossfarm_int8_sum")


def of_reals(walk: Walk, call: Any) -> Any | None:
    """Pool real numbers with their channels last, as everything around them has them.

    Returns:
        None when the graph does not pool over images with their channels first.
    """
    if str(call.attrs.layout) != "NCHW":
        return None
    named = {field: getattr(call.attrs, field) for field in _ATTRIBUTES}
    pool = relax.op.nn.max_pool2d if operator_name(call) == "relax.nn.max_pool2d" else relax.op.nn.avg_pool2d
    pooled = walk.emit(pool(channels_last(walk, call.args[0]), layout="NHWC", out_layout="NHWC", **named))
    return channels_first(walk, pooled)
