"""Convolutions, grouped ones too, in NHWC over weights that are packed when the model is compiled.

Weights lie as [block][kernel row][kernel column][input channel][output channel of the block], a block being as many
output channels as a register tile is wide. So the innermost loop reads them one after the other, once per tile
(Zhang, Franchetti and Low, "High Performance Zero-Memory Overhead Direct Convolutions", 2018). The input stays as it
is: no im2col, no memory beside a frame of noughts where the convolution pads.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.cpu.processor import Processor
from crossfarm.backends.cpu.register_tiling import PADDED_INPUT, Axes, schedule_product
from crossfarm.backends.cpu.relax_values import Array, constant_array, is_float32, static_shape
from crossfarm.backends.cpu.schedules import block_names, schedule_of
from crossfarm.backends.cpu.tiles import padded_columns, register_tiles
from crossfarm.backends.cpu.windows import Window, padded, window_1d, window_2d

BLOCK = "crossfarm_convolution"


def rewrite(call: Any, builder: Any, processor: Processor) -> Any | None:
    """Replace a relax.nn.conv2d (NHWC, HWIO) or relax.nn.conv1d (NCW, OIW) of constant weights.

    Returns:
        An expression, or None when the rule does not cover the call.
    """
    weights = constant_array(call.args[1])
    if weights is None or not is_float32(*call.args):
        return None
    attributes = call.attrs
    layouts = (str(attributes.data_layout), str(attributes.kernel_layout), str(attributes.out_layout))
    if layouts == ("NHWC", "HWIO", "NHWC"):
        window = window_2d(attributes, weights.shape[:2])
        groups = int(attributes.groups)
        return _convolve(call.args[0], weights, window=window, groups=groups, builder=builder, processor=processor)
    if layouts == ("NCW", "OIW", "NCW"):
        return _rewrite_1d(call, weights, builder, processor)
    return None


def _rewrite_1d(call: Any, weights: Array, builder: Any, processor: Processor) -> Any | None:
    """A signal is an image of height 1: [n, channels, width] becomes [n, 1, width, channels] and back."""
    batch, channels, width = static_shape(call.args[0]) or ()
    window = window_1d(call.attrs, weights.shape[2])
    if channels == 1 or width == 1:
        image = builder.emit(relax.op.reshape(call.args[0], (batch, 1, width, channels)))
    else:
        image = builder.emit(relax.op.expand_dims(relax.op.permute_dims(call.args[0], [0, 2, 1]), 1))
    kernel = np.ascontiguousarray(weights.transpose(2, 1, 0)[None])
    groups = int(call.attrs.groups)
    made = _convolve(image, kernel, window=window, groups=groups, builder=builder, processor=processor)
    if made is None:
        return None
    _, _, width, channels = static_shape(builder.normalize(made)) or ()
    result = builder.emit(made)
    if channels == 1 or width == 1:
        return builder.normalize(relax.op.reshape(result, (batch, channels, width)))
    return builder.normalize(relax.op.permute_dims(relax.op.squeeze(result, [1]), [0, 2, 1]))


def _convolve(
    image: Any, weights: Array, *, window: Window, groups: int, builder: Any, processor: Processor
) -> Any | None:
    _, height, width, _ = static_shape(image) or ()
    output = window.output(height, width)
    if min(output) < 1:
        return None
    depth, channels = weights.shape[2:]
    per_group = channels // groups
    padded_group = padded_columns(processor, per_group)
    tiles = register_tiles(processor, rows=output[1], columns=padded_group, depth=depth)
    if not tiles:
        return None
    packed = pack(weights, groups=groups, padded_group=padded_group, block=tiles[0].columns)
    return builder.call_te(
        functools.partial(compute, window=window, groups=groups, channels=channels),
        image,
        relax.const(packed),
        primfunc_name_hint="convolution",
        primfunc_attrs={"op_pattern": 4},
    )


def pack(weights: Array, *, groups: int, padded_group: int, block: int) -> Array:
    """Return weights [height, width, depth, channels] as [blocks, height, width, depth, block].

    Args:
        weights: whose channels stand group by group.
        groups: of a grouped convolution, or 1.
        padded_group: channels of a group with noughts behind them, a multiple of `block`.
        block: channels of a block.
    """
    height, width, depth, channels = weights.shape
    per_group = channels // groups
    by_group = weights.reshape(height, width, depth, groups, per_group)
    by_group = np.pad(by_group, ((0, 0),) * 4 + ((0, padded_group - per_group),))
    blocked = by_group.reshape(height, width, depth, groups * padded_group // block, block)
    return np.ascontiguousarray(blocked.transpose(3, 0, 1, 2, 4))


def compute(image: Any, packed: Any, *, window: Window, groups: int, channels: int) -> Any:
    """Return the te.Tensor of a convolution.

    Args:
        image: [n, height, width, channels of the input].
        packed: as `pack` returns it.
        window: how the kernel slides.
        groups: of channels.
        channels: of the output.
    """
    batch, height, width, _ = (int(extent) for extent in image.shape)
    block_count, kernel_height, kernel_width, depth, block = (int(extent) for extent in packed.shape)
    rows, columns = window.output(height, width)
    framed = padded(image, window)
    padded_channels = block_count * block
    padded_group, group = padded_channels // groups, channels // groups
    ky, kx = te.reduce_axis((0, kernel_height), "ky"), te.reduce_axis((0, kernel_width), "kx")
    k = te.reduce_axis((0, depth), "k")

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        source = k if groups == 1 else tirx.floordiv(c, padded_group) * depth + k
        row = y * window.strides[0] + ky * window.dilation[0]
        column = x * window.strides[1] + kx * window.dilation[1]
        weight = packed[tirx.floordiv(c, block), ky, kx, k, tirx.floormod(c, block)]
        return te.sum(framed[n, row, column, source] * weight, axis=[ky, kx, k])

    product = te.compute((batch, rows, columns, padded_channels), element, name=BLOCK)
    if padded_channels == channels:
        return product

    def without_padding(n: Any, y: Any, x: Any, c: Any) -> Any:
        place = c if groups == 1 else tirx.floordiv(c, group) * padded_group + tirx.floormod(c, group)
        return product[n, y, x, place]

    return te.compute((batch, rows, columns, channels), without_padding, name="crossfarm_unpadded")


def matches(function: Any) -> bool:
    """Say whether a PrimFunc is a convolution of this module."""
    return BLOCK in block_names(function)


def schedule(function: Any, processor: Processor) -> Any:
    """Schedule a convolution with what was fused behind it; see register_tiling.schedule_product.

    A convolution of one pixel, stride 1 and no frame is a plain product: all its pixels are one long row.
    """
    names = block_names(function)
    form = schedule_of(function)
    block = form.get(form.get_sblock(BLOCK))
    image, weights = block.reads[0].source.ty.shape, block.reads[1].source.ty.shape
    result = block.writes[0].source.ty.shape
    pointwise = int(weights[1]) == int(weights[2]) == 1 and PADDED_INPUT not in names
    same = all(int(image[axis]) == int(result[axis]) for axis in (1, 2))
    return schedule_product(function, processor, name=BLOCK, axes=Axes(spatial=3, flat=pointwise and same))
