"""Convolutions and matrix products of a quantised graph: which kernel computes them, what is known of the result."""

from __future__ import annotations

import math

import numpy as np

from crossfarm.backends.tvm.int8 import convolution, depthwise, depthwise_dot4, winograd
from crossfarm.backends.tvm.int8.dot_instructions import BYTES
from crossfarm.backends.tvm.int8.values import Accumulators, QuantisedValue, RewriteContext, Weights
from crossfarm.backends.tvm.int8.windows import window_of
from crossfarm.backends.tvm.passes.relax_utils import static_shape
from crossfarm.backends.tvm.types import Array, RelaxCall, RelaxExpr, RelaxVar


def convolve(context: RewriteContext, call: RelaxCall) -> RelaxExpr | None:
    """Rewrite a relax.nn.conv2d of a quantised image and constant weights; None leaves it in float32."""
    image, weights = context.value(call.args[0]), context.value(call.args[1])
    if not isinstance(image, QuantisedValue) or not isinstance(weights, Weights) or weights.array.dtype != np.int8:
        return None
    attributes = call.attrs
    layouts = (str(attributes.data_layout), str(attributes.kernel_layout))
    if layouts != ("NCHW", "OIHW") or weights.axis not in (None, 0):
        return None
    # [output channels, input channels of a group, KH, KW] -> [KH, KW, input channels of a group, output channels]
    kernel = np.ascontiguousarray(weights.array.transpose(2, 3, 1, 0))
    window, groups = window_of(attributes, kernel.shape[:2]), int(attributes.groups)
    _, height, width, channels = static_shape(image.tensor) or ()
    if min(window.output(height, width)) < 1:
        return None
    zero = image.params.zero
    # [output channels]: the sum of (q - zero point) * weight is an accumulator plus this
    offsets = -zero * kernel.astype(np.int64).sum(axis=(0, 1, 2))
    # Weights that stay bytes are those of a grouped convolution: the kernels for depthwise ones take floats or words.
    has_kernels = BYTES not in context.unit.dots and math.prod(window.kernel) <= depthwise.MAX_TAPS
    is_depthwise = groups == channels and kernel.shape[2:] == (1, channels) and channels > 1
    if is_depthwise and has_kernels:
        taps, dot = kernel[:, :, 0], depthwise_dot4.dot_for(context.unit, channels)
        if dot is None:
            made = depthwise.convolve(image.tensor, taps, zero=zero, window=window, builder=context.builder_)
            offsets = np.zeros_like(offsets)
        else:
            made = depthwise_dot4.convolve(
                image.tensor, taps, zero=zero, window=window, builder=context.builder_, dot=dot
            )
    else:
        made = winograd.convolve(
            image.tensor, kernel, zero=zero, window=window, groups=groups, builder=context.builder_, unit=context.unit
        )
    return context.keep(_accumulators(context.emit(made), image, weights, kernel, offsets))


def _accumulators(
    tensor: RelaxVar, left: QuantisedValue, weights: Weights, products: Array, offsets: Array
) -> Accumulators:
    """Return what is known of the accumulators of a product.

    Args:
        tensor: the accumulators.
        left: the activations.
        weights: with their scales.
        products: the weights [..., output channels]; an accumulator is a sum over all other axes.
        offsets: [output channels], what the zero point of the activations adds to every accumulator.
    """
    scale = np.broadcast_to(left.params.scale * weights.scale, offsets.shape)
    most = 255.0 * np.abs(products.astype(np.int64)).reshape(-1, products.shape[-1]).sum(axis=0).max(initial=0)
    return Accumulators(
        tensor=tensor, scale=np.ascontiguousarray(scale), bias=offsets.astype(np.int32), largest_product=float(most)
    )


def multiply_matrices(context: RewriteContext, call: RelaxCall) -> RelaxExpr | None:
    """Rewrite a relax.matmul of a quantised matrix and constant weights; None leaves it in float32."""
    left, weights = context.value(call.args[0]), context.value(call.args[1])
    if not isinstance(left, QuantisedValue) or not isinstance(weights, Weights) or weights.array.dtype != np.int8:
        return None
    shape = static_shape(left.tensor) or ()
    if len(shape) != 2 or weights.array.ndim != 2 or weights.axis not in (None, 1):
        return None
    made = convolution.multiply(left.tensor, weights.array, builder=context.builder_, unit=context.unit)
    offsets = -left.params.zero * weights.array.astype(np.int64).sum(axis=0)
    return context.keep(_accumulators(context.emit(made), left, weights, weights.array, offsets))
