"""Depthwise convolutions in NHWC: each channel by itself, so channels are the vector.

    one vector = L channels of a pixel          strip of rows, part of the channels
      y  +--c0..cL--+--c0..cL--+--c0..cL--+
         |  x = 0   |  x = 1   |  x = 2   |   `pixels` accumulators side by side; all taps of a window, then the next
         +----------+----------+----------+

Rows of the kernel that lie above or below the image are left out, by one test for a whole tile; only columns are padded
with zeros. Images of few rows, as at the end of a network, would multiply zeros a third of the time. The integer kernel
int8/depthwise.py has the same sum and the same schedule.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.passes.relax_utils import constant_array, is_float32, static_shape
from crossfarm.backends.tvm.schedules.choices import Choose, DepthwiseChoice, Layer, as_attributes, depthwise_choice
from crossfarm.backends.tvm.schedules.hoisting import mark_copy, mark_sum, with_hoisted
from crossfarm.backends.tvm.schedules.primitives import (
    attach_epilogue,
    block_name,
    block_names,
    blocks,
    clear_tile,
    float32_zero,
    function_of,
    inline_spatial,
    schedule_of,
    schedule_spatial,
    take_epilogue,
    unroll_all,
    vectorise,
    vectorise_copy,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, PARALLEL_FLOPS, Processor
from crossfarm.backends.tvm.schedules.register_tiling import PADDED_INPUT, PARALLEL_CHUNKS
from crossfarm.backends.tvm.schedules.tiles import divisors
from crossfarm.backends.tvm.schedules.windows import layer_2d, padded_columns
from crossfarm.backends.tvm.types import (
    BlockBuilder,
    BlockRV,
    PrimExpr,
    PrimFunc,
    RelaxCall,
    RelaxExpr,
    Schedule,
    Tensor,
    Var,
)

BLOCK = "crossfarm_depthwise"
ROWS = 8
"""Rows of a strip: the zero padding is made strip by strip, so that it stays near. Two strips that touch both copy
the rows that they share: searches took strips of 7 where rules had taken 1 to 4."""
COLUMNS = 8
"""Pixels that are summed side by side: as many accumulators, beside which a row of the kernel still fits."""
PADDED_BYTES = 128 * 1024
"""Of a strip with its padding: a part of a second-level cache, and little memory for each thread."""
PART_VECTORS = 4
"""Vectors of channels that a part should keep when it is made for the sake of threads: lines are then read whole."""
UNROLLED_KERNEL = 5
"""Kernels of up to that many rows are unrolled whole."""


def rewrite(call: RelaxCall, builder: BlockBuilder, processor: Processor, choose: Choose) -> RelaxExpr | None:
    """Replace a relax.nn.conv2d (NHWC, HWIO) with one input and one output channel per group.

    Returns:
        An expression, or None when the rule does not cover the call.
    """
    weights = constant_array(call.args[1])
    if weights is None or not is_float32(*call.args):
        return None
    attributes = call.attrs
    layouts = (str(attributes.data_layout), str(attributes.kernel_layout), str(attributes.out_layout))
    image = static_shape(call.args[0]) or (0, 0, 0, 0)
    if layouts != ("NHWC", "HWIO", "NHWC") or int(attributes.groups) != image[3] or weights.shape[2:] != (1, image[3]):
        return None
    layer = layer_2d(attributes, "depthwise", image=image, weights=weights.shape)
    if layer.channels == 1 or min(layer.output) < 1:
        return None
    choice = choose(layer, processor)
    if not isinstance(choice, DepthwiseChoice):
        return None
    return builder.call_te(
        functools.partial(compute, layer=layer, choice=choice),
        call.args[0],
        relax.const(np.ascontiguousarray(weights[:, :, 0, :])),
        primfunc_name_hint="depthwise",
        primfunc_attrs={"op_pattern": 4},
    )


def choose(layer: Layer, processor: Processor) -> DepthwiseChoice:
    """Decide how a depthwise convolution is computed.

    It reads each value a few times only, so caches decide: strips of rows keep the padded image near, and threads get
    whole strips.
    """
    lanes = processor.lanes_for(layer.channels)
    choice = strips_and_pixels(layer.output, lanes=lanes, kernel_height=layer.kernel[0])
    return divided(layer, choice if any(layer.padding) else dataclasses.replace(choice, strip=1))


def strips_and_pixels(output: tuple[int, int], *, lanes: int, kernel_height: int) -> DepthwiseChoice:
    """Return a choice of strips and pixels, for one thread and channels as one part.

    Args:
        output: rows and columns of the result.
        lanes: channels of a vector.
        kernel_height: rows of the kernel.
    """
    height, width = output
    return DepthwiseChoice(
        strip=max(divisors(height, ROWS)),
        pixels=max(divisors(width, COLUMNS)),
        lanes=lanes,
        unroll_kernel=kernel_height <= UNROLLED_KERNEL,
        is_shared=False,
    )


def divided(layer: Layer, choice: DepthwiseChoice) -> DepthwiseChoice:
    """Return a choice whose parts and sharing follow from the layer and the rest of the choice."""
    height, width = layer.output
    rows = min(layer.image[1], (choice.strip - 1) * layer.strides[0] + layer.dilation[0] * (layer.kernel[0] - 1) + 1)
    columns = (width - 1) * layer.strides[1] + layer.dilation[1] * (layer.kernel[1] - 1) + 1
    parts, is_shared = parts_and_sharing(
        layer.channels // choice.lanes,
        padded_bytes=4 * rows * columns * layer.channels if any(layer.padding[1::2]) else 0,
        strips=layer.image[0] * height // choice.strip,
        is_large=pays(elements=layer.pixels * layer.channels, operations=layer.flops),
    )
    return dataclasses.replace(choice, parts=parts, is_shared=is_shared)


def pays(*, elements: int, operations: int) -> bool:
    """Say whether a depthwise convolution is worth handing to other threads."""
    return elements > PARALLEL_ELEMENTS or operations > PARALLEL_FLOPS


def parts_and_sharing(vectors: int, *, padded_bytes: int, strips: int, is_large: bool) -> tuple[int, bool]:
    """Return into how many parts of equal size channels are cut, and whether threads share strips and parts.

    Args:
        vectors: of channels.
        padded_bytes: of a strip with its padding over all channels.
        strips: of all images.
        is_large: the layer `pays`.
    """
    parts = _parts(vectors, padded_bytes=padded_bytes, strips=strips if is_large else PARALLEL_CHUNKS)
    return parts, is_large and strips * parts > 1


def _parts(vectors: int, *, padded_bytes: int, strips: int) -> int:
    """Return into how many parts of equal size channels are cut.

    As few as leave the padded part small, and threads enough to share evenly.

    Args:
        vectors: of channels.
        padded_bytes: of a strip with its padding over all channels.
        strips: that threads share beside the parts.
    """
    fitting = [parts for parts in divisors(vectors, vectors) if padded_bytes <= parts * PADDED_BYTES] or [vectors]
    if strips * fitting[0] >= PARALLEL_CHUNKS:
        return fitting[0]
    wide = [parts for parts in fitting if vectors >= parts * PART_VECTORS] or fitting[:1]
    return next((parts for parts in wide if strips * parts >= PARALLEL_CHUNKS), wide[-1])


def window_sum(
    source: Tensor,
    weights: Tensor,
    *,
    shape: tuple[int, int, int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    name: str,
    attributes: Mapping[str, str] | None = None,
) -> Tensor:
    """Return the sums of products over a window, each channel by itself.

    Args:
        source: [N, H, left + W + right, C] float32: padded left and right, but not above and below.
        weights: [kernel height, kernel width, C] float32.
        shape: [N, rows, columns, C] of the result.
        strides: down and right.
        padding: top, left, bottom, right.
        dilation: down and right.
        name: of the block.
        attributes: of the block.
    """
    height = int(source.shape[1])
    kernel_height, kernel_width, _ = (int(extent) for extent in weights.shape)
    ky, kx = te.reduce_axis((0, kernel_height), "ky"), te.reduce_axis((0, kernel_width), "kx")

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        row = y * strides[0] + ky * dilation[0] - padding[0]
        column = x * strides[1] + kx * dilation[1]
        product = source[n, row, column, c] * weights[ky, kx, c]
        if any(padding[::2]):
            product = tirx.if_then_else(tirx.all(row >= 0, row < height), product, float32_zero())
        return te.sum(product, axis=[ky, kx])

    return te.compute(shape, element, name=name, attrs=dict(attributes or {}))


def compute(image: Tensor, weights: Tensor, *, layer: Layer, choice: DepthwiseChoice) -> Tensor:
    """Return a depthwise convolution, float32 [N, rows, columns, C].

    Args:
        image: [N, H, W, C] float32.
        weights: [kernel height, kernel width, C] float32.
        layer: how the kernel slides.
        choice: how it will be scheduled.
    """
    batch, _, _, channels = layer.image
    return window_sum(
        # [N, H, left + W + right, C]
        padded_columns(image, layer),
        weights,
        shape=(batch, *layer.output, channels),
        strides=layer.strides,
        padding=layer.padding,
        dilation=layer.dilation,
        name=BLOCK,
        attributes=as_attributes(layer, choice),
    )


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a depthwise convolution of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Vectorise over channels, sum several pixels side by side, and make the zero padding strip by strip.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    inline_spatial(schedule, keep={PADDED_INPUT, BLOCK})
    block = schedule.get_sblock(BLOCK)
    choice = depthwise_choice(schedule.get(block).annotations)
    padded = [each for each in blocks(schedule) if block_name(schedule, each) == PADDED_INPUT]
    schedule_strips(schedule, block, padded, choice, processor)
    return with_hoisted(function_of(schedule))


def schedule_strips(
    schedule: Schedule, block: BlockRV, padded: Sequence[BlockRV], choice: DepthwiseChoice, processor: Processor
) -> None:
    """Schedule a depthwise sum strip by strip, with its epilogue, and the passes behind it.

    Args:
        schedule: in which `inline_spatial` has been done.
        block: the sum, of loops [n, y, x, channels, kernel's rows, kernel's columns].
        padded: blocks that make of the image what the sum reads; each is made for one strip at a time.
        choice: how.
        processor: what for.
    """
    epilogue, passes = take_epilogue(schedule, block, columns=3)
    n, y, x, channels, ky, kx = schedule.get_loops(block)
    # channels = part, vector of the part, lane; y = strip, row of the strip; x = block of pixels, pixel of the block
    part, c = schedule.split(channels, [choice.parts, None])
    y_strip, y_inner = schedule.split(y, [None, choice.strip])
    x_block, x_inner = schedule.split(x, [None, choice.pixels])
    c_block, lane = schedule.split(c, [None, choice.lanes])
    schedule.reorder(n, part, y_strip, y_inner, x_block, c_block, ky, kx, x_inner, lane)
    strip = schedule.fuse(n, part, y_strip)
    outer = [strip, y_inner, x_block, c_block]
    attach_epilogue(schedule, epilogue, outer, choice.lanes)
    vectorise(schedule, lane)
    unroll_all(schedule, [x_inner, kx])
    if choice.unroll_kernel:
        schedule.unroll(ky)
    mark_sum(schedule, ky)
    for each in padded:
        schedule.compute_at(each, strip, preserve_unit_loops=True)
        *_, column, _ = loops = schedule.get_loops(each)
        mark_copy(schedule, column)
        vectorise_copy(schedule, loops[1:], processor)
    if choice.is_shared:
        schedule.parallel(strip)
    clear_tile(schedule, block, outer, ky)
    for each in passes:
        schedule_spatial(schedule, each, processor)
