"""Depthwise convolutions over stored integers: each channel by itself, so channels are the vector.

The integers are added up as float32 numbers, which hold integers below 2**24 exactly, fused or not: a window of up to
MAX_TAPS pixels stays below that. Processors multiply and add floats in one instruction, but need three for integers of
which each has a lane of its own. The image becomes float32 strip by strip, where it gets its frame.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8.windows import FRAME, Window
from crossfarm.backends.tvm.passes.relax_utils import Array
from crossfarm.backends.tvm.schedules.choices import DepthwiseChoice
from crossfarm.backends.tvm.schedules.depthwise import (
    COLUMNS,
    ROWS,
    UNROLLED_KERNEL,
    parts_and_sharing,
    pays,
    schedule_strips,
)
from crossfarm.backends.tvm.schedules.hoisting import with_hoisted
from crossfarm.backends.tvm.schedules.primitives import (
    block_names,
    extent,
    extents,
    function_of,
    inline_spatial,
    schedule_of,
    total,
)
from crossfarm.backends.tvm.schedules.primitives import zero as nought
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.tiles import divisors

BLOCK = "crossfarm_int8_depthwise"
MAX_TAPS = 2**24 // (255 * 128)
"""Pixels of a window whose sum is below 2**24 whatever they are."""


def convolve(image: Any, weights: Array, *, zero: int, window: Window, builder: Any) -> Any:
    """Emit the sums of a depthwise convolution; the zero point is subtracted from the image first.

    Args:
        image: stored integers [n, height, width, channels].
        weights: stored int8 [kernel height, kernel width, channels].
        zero: zero point of the image.
        window: how the kernel slides.
        builder: relax.BlockBuilder.

    Returns:
        A call that gives float32 [n, rows, columns, channels], all of them integers.
    """
    return builder.call_te(
        functools.partial(compute, window=window, zero=zero),
        image,
        relax.const(np.ascontiguousarray(weights.astype(np.float32))),
        primfunc_name_hint="depthwise_int8",
        primfunc_attrs={"op_pattern": 4},
    )


def compute(image: Any, weights: Any, *, window: Window, zero: int) -> Any:
    """Return the te.Tensor of the sums; image [n, height, width, channels], weights [height, width, channels]."""
    batch, height, width, channels = (int(each) for each in image.shape)
    kernel_height, kernel_width, _ = (int(each) for each in weights.shape)
    top, left, _, right = window.padding
    source = _columns_framed(image, left=left, right=right, zero=zero)
    ky, kx = te.reduce_axis((0, kernel_height), "ky"), te.reduce_axis((0, kernel_width), "kx")

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        row = y * window.strides[0] + ky * window.dilation[0] - top
        column = x * window.strides[1] + kx * window.dilation[1]
        product = source[n, row, column, c] * weights[ky, kx, c]
        if any(window.padding[::2]):
            product = tirx.if_then_else(tirx.all(row >= 0, row < height), product, nought())
        return te.sum(product, axis=[ky, kx])

    return te.compute((batch, *window.output(height, width), channels), element, name=BLOCK)


def _columns_framed(image: Any, *, left: int, right: int, zero: int) -> Any:
    """Return the te.Tensor of an image minus its zero point, in float32, between columns of noughts."""
    batch, height, width, channels = (int(each) for each in image.shape)

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        value = image[n, y, x - left, c].astype("float32")
        if zero:
            value -= tirx.const(zero, "float32")
        return value if not left + right else tirx.if_then_else(tirx.all(x >= left, x < width + left), value, nought())

    return te.compute((batch, height, width + left + right, channels), element, name=FRAME)


def matches(function: Any) -> bool:
    """Say whether a PrimFunc is a depthwise convolution of this module."""
    return BLOCK in block_names(function)


def schedule(function: Any, processor: Processor) -> Any:
    """Vectorise over channels and sum several pixels side by side.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep={FRAME, BLOCK})
    block = schedule.get_sblock(BLOCK)
    n, y, x, c, ky, _ = schedule.get_loops(block)
    frame = schedule.get_sblock(FRAME)
    strip = max(divisors(extent(schedule, y), ROWS))
    lanes = processor.lanes_for(extent(schedule, c))
    _, rows, columns, channels = extents(schedule, schedule.get_loops(frame))
    strips = extent(schedule, y) // strip
    operations = 2 * total(schedule, schedule.get_loops(block))
    parts, is_shared = parts_and_sharing(
        channels // lanes,
        frame_bytes=4 * -(-rows // strips) * columns * channels,
        strips=extent(schedule, n) * strips,
        is_large=pays(elements=total(schedule, [n, y, x, c]), operations=operations),
    )
    choice = DepthwiseChoice(
        strip=strip,
        pixels=max(divisors(extent(schedule, x), COLUMNS)),
        lanes=lanes,
        unroll_kernel=extent(schedule, ky) <= UNROLLED_KERNEL,
        is_shared=is_shared,
        parts=parts,
    )
    schedule_strips(schedule, block, [frame], choice, processor)
    return with_hoisted(function_of(schedule))
