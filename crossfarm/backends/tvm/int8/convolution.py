"""Convolutions, grouped ones too, and dense layers over stored integers, with sums of 32 bits.

As in convolution.py the weights lie packed in blocks as wide as a register tile, but with `depth` neighbouring input
channels innermost, as the processor's instruction takes them. The zero point of the activations is not subtracted: the
image is framed with it, and what it adds to every sum is a constant of the channel that goes into the bias.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8 import activations
from crossfarm.backends.tvm.int8.bias_init import with_initial
from crossfarm.backends.tvm.int8.dot_instructions import DOTS, Dot, IntegerUnit, tensor_intrinsic
from crossfarm.backends.tvm.int8.epilogue_strips import attached, detached, mark, pixels_of_strip
from crossfarm.backends.tvm.int8.few_channels import LINE_AXES, Line, line_of, schedule_lines
from crossfarm.backends.tvm.int8.overlapping_vectors import LANES, by_channel, channels_of, over_places
from crossfarm.backends.tvm.int8.tiles import integer_tile, padded_channels
from crossfarm.backends.tvm.int8.windows import FRAME, Window, vector_of_bytes
from crossfarm.backends.tvm.passes.relax_utils import Array, static_shape
from crossfarm.backends.tvm.schedules.hoisting import mark_copy, with_hoisted
from crossfarm.backends.tvm.schedules.primitives import (
    attach_epilogue,
    block_name,
    block_names,
    blocks,
    clear_tile,
    extent,
    function_of,
    fuse,
    schedule_of,
    schedule_spatial,
    take_epilogue,
    total,
    unroll_all,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, PARALLEL_FLOPS, Processor

BLOCK = "crossfarm_int8_product"
STREAMED_WEIGHTS = 400_000
"""Bytes of weights beyond which they do not stay in a second-level cache of 512 KB beside the input."""
RESULT_OPERATIONS = 10
"""What stands behind a sum takes about as long as that many operations on floats."""
PARALLEL_CHUNKS = 16


def convolve(
    image: Any,
    weights: Array,
    *,
    zero: int,
    window: Window,
    groups: int,
    builder: Any,
    unit: IntegerUnit,
    overlaps: bool = True,
) -> Any:
    """Emit the sums of a convolution, without what the zero point adds to them.

    Args:
        image: stored integers [n, height, width, channels], in the unit's dtype.
        weights: stored int8 [kernel height, kernel width, channels of a group, output channels].
        zero: zero point of the image.
        window: how the kernel slides.
        groups: of channels.
        builder: relax.BlockBuilder.
        unit: what for.
        overlaps: vectors of channels may overlap; what is fused behind the sums then has the shape of the result.

    Returns:
        A call that gives int32 [n, rows, columns, output channels].
    """
    _, height, width, depth = static_shape(image) or ()
    rows = window.output(height, width)[1]
    channels = weights.shape[3] // groups
    overlaps = overlaps and groups == 1 and channels > unit.lanes[-1]
    wide = channels if overlaps else padded_channels(unit, channels)
    steps = math.prod(window.kernel) * -(-weights.shape[2] // unit.dots[0].depth)
    tile = integer_tile(unit, rows=rows, columns=wide, steps=steps, overlaps=overlaps)
    if overlaps:
        weights = weights[..., channels_of(channels, tile.dot.lanes)]
        wide = weights.shape[3]
    line = line_of(window, width=width, depth=depth, dot=tile.dot) if groups == 1 else None
    if line is not None:
        kernel_height, kernel_width, _, columns = weights.shape
        weights = weights.reshape(kernel_height, 1, kernel_width * depth, columns)
    packed = pack(weights, groups=groups, wide=wide, block=tile.columns, dot=tile.dot)
    return builder.call_te(
        functools.partial(
            compute,
            window=window,
            line=line,
            groups=groups,
            channels=groups * channels,
            dot=tile.dot,
            zero=zero,
            rows=tile.rows,
            overlaps=overlaps,
        ),
        image,
        relax.const(packed),
        primfunc_name_hint="convolution_int8",
        primfunc_attrs={"op_pattern": 4},
    )


def multiply(left: Any, weights: Array, *, builder: Any, unit: IntegerUnit) -> Any:
    """Emit the sums of a product with a constant matrix, without what the zero point adds to them.

    Args:
        left: stored integers [rows, depth], in the unit's dtype.
        weights: stored int8 [depth, columns].
        builder: relax.BlockBuilder.
        unit: what for.

    Returns:
        int32 [rows, columns].
    """
    rows, depth = static_shape(left) or ()
    image = builder.emit(relax.op.reshape(left, (1, 1, rows, depth)))
    window = Window(kernel=(1, 1))
    sums = builder.emit(
        convolve(
            image, weights[None, None], zero=0, window=window, groups=1, builder=builder, unit=unit, overlaps=False
        )
    )
    return builder.normalize(relax.op.reshape(sums, (rows, weights.shape[1])))


def pack(weights: Array, *, groups: int, wide: int, block: int, dot: Dot) -> Array:
    """Return weights [height, width, depth, channels] as [blocks, height, width, steps, block, depth of a step].

    Args:
        weights: whose channels stand group by group.
        groups: of a grouped convolution, or 1.
        wide: channels of a group with noughts behind them, a multiple of `block`.
        block: channels of a block.
        dot: how many neighbours an instruction takes, and in which dtype.
    """
    height, width, depth, channels = weights.shape
    per_group, steps = channels // groups, -(-depth // dot.depth)
    by_group = weights.reshape(height, width, depth, groups, per_group)
    by_group = np.pad(by_group, ((0, 0), (0, 0), (0, steps * dot.depth - depth), (0, 0), (0, wide - per_group)))
    blocked = by_group.reshape(height, width, steps, dot.depth, groups * wide // block, block)
    return np.ascontiguousarray(blocked.transpose(4, 0, 1, 2, 5, 3)).astype(dot.right)


def compute(
    image: Any,
    packed: Any,
    *,
    window: Window,
    line: Line | None,
    groups: int,
    channels: int,
    dot: Dot,
    zero: int,
    rows: int,
    overlaps: bool,
) -> Any:
    """Return the te.Tensor of the sums.

    Args:
        image: [n, height, width, channels of the input].
        packed: as `pack` returns it.
        window: how the kernel slides.
        line: of a kernel whose rows are sums over neighbouring numbers.
        groups: of channels.
        channels: of the output.
        dot: the instruction.
        zero: what stands around the image.
        rows: of a register tile.
        overlaps: the weights stand in the order of places.
    """
    batch, height, width, _ = (int(each) for each in image.shape)
    block_count, kernel_height, kernel_width, steps, block, depth = (int(each) for each in packed.shape)
    down, across = window.output(height, width)
    if line is not None:
        lines = line.framed(image, window, zero=zero, dtype=dot.left)
    else:
        framed = _framed(image, window, groups=groups, depth=steps * depth, zero=zero, dtype=dot.left)
    wide = block_count * block
    ky, kx = te.reduce_axis((0, kernel_height), "ky"), te.reduce_axis((0, kernel_width), "kx")
    step, k = te.reduce_axis((0, steps), "step"), te.reduce_axis((0, depth), "k")

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        first = 0 if groups == 1 else tirx.floordiv(c, wide // groups) * (steps * depth)
        row = y * window.strides[0] + ky * window.dilation[0]
        column = x * window.strides[1] + kx * window.dilation[1]
        weight = packed[tirx.floordiv(c, block), ky, kx, step, tirx.floormod(c, block), k]
        if line is None:
            value = framed[n, row, column, first + step * depth + k]
        else:
            value = lines[n, row, line.first + x * line.stride + step * depth + k]
        return te.sum(value.astype("int32") * weight.astype("int32"), axis=[ky, kx, step, k])

    attributes = {"crossfarm.dot": dot.name, "crossfarm.rows": rows}
    if wide != channels and overlaps:
        attributes[LANES] = dot.lanes
    product = te.compute((batch, down, across, wide), element, name=BLOCK, attrs=attributes)
    if wide == channels:
        return product
    if overlaps:
        return by_channel(product, channels, dot.lanes)

    def without_padding(n: Any, y: Any, x: Any, c: Any) -> Any:
        group = channels // groups
        place = c if groups == 1 else tirx.floordiv(c, group) * (wide // groups) + tirx.floormod(c, group)
        return product[n, y, x, place]

    return te.compute((batch, down, across, channels), without_padding, name="crossfarm_unpadded")


def _framed(image: Any, window: Window, *, groups: int, depth: int, zero: int, dtype: str) -> Any:
    """Return the image in its frame of zero points, channels of a group filled up to `depth`, in a wider dtype."""
    batch, height, width, channels = (int(each) for each in image.shape)
    per_group = channels // groups
    top, left, bottom, right = window.padding
    if not any(window.padding) and depth == per_group and dtype == str(image.dtype):
        return image
    fill = tirx.const(zero, dtype)

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        source = c if depth == per_group else tirx.floordiv(c, depth) * per_group + tirx.floormod(c, depth)
        value = image[n, y - top, x - left, source].astype(dtype)
        inside = [y >= top, y < height + top] if top or bottom else []
        inside += [x >= left, x < width + left] if left or right else []
        inside += [tirx.floormod(c, depth) < per_group] if depth != per_group else []
        return tirx.if_then_else(tirx.all(*inside), value, fill) if inside else value

    return te.compute((batch, height + top + bottom, width + left + right, groups * depth), element, name=FRAME)


def matches(function: Any) -> bool:
    """Say whether a PrimFunc is a product of this module."""
    return BLOCK in block_names(function)


def schedule(function: Any, processor: Processor) -> Any:
    """Tile the sums for registers, put the instruction inside, and store what is fused behind it tile by tile.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    function, behind = detached(function, processor, last=activations.HARD_SWISH)
    schedule = over_places(schedule_of(function), sums=BLOCK, keep={FRAME, BLOCK})
    block = schedule.get_sblock(BLOCK)
    body = schedule.get(block)
    dot, rows = DOTS[str(body.annotations["crossfarm.dot"])], int(body.annotations["crossfarm.rows"])
    weights_shape = [int(each) for each in body.reads[1].source.ty.shape]
    vectors = weights_shape[4] // dot.lanes
    epilogue, passes = take_epilogue(schedule, block, columns=3)
    n, y, x, columns, ky, kx, step, k = schedule.get_loops(block)
    is_large = is_worth_threads(
        dot, operations=2 * total(schedule, schedule.get_loops(block)), results=total(schedule, [n, y, x, columns])
    )
    weights = total(schedule, [columns, ky, kx, step, k])

    pixels = pixels_of_strip(behind, across=extent(schedule, x), step=rows)
    x_strip, x_block, row = schedule.split(x, [None, pixels // rows, rows])
    column_block, vector, lane = schedule.split(columns, [None, vectors, dot.lanes])
    outer = [n, y, x_strip, x_block]
    is_streamed = weights > STREAMED_WEIGHTS
    order = [column_block, *outer] if is_streamed else [*outer, column_block]
    # What there is more of is loaded in the outer loop, and has one register.
    tile = [vector, row] if vectors > rows else [row, vector]
    inner = [*tile, lane, k] if dot.intrinsic else [k, *tile, lane]
    schedule.reorder(*order, ky, kx, step, *inner)
    makes_strips = behind is not None and behind.fits(pixels) and not is_streamed and not passes
    if is_large:
        # One thread makes a strip: where there are too few of them, tiles are shared, and what is behind is a pass.
        makes_strips = makes_strips and total(schedule, order[:3]) >= PARALLEL_CHUNKS
        order = _parallelise(schedule, order, most=3 if makes_strips else len(order))
    if makes_strips:
        mark(schedule, order[-3], pixels=pixels)
    attach_epilogue(schedule, epilogue, order, dot.lanes)
    unroll_all(schedule, tile)
    if not dot.intrinsic:
        vectorise(schedule, lane)
    # Only now: a reduction without its start is no longer known as one.
    clear_tile(schedule, block, order, ky)
    if dot.intrinsic:
        schedule.tensorize(lane, tensor_intrinsic(dot))
    schedule_frames(schedule, processor)
    for each in passes:
        schedule_spatial(schedule, each, processor)
    return with_hoisted(attached(with_initial(function_of(schedule), BLOCK), behind))


def is_worth_threads(dot: Dot, *, operations: int, results: int) -> bool:
    """Say whether a layer is large enough to be handed to other threads: a product of n goes n times as fast as one."""
    return operations // dot.depth + RESULT_OPERATIONS * results > PARALLEL_FLOPS


def _parallelise(schedule: Any, order: list[Any], *, most: int) -> list[Any]:
    """Share the outermost of some loops, `most` of them at most, between threads; return what they are then."""
    count = 1
    while count < most and total(schedule, order[:count]) < PARALLEL_CHUNKS:
        count += 1
    if total(schedule, order[:count]) == 1:
        return order
    chunk = fuse(schedule, order[:count])
    schedule.parallel(chunk)
    return [chunk, *order[count:]]


def schedule_frames(schedule: Any, processor: Processor) -> None:
    """Copy images into their frames in vectors of bytes, and share large ones between threads."""
    for block in blocks(schedule):
        if block_name(schedule, block) != FRAME:
            continue
        loops = schedule.get_loops(block)
        size = total(schedule, loops)
        if len(loops) == LINE_AXES:
            schedule_lines(schedule, block)
            continue
        mark_copy(schedule, loops[2])
        lanes = min(vector_of_bytes(extent(schedule, loops[-1])), 4 * processor.widest)
        _, lane = schedule.split(loops[-1], [None, lanes])
        vectorise(schedule, lane)
        if size > PARALLEL_ELEMENTS:
            schedule.parallel(fuse(schedule, schedule.get_loops(block)[:2]))
