"""Depthwise convolutions on processors that add four products of bytes at once.

An instruction wants four neighbouring bytes of each channel, but in memory the neighbours of a byte are other channels.
So pixels below each other are stacked first: one 32-bit word for each channel holds up to four of them.

    image, one column           stacked: one int32 word for each channel
      row 0:  a0 b0 c0 ...        channel a: [a0 a1 a2 a3]     <- one lane of the instruction
      row 1:  a1 b1 c1 ...        channel b: [b0 b1 b2 b3]
      row 2:  a2 b2 c2 ...        channel c: [c0 c1 c2 c3]
      row 3:  a3 b3 c3 ...        ...
    accumulator[channel] += dot4(stacked[channel], four weights of a column of the kernel)

All columns of the kernel read the same words, which pays for making them. A kernel of more than four rows has several
groups of four rows. An image of up to four rows is stacked whole: one word holds what all rows of the result need, and
rows of the kernel outside of the image cost nothing.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8.dot_instructions import Dot, IntegerUnit, column_intrinsic
from crossfarm.backends.tvm.int8.epilogue_strips import mark_strip
from crossfarm.backends.tvm.int8.overlapping_vectors import (
    LANES,
    by_channel,
    channel_of_slot,
    slot_channels,
    slot_count,
)
from crossfarm.backends.tvm.int8.register_tiles import DOT, begin, is_worth_threads
from crossfarm.backends.tvm.int8.windows import Window, padded_image
from crossfarm.backends.tvm.passes.relax_utils import static_shape
from crossfarm.backends.tvm.schedules.primitives import (
    attach_epilogue,
    block_names,
    clear_tile,
    extent,
    extents,
    total,
    unroll_all,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.tiles import divisors
from crossfarm.backends.tvm.types import Array, BlockBuilder, PrimExpr, PrimFunc, RelaxCall, RelaxExpr, Tensor, Var

BLOCK = "crossfarm_int8_quads"
STACKED = "crossfarm_int8_stacked_rows"
DEPTH = 4
COLUMNS = 8
"""Pixels that are summed side by side."""
LINE = 64
"""Bytes of a cache line: stacking reads a line once when it takes that many channels."""
OVERLAP = 0.15
"""Share of accumulators that may be computed twice to have wide vectors: they take four fifths of the time of narrow
ones."""
STACKED_BYTES = 24_000
"""Bytes of stacked rows that stay in a first-level cache of 32 KB beside what else is read."""


def dot_for(unit: IntegerUnit, channels: int) -> Dot | None:
    """Return the widest instruction that takes four unsigned bytes and fits the channels; None without one."""

    def fits(dot: Dot) -> bool:
        return channels >= dot.lanes and slot_count(channels, dot.lanes) <= channels * (1 + OVERLAP)

    fours = (dot for dot in unit.dots if dot.depth == DEPTH and dot.left == "uint8")
    return next((dot for dot in fours if fits(dot)), None)


def convolve(
    image: RelaxExpr, weights: Array, *, zero: int, window: Window, builder: BlockBuilder, dot: Dot
) -> RelaxCall:
    """Emit the accumulators of a depthwise convolution, without what the zero point adds to them.

    Args:
        image: quantised integers [N, H, W, C], uint8.
        weights: int8 [kernel height, kernel width, C].
        zero: zero point of the image.
        window: how the kernel slides.
        builder: emits bindings.
        dot: from `dot_for`.

    Returns:
        A call that gives int32 [N, rows, columns, C].
    """
    _, height, width, channels = static_shape(image) or ()
    slots = slot_channels(channels, dot.lanes)
    if height > DEPTH or not any(window.padding[::2]):
        constants = [pack(weights[..., slots])[None]]
    else:
        rows = window.output(height, width)[0]
        # of_image: [rows, H, kernel width, C]; missing: [rows, C], the weights of rows outside of the image
        of_image = np.stack([rows_of_image(weights, window, height=height, row=row) for row in range(rows)])
        missing = weights.astype(np.int32).sum(axis=(0, 1)) - of_image.astype(np.int32).sum(axis=(1, 2))
        constants = [np.stack([pack(each) for each in of_image[..., slots]]), zero * missing]
    return builder.call_te(
        functools.partial(compute, window=window, zero=zero, dot=dot),
        image,
        *(relax.const(each) for each in constants),
        primfunc_name_hint="depthwise_int8",
        primfunc_attrs={"op_pattern": 4},
    )


def pack(weights: Array) -> Array:
    """Return weights [height, width, C] as [groups of four rows, width, C, 4], with rows of zeros below."""
    height, width, channels = weights.shape
    fours = -(-height // DEPTH)
    full = np.pad(weights, ((0, fours * DEPTH - height), (0, 0), (0, 0)))
    return np.ascontiguousarray(full.reshape(fours, DEPTH, width, channels).transpose(0, 2, 3, 1))


def rows_of_image(weights: Array, window: Window, *, height: int, row: int) -> Array:
    """Return the weights [H, kernel width, C] that each row of an image has in one row of the result."""
    result = np.zeros((height, *weights.shape[1:]), weights.dtype)
    for ky, line in enumerate(weights):
        place = row * window.strides[0] + ky * window.dilation[0] - window.padding[0]
        if 0 <= place < height:
            result[place] = line
    return result


def compute(
    image: Tensor, packed: Tensor, missing: Tensor | None = None, *, window: Window, zero: int, dot: Dot
) -> Tensor:
    """Return the accumulators.

    Args:
        image: [N, H, W, C] uint8.
        packed: [1, ...] of `pack` over the rows of the kernel, or [rows of the result, ...] over those of the image.
            Channels stand in the order of slots (overlapping_vectors.py).
        missing: int32 [rows of the result, C]: what the zero point adds outside of the image, in the latter.
        window: how the kernel slides.
        zero: zero point of the image.
        dot: the instruction.

    Returns:
        int32 [N, rows, columns, C].
    """
    batch, height, width, channels = (int(each) for each in image.shape)
    # packed: [1 or rows, groups of four rows, kernel width, slots, 4] int8
    _, fours, kernel_width = (int(each) for each in packed.shape[:3])
    down, across = window.output(height, width)
    # stacked: [N, rows or 1, W + padding, groups of four rows, slots] int32, each four bytes
    stacked = _stacked(image, window, zero=zero, fours=fours, is_whole=missing is not None, lanes=dot.lanes)
    q, kx = te.reduce_axis((0, fours), "q"), te.reduce_axis((0, kernel_width), "kx")

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        row, variant = (0, y) if missing is not None else (y, 0)
        rows = stacked[n, row, x * window.strides[1] + kx * window.dilation[1], q, c]
        products = [
            tirx.bitwise_and(tirx.shift_right(rows, tirx.const(8 * place, "int32")), tirx.const(255, "int32"))
            * packed[variant, q, kx, c, place].astype("int32")
            for place in range(DEPTH)
        ]
        return te.sum(products[0] + products[1] + products[2] + products[3], axis=[q, kx])

    shape = (batch, down, across, channels)
    slots = slot_count(channels, dot.lanes)
    attributes: dict[str, str | int] = {DOT: dot.name}
    if slots != channels:
        attributes[LANES] = dot.lanes
    # accumulators: [N, rows, columns, slots] int32, then [N, rows, columns, C]
    accumulators = te.compute((*shape[:3], slots), element, name=BLOCK, attrs=attributes)
    accumulators = by_channel(accumulators, channels, dot.lanes)
    if missing is None:
        return accumulators
    return te.compute(shape, lambda n, y, x, c: accumulators[n, y, x, c] + missing[y, c], name="crossfarm_int8_sums")


def _stacked(image: Tensor, window: Window, *, zero: int, fours: int, is_whole: bool, lanes: int) -> Tensor:
    """Return int32 [N, rows, W + padding, groups of four rows, slots]: pixels below each other, a byte each.

    Either those that one row of the result reads, or, of an image of few rows, all that there are.
    """
    batch, height, width, channels = (int(each) for each in image.shape)
    kernel_height, stride, dilation = window.kernel[0], window.strides[0], window.dilation[0]
    if is_whole:
        _, left, _, right = window.padding
        window = dataclasses.replace(window, padding=(0, left, 0, right))
        kernel_height, stride, dilation = height, 1, 1
    # source: [N, H + padding, W + padding, C] uint8
    source = padded_image(image, window, fill=tirx.const(zero, image.dtype))
    channels = int(image.shape[3])

    def stack(n: Var, y: Var, x: Var, q: Var, c: Var) -> PrimExpr:
        result = tirx.const(0, "int32")
        for place in range(DEPTH):
            row = y * stride + (q * DEPTH + place) * dilation
            byte = source[n, row, x, channel_of_slot(c, channels, lanes)].astype("int32") * tirx.const(
                1 << (8 * place), "int32"
            )
            # The last group may have fewer rows; the loop over groups is unrolled, so that this is decided at compile
            # time.
            result += tirx.if_then_else(q * DEPTH + place < kernel_height, byte, tirx.const(0, "int32"))
        return result

    down = 1 if is_whole else window.output(height, width)[0]
    return te.compute((batch, down, int(source.shape[2]), fours, slot_count(channels, lanes)), stack, name=STACKED)


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a depthwise convolution of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Stack the rows of a group of channels, then sum several pixels of them side by side.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    product = begin(function, processor, name=BLOCK, keep={STACKED})
    schedule, block, dot, strips = product.schedule, product.block, product.dot, product.strips
    stacked = schedule.get_sblock(STACKED)
    n, y, x, c, q, kx = schedule.get_loops(block)
    elements = total(schedule, [n, y, x, c])
    # Four products at once.
    operations = 2 * elements * extent(schedule, q) * extent(schedule, kx) * DEPTH
    _, stacked_rows, wide, fours, _ = extents(schedule, schedule.get_loops(stacked))
    fitting = STACKED_BYTES // (4 * wide * fours * dot.lanes)
    vectors = max(divisors(extent(schedule, c) // dot.lanes, max(1, min(fitting, LINE // dot.lanes))))
    # x = block of pixels, pixel of the block; c = group of channels, vector of the group, lane of the vector
    x_block, x_inner = schedule.split(x, [None, max(divisors(extent(schedule, x), COLUMNS))])
    group, c_block, lane = schedule.split(c, [None, vectors, dot.lanes])
    # Rows of the image that are stacked once serve all rows of the result.
    order = [n, y, group] if stacked_rows == extent(schedule, y) else [n, group, y]
    schedule.reorder(*order, x_block, c_block, q, kx, x_inner, lane)
    shared = schedule.fuse(*order[:2])
    outer = [shared, order[2], x_block, c_block]
    across = extent(schedule, x_block) * extent(schedule, x_inner)
    if strips is not None and strips.fits(across) and order[1] is y and not product.passes:
        mark_strip(schedule, shared, pixels=across)
    attach_epilogue(schedule, product.epilogue, outer, dot.lanes)
    unroll_all(schedule, [q, kx, x_inner])
    schedule.compute_at(stacked, group if order[2] is group else shared, preserve_unit_loops=True)
    *_, stacked_four, stacked_lanes = schedule.get_loops(stacked)
    schedule.unroll(stacked_four)
    _, stacked_lane = schedule.split(stacked_lanes, [None, dot.lanes])
    vectorise(schedule, stacked_lane)
    if is_worth_threads(dot, operations=operations, results=elements) and extent(schedule, shared) > 1:
        schedule.parallel(shared)
    clear_tile(schedule, block, outer, q)
    schedule.tensorize(lane, column_intrinsic(dot))
    return product.finish(processor)
