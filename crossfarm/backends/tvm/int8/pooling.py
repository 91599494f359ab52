"""Maximum and mean pooling of quantised integers."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8.numpy_reference import QuantParams
from crossfarm.backends.tvm.int8.values import (
    Accumulators,
    QuantisedValue,
    RewriteContext,
    Value,
    channels_first,
    channels_last,
)
from crossfarm.backends.tvm.int8.windows import Window, padded_image, window_of
from crossfarm.backends.tvm.passes.relax_utils import integers, operator_name, static_shape
from crossfarm.backends.tvm.types import PrimExpr, RelaxCall, RelaxExpr, RelaxVar, Tensor, Var

_ATTRIBUTES = ("pool_size", "strides", "padding", "dilation", "ceil_mode", "count_include_pad")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxPooledValue:
    """The maxima of a value that is not quantised yet: rounding keeps the order, so it is quantised first.

    Attributes:
        source: the value.
        window: how the window slides.
        expression: the maxima in float32.
    """

    source: Value
    window: Window
    expression: RelaxExpr

    def as_float(self, _context: RewriteContext) -> RelaxExpr:
        """Return the real numbers, in the order of axes of the graph."""
        return self.expression

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Quantise the source, and emit the maxima of the integers."""
        return maximum(context, self.source.as_quantised(context, params), self.window)


def maximum(context: RewriteContext, value: QuantisedValue, window: Window) -> QuantisedValue:
    """Emit the maxima of windows; the padding is less than anything in the image."""
    compute = functools.partial(_maximum, window=window)
    return QuantisedValue(tensor=context.call(compute, value.tensor, name="max_pool_int8"), params=value.params)


def mean(context: RewriteContext, value: QuantisedValue, window: Window) -> Accumulators:
    """Emit the accumulators of windows without padding, with the scale of their means."""
    tensor = context.call(functools.partial(_sum, window=window), value.tensor, name="mean_int8")
    return _means(tensor, value, math.prod(window.kernel))


def mean_pool(context: RewriteContext, value: QuantisedValue, call: RelaxCall) -> Accumulators | None:
    """Emit a relax.nn.avg_pool2d; None where it pads, or rounds its size up."""
    attributes = call.attrs
    if bool(attributes.ceil_mode) or str(attributes.layout) != "NCHW":
        return None
    window = window_of(attributes, integers(attributes.pool_size))
    return None if any(window.padding) else mean(context, value, window)


def global_mean(context: RewriteContext, value: QuantisedValue, call: RelaxCall) -> Accumulators | None:
    """Emit the means of whole images (relax.mean, or relax.nn.adaptive_avg_pool2d to one pixel); None of others."""
    shape = static_shape(value.tensor) or ()
    is_mean = operator_name(call) == "relax.mean"
    if len(shape) != 4:
        return None
    if is_mean and sorted(axis % 4 for axis in integers(call.attrs.axis or ())) != [2, 3]:
        return None
    if not is_mean and integers(call.attrs.output_size or ()) != (1, 1):
        return None
    made = mean(context, value, Window(kernel=(shape[1], shape[2])))
    if not is_mean or bool(call.attrs.keepdims):
        return made
    return dataclasses.replace(made, tensor=context.emit(relax.op.reshape(made.tensor, (shape[0], shape[3]))))


def _means(tensor: RelaxVar, value: QuantisedValue, count: int) -> Accumulators:
    channels = (static_shape(tensor) or ())[-1]
    return Accumulators(
        tensor=tensor,
        scale=np.full(channels, value.params.scale / count),
        bias=np.full(channels, -value.params.zero * count, np.int32),
    )


def _maximum(image: Tensor, *, window: Window) -> Tensor:
    # image: [N, H, W, C] uint8 or int8
    batch, height, width, channels = (int(extent) for extent in image.shape)
    # source: [N, H + padding, W + padding, C]
    source = padded_image(image, window, fill=tirx.min_value(str(image.dtype)))
    ky, kx = te.reduce_axis((0, window.kernel[0]), "ky"), te.reduce_axis((0, window.kernel[1]), "kx")

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        row = y * window.strides[0] + ky * window.dilation[0]
        column = x * window.strides[1] + kx * window.dilation[1]
        return te.max(source[n, row, column, c], axis=[ky, kx])

    # result: [N, rows, columns, C] uint8 or int8
    return te.compute((batch, *window.output(height, width), channels), element, name="crossfarm_int8_maximum")


def _sum(image: Tensor, *, window: Window) -> Tensor:
    # image: [N, H, W, C] uint8 or int8
    batch, height, width, channels = (int(extent) for extent in image.shape)
    ky, kx = te.reduce_axis((0, window.kernel[0]), "ky"), te.reduce_axis((0, window.kernel[1]), "kx")

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        row = y * window.strides[0] + ky * window.dilation[0]
        column = x * window.strides[1] + kx * window.dilation[1]
        return te.sum(image[n, row, column, c].astype("int32"), axis=[ky, kx])

    # result: [N, rows, columns, C] int32
    return te.compute((batch, *window.output(height, width), channels), element, name="crossfarm_int8_sum")


def pool_floats(context: RewriteContext, call: RelaxCall) -> RelaxExpr | None:
    """Pool float32 numbers with their channels last, as everything around them has them.

    Returns:
        None when the graph does not pool over images with their channels first.
    """
    if str(call.attrs.layout) != "NCHW":
        return None
    named = {field: getattr(call.attrs, field) for field in _ATTRIBUTES}
    pool = relax.op.nn.max_pool2d if operator_name(call) == "relax.nn.max_pool2d" else relax.op.nn.avg_pool2d
    pooled = context.emit(pool(channels_last(context, call.args[0]), layout="NHWC", out_layout="NHWC", **named))
    return channels_first(context, pooled)
