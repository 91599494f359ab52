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

from crossfarm.backends.cpu.int8_windows import FRAME, Window, framed
from crossfarm.backends.cpu.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.cpu.relax_values import Array
from crossfarm.backends.cpu.schedules import (
    block_names,
    extent,
    function_of,
    inline_spatial,
    schedule_of,
    schedule_spatial,
    take_epilogue,
    total,
    unroll_all,
    vectorise,
    vectorise_copy,
)
from crossfarm.backends.cpu.tiles import divisors

BLOCK = "crossfarm_int8_depthwise"
COLUMNS = 8
"""Pixels that are summed side by side."""
ROWS = 4
"""Rows of a strip: what is made of the image for one stays in the first-level cache."""
MAX_TAPS = 2**24 // (255 * 128)
"""Pixels of a window whose sum is below 2**24 whatever they are."""
UNROLLED_KERNEL = 5
"""Kernels of up to that many rows are unrolled whole."""


def convolve(image: Any, weights: Array, *, zero: int, window: Window, builder: Any) -> Any:
    """Emit the sums of a depthwise convolution, without what the zero point adds to them.

    Args:
        image: stored integers [n, height, width, channels].
        weights: stored int8 [kernel height, kernel width, channels].
        zero: zero point of the image.
        window: how the kernel slides.
        builder: relax.BlockBuilder.

    Returns:
        A call that gives int32 [n, rows, columns, channels].
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
    source = framed(image, window, fill=tirx.const(zero, "float32"), dtype="float32")
    ky, kx = te.reduce_axis((0, kernel_height), "ky"), te.reduce_axis((0, kernel_width), "kx")

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        row = y * window.strides[0] + ky * window.dilation[0]
        column = x * window.strides[1] + kx * window.dilation[1]
        return te.sum(source[n, row, column, c] * weights[ky, kx, c], axis=[ky, kx])

    shape = (batch, *window.output(height, width), channels)
    sums = te.compute(shape, element, name=BLOCK)
    return te.compute(shape, lambda *place: sums[place].astype("int32"), name="crossfarm_int8_sums")


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
    epilogue, passes = take_epilogue(schedule, block, columns=3)
    n, y, x, c, ky, kx = schedule.get_loops(block)
    elements = total(schedule, [n, y, x, c])
    lanes = processor.lanes_for(extent(schedule, c))
    strip, y_inner = schedule.split(y, [None, max(divisors(extent(schedule, y), ROWS))])
    x_block, x_inner = schedule.split(x, [None, max(divisors(extent(schedule, x), COLUMNS))])
    c_block, lane = schedule.split(c, [None, lanes])
    schedule.reorder(n, strip, y_inner, x_block, c_block, ky, kx, x_inner, lane)
    strip = schedule.fuse(n, strip)
    # Loops of one trip stay, so that there is a last one whatever the shape.
    schedule.reverse_compute_at(epilogue, c_block, preserve_unit_loops=True)
    epilogue_loops = schedule.get_loops(epilogue)[4:]
    vector, epilogue_lane = schedule.split(epilogue_loops[-1], [None, lanes])
    vectorise(schedule, epilogue_lane)
    unroll_all(schedule, [*epilogue_loops[:-1], vector])
    vectorise(schedule, lane)
    unroll_all(schedule, [x_inner, kx])
    if extent(schedule, ky) <= UNROLLED_KERNEL:
        schedule.unroll(ky)
    frame = schedule.get_sblock(FRAME)
    schedule.compute_at(frame, strip, preserve_unit_loops=True)
    vectorise_copy(schedule, schedule.get_loops(frame)[1:], processor)
    if elements > PARALLEL_ELEMENTS and extent(schedule, strip) > 1:
        schedule.parallel(strip)
    start_loops = schedule.get_loops(schedule.decompose_reduction(block, ky))[4:]
    vectorise(schedule, start_loops[-1])
    unroll_all(schedule, start_loops[:-1])
    for each in passes:
        schedule_spatial(schedule, each, processor)
    return function_of(schedule)
