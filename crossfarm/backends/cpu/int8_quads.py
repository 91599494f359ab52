"""Depthwise convolutions on processors that add four products of bytes at once.

An instruction wants four neighbouring bytes of each channel, but in memory the neighbours of a byte are other channels.
So the rows below each other are put together first: one 32-bit number for each channel holds up to four of them. All
columns of the kernel then read the same numbers, which pays for making them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.cpu.int8_dot import DOTS, Dot, IntegerUnit, column_intrinsic
from crossfarm.backends.cpu.int8_product import schedule_frames
from crossfarm.backends.cpu.int8_windows import FRAME, Window, framed
from crossfarm.backends.cpu.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.cpu.relax_values import Array
from crossfarm.backends.cpu.schedules import (
    attach_epilogue,
    block_names,
    clear_tile,
    extent,
    function_of,
    inline_spatial,
    schedule_of,
    schedule_spatial,
    take_epilogue,
    total,
    unroll_all,
    vectorise,
)
from crossfarm.backends.cpu.tiles import divisors

BLOCK = "crossfarm_int8_quads"
STACKED = "crossfarm_int8_stacked_rows"
DEPTH = 4
COLUMNS = 8
"""Pixels that are summed side by side."""


def dot_for(unit: IntegerUnit, channels: int) -> Dot | None:
    """Return the widest instruction that takes four unsigned bytes and divides the channels; None without one."""
    fitting = (dot for dot in unit.dots if dot.depth == DEPTH and dot.left == "uint8" and channels % dot.lanes == 0)
    return next(fitting, None)


def convolve(image: Any, weights: Array, *, zero: int, window: Window, builder: Any, dot: Dot) -> Any:
    """Emit the sums of a depthwise convolution, without what the zero point adds to them.

    Args:
        image: stored integers [n, height, width, channels].
        weights: stored int8 [kernel height, kernel width, channels].
        zero: zero point of the image.
        window: how the kernel slides.
        builder: relax.BlockBuilder.
        dot: from `dot_for`.

    Returns:
        A call that gives int32 [n, rows, columns, channels].
    """
    return builder.call_te(
        functools.partial(compute, window=window, zero=zero, dot=dot),
        image,
        relax.const(pack(weights)),
        primfunc_name_hint="depthwise_int8",
        primfunc_attrs={"op_pattern": 4},
    )


def pack(weights: Array) -> Array:
    """Return weights [height, width, channels] as [quads of rows, width, channels, 4], with noughts below."""
    height, width, channels = weights.shape
    quads = -(-height // DEPTH)
    full = np.pad(weights, ((0, quads * DEPTH - height), (0, 0), (0, 0)))
    return np.ascontiguousarray(full.reshape(quads, DEPTH, width, channels).transpose(0, 2, 3, 1))


def compute(image: Any, packed: Any, *, window: Window, zero: int, dot: Dot) -> Any:
    """Return the te.Tensor of the sums; image [n, height, width, channels], weights as `pack` returns them."""
    batch, height, width, channels = (int(each) for each in image.shape)
    quads, kernel_width = (int(each) for each in packed.shape[:2])
    source = framed(image, window, fill=tirx.const(zero, image.dtype))
    down, across = window.output(height, width)

    def stack(n: Any, y: Any, x: Any, q: Any, c: Any) -> Any:
        result = tirx.const(0, "int32")
        for place in range(DEPTH):
            row = y * window.strides[0] + (q * DEPTH + place) * window.dilation[0]
            byte = source[n, row, x, c].astype("int32") * tirx.const(1 << (8 * place), "int32")
            # The last quad may be short; the loop over quads is unrolled, so that this is decided at compile time.
            result += tirx.if_then_else(q * DEPTH + place < window.kernel[0], byte, tirx.const(0, "int32"))
        return result

    wide = int(source.shape[2])
    stacked = te.compute((batch, down, wide, quads, channels), stack, name=STACKED)
    q, kx = te.reduce_axis((0, quads), "q"), te.reduce_axis((0, kernel_width), "kx")

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        rows = stacked[n, y, x * window.strides[1] + kx * window.dilation[1], q, c]
        products = [
            tirx.bitwise_and(tirx.shift_right(rows, tirx.const(8 * place, "int32")), tirx.const(255, "int32"))
            * packed[q, kx, c, place].astype("int32")
            for place in range(DEPTH)
        ]
        return te.sum(products[0] + products[1] + products[2] + products[3], axis=[q, kx])

    return te.compute((batch, down, across, channels), element, name=BLOCK, attrs={"crossfarm.dot": dot.name})


def matches(function: Any) -> bool:
    """Say whether a PrimFunc is a depthwise convolution of this module."""
    return BLOCK in block_names(function)


def schedule(function: Any, processor: Processor) -> Any:
    """Stack the rows of one vector of channels, then sum several pixels of them side by side.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep={FRAME, STACKED, BLOCK})
    block = schedule.get_sblock(BLOCK)
    dot = DOTS[str(schedule.get(block).annotations["crossfarm.dot"])]
    epilogue, passes = take_epilogue(schedule, block, columns=3)
    n, y, x, c, q, kx = schedule.get_loops(block)
    elements = total(schedule, [n, y, x, c])
    x_block, x_inner = schedule.split(x, [None, max(divisors(extent(schedule, x), COLUMNS))])
    c_block, lane = schedule.split(c, [None, dot.lanes])
    schedule.reorder(n, y, c_block, x_block, q, kx, x_inner, lane)
    rows = schedule.fuse(n, y)
    outer = [rows, c_block, x_block]
    attach_epilogue(schedule, epilogue, outer, dot.lanes)
    unroll_all(schedule, [q, kx, x_inner])
    stacked = schedule.get_sblock(STACKED)
    schedule.compute_at(stacked, c_block, preserve_unit_loops=True)
    *_, stacked_quad, stacked_lane = schedule.get_loops(stacked)
    schedule.unroll(stacked_quad)
    vectorise(schedule, stacked_lane)
    if elements > PARALLEL_ELEMENTS and extent(schedule, rows) > 1:
        schedule.parallel(rows)
    clear_tile(schedule, block, outer, q)
    schedule.tensorize(lane, column_intrinsic(dot))
    schedule_frames(schedule, processor)
    for each in passes:
        schedule_spatial(schedule, each, processor)
    return function_of(schedule)
