"""Depthwise convolutions on processors that add four products of bytes at once.

An instruction wants four neighbouring bytes of each channel, but in memory the neighbours of a byte are other channels.
So the rows below each other are put together first: one 32-bit number for each channel holds up to four of them. All
columns of the kernel then read the same numbers, which pays for making them. An image of up to four rows is stacked
whole: one number holds what all rows of the result need, and rows of the kernel outside of the image cost nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8 import activations
from crossfarm.backends.tvm.int8.bias_init import with_initial
from crossfarm.backends.tvm.int8.convolution import is_worth_threads, schedule_frames
from crossfarm.backends.tvm.int8.dot_instructions import DOTS, Dot, IntegerUnit, column_intrinsic
from crossfarm.backends.tvm.int8.epilogue_strips import attached, detached, mark
from crossfarm.backends.tvm.int8.overlapping_vectors import (
    LANES,
    by_channel,
    channel_of,
    channels_of,
    over_places,
    places_of,
)
from crossfarm.backends.tvm.int8.windows import FRAME, Window, framed
from crossfarm.backends.tvm.passes.relax_utils import Array, static_shape
from crossfarm.backends.tvm.schedules.hoisting import with_hoisted
from crossfarm.backends.tvm.schedules.primitives import (
    attach_epilogue,
    block_names,
    clear_tile,
    extent,
    extents,
    function_of,
    schedule_of,
    schedule_spatial,
    take_epilogue,
    total,
    unroll_all,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.tiles import divisors

BLOCK = "crossfarm_int8_quads"
STACKED = "crossfarm_int8_stacked_rows"
DEPTH = 4
COLUMNS = 8
"""Pixels that are summed side by side."""
LINE = 64
"""Bytes of a cache line: stacking reads a line once when it takes that many channels."""
OVERLAP = 0.15
"""Share of sums that may be computed twice to have wide vectors: they take four fifths of the time of narrow ones."""
STACKED_BYTES = 24_000
"""Bytes of stacked rows that stay in a first-level cache of 32 KB beside what else is read."""


def dot_for(unit: IntegerUnit, channels: int) -> Dot | None:
    """Return the widest instruction that takes four unsigned bytes and fits the channels; None without one."""

    def fits(dot: Dot) -> bool:
        return channels >= dot.lanes and places_of(channels, dot.lanes) <= channels * (1 + OVERLAP)

    quads = (dot for dot in unit.dots if dot.depth == DEPTH and dot.left == "uint8")
    return next((dot for dot in quads if fits(dot)), None)


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
    _, height, width, channels = static_shape(image) or ()
    places = channels_of(channels, dot.lanes)
    if height > DEPTH or not any(window.padding[::2]):
        constants = [pack(weights[..., places])[None]]
    else:
        rows = window.output(height, width)[0]
        of_image = np.stack([rows_of_image(weights, window, height=height, row=row) for row in range(rows)])
        missing = weights.astype(np.int32).sum(axis=(0, 1)) - of_image.astype(np.int32).sum(axis=(1, 2))
        constants = [np.stack([pack(each) for each in of_image[..., places]]), zero * missing]
    return builder.call_te(
        functools.partial(compute, window=window, zero=zero, dot=dot),
        image,
        *(relax.const(each) for each in constants),
        primfunc_name_hint="depthwise_int8",
        primfunc_attrs={"op_pattern": 4},
    )


def pack(weights: Array) -> Array:
    """Return weights [height, width, channels] as [quads of rows, width, channels, 4], with noughts below."""
    height, width, channels = weights.shape
    quads = -(-height // DEPTH)
    full = np.pad(weights, ((0, quads * DEPTH - height), (0, 0), (0, 0)))
    return np.ascontiguousarray(full.reshape(quads, DEPTH, width, channels).transpose(0, 2, 3, 1))


def rows_of_image(weights: Array, window: Window, *, height: int, row: int) -> Array:
    """Return the weights [height, kernel width, channels] that each row of an image has in one row of the result."""
    result = np.zeros((height, *weights.shape[1:]), weights.dtype)
    for ky, line in enumerate(weights):
        place = row * window.strides[0] + ky * window.dilation[0] - window.padding[0]
        if 0 <= place < height:
            result[place] = line
    return result


def compute(image: Any, packed: Any, missing: Any = None, *, window: Window, zero: int, dot: Dot) -> Any:
    """Return the te.Tensor of the sums.

    Args:
        image: [n, height, width, channels].
        packed: [1, ...] of `pack` over the rows of the kernel, or [rows of the result, ...] over those of the image.
            Channels stand in the order of places (int8_overlapping.py).
        missing: int32 [rows of the result, channels]: what the zero point adds outside of the image, in the latter.
        window: how the kernel slides.
        zero: zero point of the image.
        dot: the instruction.
    """
    batch, height, width, channels = (int(each) for each in image.shape)
    _, quads, kernel_width = (int(each) for each in packed.shape[:3])
    down, across = window.output(height, width)
    stacked = _stacked(image, window, zero=zero, quads=quads, is_whole=missing is not None, lanes=dot.lanes)
    q, kx = te.reduce_axis((0, quads), "q"), te.reduce_axis((0, kernel_width), "kx")

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        row, variant = (0, y) if missing is not None else (y, 0)
        rows = stacked[n, row, x * window.strides[1] + kx * window.dilation[1], q, c]
        products = [
            tirx.bitwise_and(tirx.shift_right(rows, tirx.const(8 * place, "int32")), tirx.const(255, "int32"))
            * packed[variant, q, kx, c, place].astype("int32")
            for place in range(DEPTH)
        ]
        return te.sum(products[0] + products[1] + products[2] + products[3], axis=[q, kx])

    shape = (batch, down, across, channels)
    places = places_of(channels, dot.lanes)
    attributes: dict[str, Any] = {"crossfarm.dot": dot.name}
    if places != channels:
        attributes[LANES] = dot.lanes
    sums = te.compute((*shape[:3], places), element, name=BLOCK, attrs=attributes)
    sums = by_channel(sums, channels, dot.lanes)
    if missing is None:
        return sums
    return te.compute(shape, lambda n, y, x, c: sums[n, y, x, c] + missing[y, c], name="crossfarm_int8_sums")


def _stacked(image: Any, window: Window, *, zero: int, quads: int, is_whole: bool, lanes: int) -> Any:
    """Return the te.Tensor [n, rows, columns in the frame, quads, places] of rows below each other.

    Either those that one row of the result reads, or, of an image of few rows, all that there are.
    """
    batch, height, width, channels = (int(each) for each in image.shape)
    kernel_height, stride, dilation = window.kernel[0], window.strides[0], window.dilation[0]
    if is_whole:
        _, left, _, right = window.padding
        window = dataclasses.replace(window, padding=(0, left, 0, right))
        kernel_height, stride, dilation = height, 1, 1
    source = framed(image, window, fill=tirx.const(zero, image.dtype))
    channels = int(image.shape[3])

    def stack(n: Any, y: Any, x: Any, q: Any, c: Any) -> Any:
        result = tirx.const(0, "int32")
        for place in range(DEPTH):
            row = y * stride + (q * DEPTH + place) * dilation
            byte = source[n, row, x, channel_of(c, channels, lanes)].astype("int32") * tirx.const(
                1 << (8 * place), "int32"
            )
            # The last quad may be short; the loop over quads is unrolled, so that this is decided at compile time.
            result += tirx.if_then_else(q * DEPTH + place < kernel_height, byte, tirx.const(0, "int32"))
        return result

    down = 1 if is_whole else window.output(height, width)[0]
    return te.compute((batch, down, int(source.shape[2]), quads, places_of(channels, lanes)), stack, name=STACKED)


def matches(function: Any) -> bool:
    """Say whether a PrimFunc is a depthwise convolution of this module."""
    return BLOCK in block_names(function)


def schedule(function: Any, processor: Processor) -> Any:
    """Stack the rows of a group of channels, then sum several pixels of them side by side.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    function, behind = detached(function, processor, last=activations.HARD_SWISH)
    schedule = over_places(schedule_of(function), sums=BLOCK, keep={FRAME, STACKED, BLOCK})
    block, stacked = schedule.get_sblock(BLOCK), schedule.get_sblock(STACKED)
    dot = DOTS[str(schedule.get(block).annotations["crossfarm.dot"])]
    epilogue, passes = take_epilogue(schedule, block, columns=3)
    n, y, x, c, q, kx = schedule.get_loops(block)
    elements = total(schedule, [n, y, x, c])
    # Four products at once.
    operations = 2 * elements * extent(schedule, q) * extent(schedule, kx) * DEPTH
    _, stacked_rows, wide, quads, _ = extents(schedule, schedule.get_loops(stacked))
    fitting = STACKED_BYTES // (4 * wide * quads * dot.lanes)
    vectors = max(divisors(extent(schedule, c) // dot.lanes, max(1, min(fitting, LINE // dot.lanes))))
    x_block, x_inner = schedule.split(x, [None, max(divisors(extent(schedule, x), COLUMNS))])
    group, c_block, lane = schedule.split(c, [None, vectors, dot.lanes])
    # Rows of the image that are stacked once serve all rows of the result.
    order = [n, y, group] if stacked_rows == extent(schedule, y) else [n, group, y]
    schedule.reorder(*order, x_block, c_block, q, kx, x_inner, lane)
    shared = schedule.fuse(*order[:2])
    outer = [shared, order[2], x_block, c_block]
    across = extent(schedule, x_block) * extent(schedule, x_inner)
    if behind is not None and behind.fits(across) and order[1] is y and not passes:
        mark(schedule, shared, pixels=across)
    attach_epilogue(schedule, epilogue, outer, dot.lanes)
    unroll_all(schedule, [q, kx, x_inner])
    schedule.compute_at(stacked, group if order[2] is group else shared, preserve_unit_loops=True)
    *_, stacked_quad, stacked_lanes = schedule.get_loops(stacked)
    schedule.unroll(stacked_quad)
    _, stacked_lane = schedule.split(stacked_lanes, [None, dot.lanes])
    vectorise(schedule, stacked_lane)
    if is_worth_threads(dot, operations=operations, results=elements) and extent(schedule, shared) > 1:
        schedule.parallel(shared)
    clear_tile(schedule, block, outer, q)
    schedule.tensorize(lane, column_intrinsic(dot))
    schedule_frames(schedule, processor)
    for each in passes:
        schedule_spatial(schedule, each, processor)
    return with_hoisted(attached(with_initial(function_of(schedule), BLOCK), behind))
