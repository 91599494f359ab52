r"""Convolutions, grouped ones too, and dense layers over quantised integers, with int32 accumulators.

As in schedules/convolution.py the weights lie packed in blocks as wide as a register tile, but with `depth`
neighbouring input channels innermost, as the processor's dot-product instruction takes them. One step of the sum, for
vectors of 4 lanes, a depth of 4 and a register tile of 2 vectors:

    packed weights, one block and one step        k: input channels of the step
      lane:   0       1       2       3      |    4       5       6       7
            k0..k3  k0..k3  k0..k3  k0..k3   |  k0..k3  k0..k3  k0..k3  k0..k3
            \_________ vector 0 _________/      \_________ vector 1 _________/

    activations of one pixel:  k0..k3, as one 32-bit word, broadcast to all lanes
    accumulator[lane] += k0 * w0 + k1 * w1 + k2 * w2 + k3 * w3

The zero point of the activations is not subtracted: the image is padded with it, and what it adds to every accumulator
is a constant of the channel that goes into the bias.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.int8.dot_instructions import Dot, IntegerUnit
from crossfarm.backends.tvm.int8.epilogue_strips import mark_strip, pixels_of_strip
from crossfarm.backends.tvm.int8.few_channels import MergedRow, merged_row
from crossfarm.backends.tvm.int8.overlapping_vectors import LANES, by_channel, slot_channels
from crossfarm.backends.tvm.int8.register_tiles import (
    DOT,
    ROWS,
    begin,
    compute_tile,
    inner_loops,
    is_worth_threads,
    tile_loops,
)
from crossfarm.backends.tvm.int8.tiles import integer_tile, padded_channels
from crossfarm.backends.tvm.int8.windows import PADDED, Window
from crossfarm.backends.tvm.passes.relax_utils import static_shape
from crossfarm.backends.tvm.schedules.primitives import attach_epilogue, block_names, extent, fuse, total
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.types import (
    Array,
    BlockBuilder,
    LoopRV,
    PrimExpr,
    PrimFunc,
    RelaxCall,
    RelaxExpr,
    Schedule,
    Tensor,
    Var,
)

BLOCK = "crossfarm_int8_product"
STREAMED_WEIGHTS = 400_000
"""Bytes of weights beyond which they do not stay in a second-level cache of 512 KB beside the input."""
PARALLEL_CHUNKS = 16


def convolve(
    image: RelaxExpr,
    weights: Array,
    *,
    zero: int,
    window: Window,
    groups: int,
    builder: BlockBuilder,
    unit: IntegerUnit,
    overlaps: bool = True,
) -> RelaxCall:
    """Emit the accumulators of a convolution, without what the zero point adds to them.

    Args:
        image: quantised integers [N, H, W, C], in the unit's dtype.
        weights: int8 [kernel height, kernel width, input channels of a group, output channels].
        zero: zero point of the image.
        window: how the kernel slides.
        groups: of channels.
        builder: emits bindings.
        unit: what for.
        overlaps: vectors of channels may overlap; the epilogue then has the shape of the result.

    Returns:
        A call that gives int32 [N, rows, columns, output channels].
    """
    _, height, width, depth = static_shape(image) or ()
    rows = window.output(height, width)[1]
    channels = weights.shape[3] // groups
    overlaps = overlaps and groups == 1 and channels > unit.lanes[-1]
    wide = channels if overlaps else padded_channels(unit, channels)
    steps = math.prod(window.kernel) * -(-weights.shape[2] // unit.dots[0].depth)
    tile = integer_tile(unit, rows=rows, columns=wide, steps=steps, overlaps=overlaps)
    if overlaps:
        weights = weights[..., slot_channels(channels, tile.dot.lanes)]
        wide = weights.shape[3]
    merged = merged_row(window, width=width, depth=depth, dot=tile.dot) if groups == 1 else None
    if merged is not None:
        kernel_height, kernel_width, _, columns = weights.shape
        weights = weights.reshape(kernel_height, 1, kernel_width * depth, columns)
    packed = pack(weights, groups=groups, wide=wide, block=tile.columns, dot=tile.dot)
    return builder.call_te(
        functools.partial(
            compute,
            window=window,
            merged=merged,
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


def multiply(left: RelaxExpr, weights: Array, *, builder: BlockBuilder, unit: IntegerUnit) -> RelaxExpr:
    """Emit the accumulators of a product with a constant matrix, without what the zero point adds to them.

    Args:
        left: quantised integers [rows, depth], in the unit's dtype.
        weights: int8 [depth, columns].
        builder: emits bindings.
        unit: what for.

    Returns:
        int32 [rows, columns].
    """
    rows, depth = static_shape(left) or ()
    image = builder.emit(relax.op.reshape(left, (1, 1, rows, depth)))
    window = Window(kernel=(1, 1))
    accumulators = builder.emit(
        convolve(
            image, weights[None, None], zero=0, window=window, groups=1, builder=builder, unit=unit, overlaps=False
        )
    )
    return builder.normalize(relax.op.reshape(accumulators, (rows, weights.shape[1])))


def pack(weights: Array, *, groups: int, wide: int, block: int, dot: Dot) -> Array:
    """Return weights packed in blocks of output channels; see the module.

    Args:
        weights: int8 [kernel height, kernel width, depth, output channels], which stand group by group.
        groups: of a grouped convolution, or 1.
        wide: channels of a group with zeros behind them, a multiple of `block`.
        block: channels of a block.
        dot: how many neighbours an instruction takes, and in which dtype.

    Returns:
        [blocks, kernel height, kernel width, steps, block, depth of a step], in the dtype of `dot.right`.
    """
    height, width, depth, channels = weights.shape
    per_group, steps = channels // groups, -(-depth // dot.depth)
    by_group = weights.reshape(height, width, depth, groups, per_group)
    # [kernel height, kernel width, steps * depth of a step, groups, channels of a group and zeros]
    by_group = np.pad(by_group, ((0, 0), (0, 0), (0, steps * dot.depth - depth), (0, 0), (0, wide - per_group)))
    # [kernel height, kernel width, steps, depth of a step, blocks, block]
    blocked = by_group.reshape(height, width, steps, dot.depth, groups * wide // block, block)
    return np.ascontiguousarray(blocked.transpose(4, 0, 1, 2, 5, 3)).astype(dot.right)


def compute(
    image: Tensor,
    packed: Tensor,
    *,
    window: Window,
    merged: MergedRow | None,
    groups: int,
    channels: int,
    dot: Dot,
    zero: int,
    rows: int,
    overlaps: bool,
) -> Tensor:
    """Return the accumulators.

    Args:
        image: [N, H, W, C] uint8 or int8.
        packed: as `pack` returns it.
        window: how the kernel slides.
        merged: of a kernel whose rows are sums over neighbouring numbers (few_channels.py).
        groups: of channels.
        channels: of the output.
        dot: the instruction.
        zero: zero point, with which the image is padded.
        rows: of a register tile.
        overlaps: the weights stand in the order of slots (overlapping_vectors.py).

    Returns:
        int32 [N, rows, columns, output channels].
    """
    batch, height, width, _ = (int(each) for each in image.shape)
    # packed: [blocks, kernel height, kernel width, steps, block, depth of a step]
    block_count, kernel_height, kernel_width, steps, block, depth = (int(each) for each in packed.shape)
    down, across = window.output(height, width)
    if merged is not None:
        # [N, H + padding, (W + padding) * C]
        merged_rows = merged.padded(image, window, zero=zero, dtype=dot.left)
    else:
        # [N, H + padding, W + padding, groups * steps * depth of a step]
        padded = _padded(image, window, groups=groups, depth=steps * depth, zero=zero, dtype=dot.left)
    wide = block_count * block
    ky, kx = te.reduce_axis((0, kernel_height), "ky"), te.reduce_axis((0, kernel_width), "kx")
    step, k = te.reduce_axis((0, steps), "step"), te.reduce_axis((0, depth), "k")

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        first = 0 if groups == 1 else tirx.floordiv(c, wide // groups) * (steps * depth)
        row = y * window.strides[0] + ky * window.dilation[0]
        column = x * window.strides[1] + kx * window.dilation[1]
        weight = packed[tirx.floordiv(c, block), ky, kx, step, tirx.floormod(c, block), k]
        if merged is None:
            value = padded[n, row, column, first + step * depth + k]
        else:
            value = merged_rows[n, row, merged.first + x * merged.stride + step * depth + k]
        return te.sum(value.astype("int32") * weight.astype("int32"), axis=[ky, kx, step, k])

    attributes = {DOT: dot.name, ROWS: rows}
    if wide != channels and overlaps:
        attributes[LANES] = dot.lanes
    # product: [N, rows, columns, slots or padded channels] int32
    product = te.compute((batch, down, across, wide), element, name=BLOCK, attrs=attributes)
    if wide == channels:
        return product
    if overlaps:
        return by_channel(product, channels, dot.lanes)
    return _without_padding(product, groups=groups, channels=channels)


def _without_padding(product: Tensor, *, groups: int, channels: int) -> Tensor:
    """Return [N, rows, columns, channels] of a product whose groups have channels of zeros behind them."""
    *outer, wide = (int(extent) for extent in product.shape)
    group = channels // groups

    def without_padding(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        index = c if groups == 1 else tirx.floordiv(c, group) * (wide // groups) + tirx.floormod(c, group)
        return product[n, y, x, index]

    return te.compute((*outer, channels), without_padding, name="crossfarm_unpadded")


def _padded(image: Tensor, window: Window, *, groups: int, depth: int, zero: int, dtype: str) -> Tensor:
    """Return the image padded with its zero point, channels of a group filled up to `depth`, in a wider dtype."""
    batch, height, width, channels = (int(each) for each in image.shape)
    per_group = channels // groups
    top, left, bottom, right = window.padding
    if not any(window.padding) and depth == per_group and dtype == str(image.dtype):
        return image
    fill = tirx.const(zero, dtype)

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        source = c if depth == per_group else tirx.floordiv(c, depth) * per_group + tirx.floormod(c, depth)
        value = image[n, y - top, x - left, source].astype(dtype)
        inside = [y >= top, y < height + top] if top or bottom else []
        inside += [x >= left, x < width + left] if left or right else []
        inside += [tirx.floormod(c, depth) < per_group] if depth != per_group else []
        return tirx.if_then_else(tirx.all(*inside), value, fill) if inside else value

    return te.compute((batch, height + top + bottom, width + left + right, groups * depth), element, name=PADDED)


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a product of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Tile the accumulators for registers, put the instruction inside, and attach the epilogue to the tile.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    product = begin(function, processor, name=BLOCK, keep=())
    schedule, block, dot = product.schedule, product.block, product.dot
    body = schedule.get(block)
    rows = int(body.annotations[ROWS])
    # weights: [blocks, kernel height, kernel width, steps, block, depth of a step]
    weights_shape = [int(each) for each in body.reads[1].source.ty.shape]
    vectors = weights_shape[4] // dot.lanes
    n, y, x, columns, ky, kx, step, k = schedule.get_loops(block)
    is_large = is_worth_threads(
        dot, operations=2 * total(schedule, schedule.get_loops(block)), results=total(schedule, [n, y, x, columns])
    )
    weights = total(schedule, [columns, ky, kx, step, k])

    pixels = pixels_of_strip(product.strips, across=extent(schedule, x), step=rows)
    # x = strip of pixels, register tile of the strip, row of the tile
    x_strip, x_block, row = schedule.split(x, [None, pixels // rows, rows])
    # columns = block of packed weights, vector of the block, lane of the vector
    column_block, vector, lane = schedule.split(columns, [None, vectors, dot.lanes])
    outer = [n, y, x_strip, x_block]
    is_streamed = weights > STREAMED_WEIGHTS
    order = [column_block, *outer] if is_streamed else [*outer, column_block]
    tile = tile_loops(row, vector, rows=rows, vectors=vectors)
    schedule.reorder(*order, ky, kx, step, *inner_loops(tile, lane, k, dot))
    strips = product.strips
    makes_strips = strips is not None and strips.fits(pixels) and not is_streamed and not product.passes
    if is_large:
        # One thread makes a strip: where there are too few of them, tiles are shared, and the epilogue is a pass.
        makes_strips = makes_strips and total(schedule, order[:3]) >= PARALLEL_CHUNKS
        order = _parallelise(schedule, order, most=3 if makes_strips else len(order))
    if makes_strips:
        mark_strip(schedule, order[-3], pixels=pixels)
    attach_epilogue(schedule, product.epilogue, order, dot.lanes)
    compute_tile(schedule, block, tile=tile, lane=lane, dot=dot, outer=order, reduced=ky)
    return product.finish(processor)


def _parallelise(schedule: Schedule, order: list[LoopRV], *, most: int) -> list[LoopRV]:
    """Share the outermost of some loops, `most` of them at most, between threads; return what they are then."""
    count = 1
    while count < most and total(schedule, order[:count]) < PARALLEL_CHUNKS:
        count += 1
    if total(schedule, order[:count]) == 1:
        return order
    chunk = fuse(schedule, order[:count])
    schedule.parallel(chunk)
    return [chunk, *order[count:]]
