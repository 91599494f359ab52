"""Transposed convolutions as convolutions: what they scatter is gathered phase by phase.

Of the outputs of a transposed convolution with stride s, those at the same place modulo s see the same taps of the
kernel. So one convolution of stride 1 with s * s times the channels computes all of them, on kernels of the size k / s,
and its channels are then spread over space (Shi et al., "Is the deconvolution layer the same as a convolutional
layer?", 2016). Nothing is multiplied by the zeros that a literal translation would put between the pixels.
"""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from crossfarm.backends.tvm.passes.relax_utils import (
    constant_array,
    integers,
    is_float32,
    operator_name,
    rewrite_functions,
    static_shape,
)
from crossfarm.backends.tvm.types import Array, BlockBuilder, IRModule, RelaxCall, RelaxExpr


def gather_transposed(module: IRModule) -> IRModule:
    """Return a module without transposed convolutions over constant weights."""
    return rewrite_functions(module, _Gatherer)


@mutator
class _Gatherer(PyExprMutator):  # type: ignore[misc]
    """Replaces relax.nn.conv1d_transpose and relax.nn.conv2d_transpose."""

    def visit_call_(self, call: RelaxCall) -> RelaxExpr:
        """Rewrite one call, whose arguments have been rewritten."""
        call = self.visit_expr_post_order(call)
        if operator_name(call) not in ("relax.nn.conv1d_transpose", "relax.nn.conv2d_transpose"):
            return call
        bound = self.lookup_binding(call.args[1]) if isinstance(call.args[1], relax.Var) else call.args[1]
        weights = constant_array(bound)
        layouts = (str(call.attrs.data_layout), str(call.attrs.kernel_layout))
        if weights is None or not is_float32(*call.args) or layouts not in (("NCHW", "IOHW"), ("NCW", "IOW")):
            return call
        return self.builder_.normalize(_gathered(call, weights, self.builder_))


def _gathered(call: RelaxCall, weights: Array, builder: BlockBuilder) -> RelaxExpr:
    """Return an expression of the same result; a signal is an image of height 1."""
    attributes, shape, result = call.attrs, static_shape(call.args[0]) or (), static_shape(call) or ()
    image, is_signal = call.args[0], len(shape) == 3
    strides, dilation, padding = (integers(getattr(attributes, name)) for name in ("strides", "dilation", "padding"))
    if is_signal:
        image = builder.emit(relax.op.expand_dims(image, 2))
        weights, strides, dilation, padding = weights[:, :, None], (1, *strides), (1, *dilation), (0, padding[0])
        shape, result = (*shape[:2], 1, shape[2]), (*result[:2], 1, result[2])
    groups = int(attributes.groups)
    kernel = phase_kernel(_spread(weights, dilation), strides, groups=groups)
    taps = kernel.shape[:2]
    # The last pixel of the input that the last output sees; further ones would be cut off.
    last = [(result[2 + axis] - 1 + padding[axis]) // strides[axis] for axis in (0, 1)]
    padding_of_image = [taps[0] - 1, taps[1] - 1, *(max(0, last[axis] + 1 - shape[2 + axis]) for axis in (0, 1))]
    image = builder.emit(relax.op.permute_dims(image, [0, 2, 3, 1]))
    phases = builder.emit(
        relax.op.nn.conv2d(
            image,
            relax.const(kernel),
            padding=padding_of_image,
            groups=groups,
            data_layout="NHWC",
            kernel_layout="HWIO",
        )
    )
    spread = builder.emit(_spread_over_space(phases, strides, groups, builder))
    begin, end = padding[:2], [padding[axis] + result[2 + axis] for axis in (0, 1)]
    if (0, 0, *(static_shape(spread) or ())[1:3]) != (*begin, *end):
        spread = builder.emit(relax.op.strided_slice(spread, [1, 2], list(begin), end))
    turned = relax.op.permute_dims(spread, [0, 3, 1, 2])
    return relax.op.squeeze(builder.emit(turned), [2]) if is_signal else turned


def phase_kernel(weights: Array, strides: tuple[int, ...], *, groups: int) -> Array:
    """Return the kernel of the convolution that computes all phases.

    With o + padding = q * stride + a, output o is the sum over j of input[q - j] * weights[j * stride + a].

    Args:
        weights: [input channels, output channels of a group, height, width] of the transposed convolution.
        strides: down and right.
        groups: of channels.

    Returns:
        [taps down, taps right, input channels of a group, groups * phases down * phases right * output channels].
    """
    channels, per_group, *window = weights.shape
    taps = [-(-extent // stride) for extent, stride in zip(window, strides, strict=True)]
    whole = [tap * stride for tap, stride in zip(taps, strides, strict=True)]
    full = np.zeros((channels, per_group, *whole), np.float32)
    full[:, :, : window[0], : window[1]] = weights
    parts = full.reshape(groups, channels // groups, per_group, taps[0], strides[0], taps[1], strides[1])
    # To [taps, taps, input, group, phase, phase, output]; a convolution reads its taps in the other direction.
    turned = parts.transpose(3, 5, 1, 0, 4, 6, 2)[::-1, ::-1]
    return np.ascontiguousarray(turned.reshape(*taps, channels // groups, -1))


def _spread(weights: Array, dilation: tuple[int, ...]) -> Array:
    """Return weights with zeros between their taps."""
    if dilation == (1, 1):
        return weights
    extents = [(extent - 1) * by + 1 for extent, by in zip(weights.shape[2:], dilation, strict=True)]
    full = np.zeros((*weights.shape[:2], *extents), np.float32)
    full[:, :, :: dilation[0], :: dilation[1]] = weights
    return full


def _spread_over_space(phases: RelaxExpr, strides: tuple[int, ...], groups: int, builder: BlockBuilder) -> RelaxExpr:
    """Return [n, height, width, groups * phases * channels] as [n, height * phases, width * phases, channels]."""
    batch, height, width, channels = static_shape(phases) or (0, 0, 0, 0)
    down, across = strides
    per_group = channels // (groups * down * across)
    if (down, across) == (1, 1):
        return phases
    apart = builder.emit(relax.op.reshape(phases, (batch, height, width, groups, down, across, per_group)))
    turned = builder.emit(relax.op.permute_dims(apart, [0, 1, 4, 2, 5, 3, 6]))
    return relax.op.reshape(turned, (batch, height * down, width * across, groups * per_group))
