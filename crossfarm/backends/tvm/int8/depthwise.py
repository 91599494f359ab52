"""Depthwise convolutions over quantised integers: each channel by itself, so channels are the vector.

The integers are accumulated as float32 numbers, which hold integers below 2**24 exactly, fused or not: a window of up
to MAX_TAPS pixels stays below that. Processors multiply and add floats in one instruction, but need three for integers
of which each has a lane of its own. The image becomes float32 strip by strip, where it gets its padding; the sum and
its schedule are those of schedules/depthwise.py.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8.windows import PADDED, Window
from crossfarm.backends.tvm.schedules.depthwise import (
    parts_and_sharing,
    pays,
    schedule_strips,
    strips_and_pixels,
    window_sum,
)
from crossfarm.backends.tvm.schedules.hoisting import with_hoisted
from crossfarm.backends.tvm.schedules.primitives import (
    block_names,
    extent,
    extents,
    float32_zero,
    function_of,
    inline_spatial,
    schedule_of,
    total,
)
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.types import Array, BlockBuilder, PrimExpr, PrimFunc, RelaxCall, RelaxExpr, Tensor, Var

BLOCK = "crossfarm_int8_depthwise"
MAX_TAPS = 2**24 // (255 * 128)
"""Pixels of a window whose sum is below 2**24 whatever they are."""


def convolve(image: RelaxExpr, weights: Array, *, zero: int, window: Window, builder: BlockBuilder) -> RelaxCall:
    """Emit the accumulators of a depthwise convolution; the zero point is subtracted from the image first.

    Args:
        image: quantised integers [N, H, W, C], in the unit's dtype.
        weights: int8 [kernel height, kernel width, C].
        zero: zero point of the image.
        window: how the kernel slides.
        builder: emits bindings.

    Returns:
        A call that gives float32 [N, rows, columns, C], all of them integers.
    """
    return builder.call_te(
        functools.partial(compute, window=window, zero=zero),
        image,
        relax.const(np.ascontiguousarray(weights.astype(np.float32))),
        primfunc_name_hint="depthwise_int8",
        primfunc_attrs={"op_pattern": 4},
    )


def compute(image: Tensor, weights: Tensor, *, window: Window, zero: int) -> Tensor:
    """Return the accumulators.

    Args:
        image: [N, H, W, C] uint8 or int8.
        weights: [kernel height, kernel width, C] float32.
        window: how the kernel slides.
        zero: zero point of the image.

    Returns:
        float32 [N, rows, columns, C], all of them integers.
    """
    batch, height, width, channels = (int(each) for each in image.shape)
    _, left, _, right = window.padding
    # source: [N, H, left + W + right, C] float32, the zero point subtracted
    source = _padded_columns(image, left=left, right=right, zero=zero)
    return window_sum(
        source,
        weights,
        shape=(batch, *window.output(height, width), channels),
        strides=window.strides,
        padding=window.padding,
        dilation=window.dilation,
        name=BLOCK,
    )


def _padded_columns(image: Tensor, *, left: int, right: int, zero: int) -> Tensor:
    """Return an image minus its zero point, in float32, between columns of zeros."""
    batch, height, width, channels = (int(each) for each in image.shape)

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        value = image[n, y, x - left, c].astype("float32")
        if zero:
            value -= tirx.const(zero, "float32")
        return (
            value
            if not left + right
            else tirx.if_then_else(tirx.all(x >= left, x < width + left), value, float32_zero())
        )

    return te.compute((batch, height, width + left + right, channels), element, name=PADDED)


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a depthwise convolution of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Vectorise over channels and sum several pixels side by side.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep={PADDED, BLOCK})
    block = schedule.get_sblock(BLOCK)
    n, y, x, c, ky, _ = schedule.get_loops(block)
    padded = schedule.get_sblock(PADDED)
    lanes = processor.lanes_for(extent(schedule, c))
    output = (extent(schedule, y), extent(schedule, x))
    choice = strips_and_pixels(output, lanes=lanes, kernel_height=extent(schedule, ky))
    _, rows, columns, channels = extents(schedule, schedule.get_loops(padded))
    strips = output[0] // choice.strip
    operations = 2 * total(schedule, schedule.get_loops(block))
    parts, is_shared = parts_and_sharing(
        channels // lanes,
        padded_bytes=4 * -(-rows // strips) * columns * channels,
        strips=extent(schedule, n) * strips,
        is_large=pays(elements=total(schedule, [n, y, x, c]), operations=operations),
    )
    choice = dataclasses.replace(choice, is_shared=is_shared, parts=parts)
    schedule_strips(schedule, block, [padded], choice, processor)
    return with_hoisted(function_of(schedule))
