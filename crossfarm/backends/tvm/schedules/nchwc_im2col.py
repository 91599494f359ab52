"""Convolutions that copy their input into another layout first: blocks of channels (NCHWc), or patches (im2col).

    NCHWc   [N, H, W, C]  ->  [N, C / b, H, W, b]              pixels of b channels lie next to each other
    im2col  [N, H, W, C]  ->  [N, rows, columns, kernel height, kernel width * C]
            one row for each pixel of the result; times packed weights [steps, block], it is a matrix product

Both cost a pass over the input, so they are never a rule's choice; a search may find that they pay. Blocks of channels
bring pixels close together: where the depth is a multiple of 1024, pixels of NHWC are whole pages apart and fall into
one set of the cache (Liu et al., "Optimizing CNN Model Inference on CPUs", USENIX ATC 2019, lay out images so).
Patches make one long sum of a window's many short ones (Chellapilla, Puri and Simard, "High Performance Convolutional
Neural Networks for Document Processing", 2006); gathered strip by strip they stay in the cache.

The result is NHWC in either case, so that a layer changes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from tvm import te, tirx

from crossfarm.backends.tvm.schedules.choices import Layer
from crossfarm.backends.tvm.schedules.primitives import float32_zero
from crossfarm.backends.tvm.schedules.register_tiling import PADDED_INPUT, PATCHES
from crossfarm.backends.tvm.schedules.windows import padded
from crossfarm.backends.tvm.types import Array, PrimExpr, Tensor, Var

Element: TypeAlias = Callable[[Var, Var, Var, Var], PrimExpr]
"""From batch, row, column and channel to an element of the result."""


def applies(layer: Layer) -> bool:
    """Say whether a layer may be computed over an input in another layout."""
    return layer.kind == "convolution" and layer.groups == 1 and min(layer.output) >= 1


def for_patches(packed: Array) -> Array:
    """Return weights [blocks, height, width, depth, block] as [blocks, steps, block]."""
    return packed.reshape(packed.shape[0], -1, packed.shape[-1])


def for_blocks(packed: Array, *, depth_block: int) -> Array:
    """Return weights [blocks, height, width, depth, block] as [blocks, depth / b, height, width, b, block].

    Args:
        packed: of a convolution without groups.
        depth_block: b, a divisor of the depth.
    """
    blocks, height, width, depth, block = packed.shape
    split = packed.reshape(blocks, height, width, depth // depth_block, depth_block, block)
    return np.ascontiguousarray(split.transpose(0, 3, 1, 2, 4, 5))


def over_blocks(image: Tensor, packed: Tensor, *, layer: Layer, depth_block: int) -> Element:
    """Return an element of a convolution whose input is copied into padded blocks [N, C / b, H, W, b].

    Of an input of which a window of 1x1 reads only every other pixel, these alone are copied.

    Args:
        image: [N, H, W, C] float32.
        packed: as `for_blocks` returns it.
        layer: to which `applies`.
        depth_block: b.
    """
    batch, height, width, depth = layer.image
    top, left, bottom, right = layer.padding
    block, is_pointwise = int(packed.shape[-1]), layer.kernel == (1, 1)
    down, across = layer.strides if is_pointwise else (1, 1)
    strides = (1, 1) if is_pointwise else layer.strides

    def lay(n: Var, o: Var, y: Var, x: Var, i: Var) -> PrimExpr:
        row, column = y * down, x * across
        value = image[n, row - top, column - left, o * depth_block + i]
        if not any(layer.padding):
            return value
        inside = tirx.all(row >= top, row < height + top, column >= left, column < width + left)
        return tirx.if_then_else(inside, value, float32_zero())

    plane = layer.output if is_pointwise else (height + top + bottom, width + left + right)
    # blocked: [N, C / b, H + padding, W + padding, b]
    blocked = te.compute((batch, depth // depth_block, *plane, depth_block), lay, name=PADDED_INPUT)
    outer, inner = te.reduce_axis((0, depth // depth_block), "ko"), te.reduce_axis((0, depth_block), "k")
    ky, kx = te.reduce_axis((0, layer.kernel[0]), "ky"), te.reduce_axis((0, layer.kernel[1]), "kx")

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        row = y * strides[0] + ky * layer.dilation[0]
        column = x * strides[1] + kx * layer.dilation[1]
        weight = packed[tirx.floordiv(c, block), outer, ky, kx, inner, tirx.floormod(c, block)]
        return te.sum(blocked[n, outer, row, column, inner] * weight, axis=[outer, ky, kx, inner])

    return element


def over_patches(image: Tensor, packed: Tensor, *, layer: Layer) -> Element:
    """Return an element of a convolution over patches [N, rows, columns, runs, run] of its padded input.

    A run is what lies together in the image: a row of the window, or one pixel of it where the window is dilated.

    Args:
        image: [N, H, W, C] float32.
        packed: as `for_patches` returns it.
        layer: to which `applies`.
    """
    # source: [N, H + padding, W + padding, C]
    source = padded(image, layer)
    depth, width, block = layer.depth, layer.kernel[1], int(packed.shape[-1])
    is_dilated = layer.dilation[1] > 1
    run = depth if is_dilated else width * depth

    def gather(n: Var, y: Var, x: Var, g: Var, j: Var) -> PrimExpr:
        ky, kx = (tirx.floordiv(g, width), tirx.floormod(g, width)) if is_dilated else (g, tirx.floordiv(j, depth))
        row = y * layer.strides[0] + ky * layer.dilation[0]
        column = x * layer.strides[1] + kx * layer.dilation[1]
        return source[n, row, column, tirx.floormod(j, depth)]

    shape = (layer.image[0], *layer.output, layer.steps // run, run)
    # patches: [N, rows, columns, runs, run]
    patches = te.compute(shape, gather, name=PATCHES)
    k = te.reduce_axis((0, layer.steps), "k")

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        weight = packed[tirx.floordiv(c, block), k, tirx.floormod(c, block)]
        return te.sum(patches[n, y, x, tirx.floordiv(k, run), tirx.floormod(k, run)] * weight, axis=[k])

    return element
