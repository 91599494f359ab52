r"""Convolutions, grouped ones too, in NHWC over weights that are packed when the model is compiled.

A block of packed weights is as many output channels as a register tile is wide, so the innermost loop reads them one
after the other, once per tile:

    packed weights   [blocks, kernel height, kernel width, input channels, output channels of a block]
    in memory        block 0: tap (0,0): c0: k0 k1 ... k15 | c1: k0 k1 ... k15 | ...   tap (0,1): ...
                                             \_ vectors _/    one step of the sum after the other

(Zhang, Franchetti and Low, "High Performance Zero-Memory Overhead Direct Convolutions", 2018). By the rules the input
stays as it is: no memory beside zero padding where the convolution pads. A search may also copy it into blocks of
channels or gather its patches; see nchwc_im2col.py.
"""

from __future__ import annotations

import functools

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.passes.relax_utils import constant_array, is_float32, static_shape
from crossfarm.backends.tvm.schedules import nchwc_im2col, winograd
from crossfarm.backends.tvm.schedules.choices import Choice, Choose, Layer, ProductChoice, WinogradChoice, as_attributes
from crossfarm.backends.tvm.schedules.primitives import block_names
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.register_tiling import schedule_product
from crossfarm.backends.tvm.schedules.windows import layer_1d, layer_2d, padded
from crossfarm.backends.tvm.types import Array, BlockBuilder, PrimExpr, PrimFunc, RelaxCall, RelaxExpr, Tensor, Var

BLOCK = "crossfarm_convolution"


def rewrite(call: RelaxCall, builder: BlockBuilder, processor: Processor, choose: Choose) -> RelaxExpr | None:
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
        layer = layer_2d(attributes, "convolution", image=static_shape(call.args[0]) or (), weights=weights.shape)
        return _convolve(call.args[0], weights, layer, builder, choose(layer, processor))
    if layouts == ("NCW", "OIW", "NCW"):
        return _rewrite_1d(call, weights, builder, processor, choose)
    return None


def _rewrite_1d(
    call: RelaxCall, weights: Array, builder: BlockBuilder, processor: Processor, choose: Choose
) -> RelaxExpr | None:
    """A signal is an image of height 1: [n, channels, width] becomes [n, 1, width, channels] and back."""
    batch, channels, width = static_shape(call.args[0]) or ()
    kernel = np.ascontiguousarray(weights.transpose(2, 1, 0)[None])
    layer = layer_1d(call.attrs, image=(batch, 1, width, channels), weights=kernel.shape)
    choice = choose(layer, processor)
    if choice is None or min(layer.output) < 1:
        return None
    if channels == 1 or width == 1:
        image = builder.emit(relax.op.reshape(call.args[0], (batch, 1, width, channels)))
    else:
        image = builder.emit(relax.op.expand_dims(relax.op.permute_dims(call.args[0], [0, 2, 1]), 1))
    result = builder.emit(_convolve(image, kernel, layer, builder, choice))
    if layer.channels == 1 or layer.output[1] == 1:
        return builder.normalize(relax.op.reshape(result, (batch, layer.channels, layer.output[1])))
    return builder.normalize(relax.op.permute_dims(relax.op.squeeze(result, [1]), [0, 2, 1]))


def _convolve(
    image: RelaxExpr, weights: Array, layer: Layer, builder: BlockBuilder, choice: Choice | None
) -> RelaxCall | None:
    if min(layer.output) < 1:
        return None
    if isinstance(choice, WinogradChoice):
        return winograd.convolve(image, weights, layer, builder, choice)
    if not isinstance(choice, ProductChoice):
        return None
    return builder.call_te(
        functools.partial(compute, layer=layer, choice=choice),
        image,
        relax.const(_packed(weights, layer, choice)),
        primfunc_name_hint="convolution",
        primfunc_attrs={"op_pattern": 4},
    )


def _packed(weights: Array, layer: Layer, choice: ProductChoice) -> Array:
    packed = pack(weights, groups=layer.groups, block=choice.columns)
    if choice.gathered_rows:
        return nchwc_im2col.for_patches(packed)
    return nchwc_im2col.for_blocks(packed, depth_block=choice.depth_block) if choice.depth_block else packed


def pack(weights: Array, *, groups: int, block: int) -> Array:
    """Return weights [height, width, depth, channels] as [blocks, height, width, depth, block].

    Behind the channels of each group stand zeros, so that blocks divide it.

    Args:
        weights: whose channels stand group by group.
        groups: of a grouped convolution, or 1.
        block: channels of a block.
    """
    height, width, depth, channels = weights.shape
    per_group = channels // groups
    padded_group = -(-per_group // block) * block
    by_group = weights.reshape(height, width, depth, groups, per_group)
    by_group = np.pad(by_group, ((0, 0),) * 4 + ((0, padded_group - per_group),))
    blocked = by_group.reshape(height, width, depth, groups * padded_group // block, block)
    return np.ascontiguousarray(blocked.transpose(3, 0, 1, 2, 4))


def compute(image: Tensor, packed: Tensor, *, layer: Layer, choice: ProductChoice) -> Tensor:
    """Return a convolution, float32 [N, rows, columns, output channels].

    Args:
        image: [N, H, W, C] float32.
        packed: as `pack` returns it, or in the order that the choice asks for.
        layer: how the kernel slides.
        choice: how it will be scheduled.
    """
    block_count, block = int(packed.shape[0]), int(packed.shape[-1])
    groups, channels, group = layer.groups, layer.channels, layer.per_group
    padded_channels = block_count * block
    padded_group = padded_channels // groups
    shape = (layer.image[0], *layer.output)
    if choice.gathered_rows:
        element = nchwc_im2col.over_patches(image, packed, layer=layer)
    elif choice.depth_block:
        element = nchwc_im2col.over_blocks(image, packed, layer=layer, depth_block=choice.depth_block)
    else:
        element = _over_image(image, packed, layer=layer, padded_group=padded_group)
    # product: [N, rows, columns, padded output channels]
    product = te.compute((*shape, padded_channels), element, name=BLOCK, attrs=as_attributes(layer, choice))
    if padded_channels == channels:
        return product

    def without_padding(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        index = c if groups == 1 else tirx.floordiv(c, group) * padded_group + tirx.floormod(c, group)
        return product[n, y, x, index]

    return te.compute((*shape, channels), without_padding, name="crossfarm_unpadded")


def _over_image(image: Tensor, packed: Tensor, *, layer: Layer, padded_group: int) -> nchwc_im2col.Element:
    # packed: [blocks, kernel height, kernel width, C of a group, block]
    _, kernel_height, kernel_width, depth, block = (int(extent) for extent in packed.shape)
    # source: [N, H + padding, W + padding, C]
    source = padded(image, layer)
    ky, kx = te.reduce_axis((0, kernel_height), "ky"), te.reduce_axis((0, kernel_width), "kx")
    k = te.reduce_axis((0, depth), "k")

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        channel = k if layer.groups == 1 else tirx.floordiv(c, padded_group) * depth + k
        row = y * layer.strides[0] + ky * layer.dilation[0]
        column = x * layer.strides[1] + kx * layer.dilation[1]
        weight = packed[tirx.floordiv(c, block), ky, kx, k, tirx.floormod(c, block)]
        return te.sum(source[n, row, column, channel] * weight, axis=[ky, kx, k])

    return element


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a convolution of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Schedule a convolution with its epilogue; see register_tiling.schedule_product."""
    return schedule_product(function, processor, name=BLOCK, spatial=3)
