"""A quantised image times one quantised number for each channel, as squeeze-and-excitation has it, in int16.

What a product needs of a channel, scales and all, is one int16 factor, made once for an image. Then vectors of int16 do
what floats do in twice as many vectors with a conversion at either end; see `numpy_reference.ChannelScaleParams`.

Vectors run over the channels of neighbouring pixels, which follow each other in memory. The factors are repeated until
they fill whole vectors, here with C = 12 and vectors of 8:

    image    |pixel 0    |pixel 1    |     12 channels each
    factors  |f0 ... f11 |f0 ... f11 |     repeated for 2 pixels
    vectors  [  8   ][  8   ][  8   ]      3 vectors for 2 pixels
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from tvm import te, tirx

from crossfarm.backends.tvm.int8.numpy_reference import ChannelScaleParams, QuantParams, channel_scale_params
from crossfarm.backends.tvm.int8.rounding import Rounding
from crossfarm.backends.tvm.int8.values import Accumulators, QuantisedValue, RewriteContext
from crossfarm.backends.tvm.int8.windows import vector_of_bytes
from crossfarm.backends.tvm.passes.relax_utils import static_shape
from crossfarm.backends.tvm.schedules.primitives import (
    block_names,
    blocks,
    extent,
    function_of,
    fuse,
    schedule_of,
    schedule_spatial,
    total,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.tvm.types import PrimExpr, PrimFunc, RelaxExpr, Tensor, Var

BLOCK, FACTORS = "crossfarm_int8_gated", "crossfarm_int8_gates"
_REPEATED = "crossfarm.pixels"
MAX_REPEATED = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelScaledValue:
    """The product of an image and a number for each of its channels.

    Attributes:
        image: [N, H, W, C].
        scales: [N, 1, 1, C].
        product: the same as accumulators.
    """

    image: QuantisedValue
    scales: QuantisedValue
    product: Accumulators

    def as_float(self, context: RewriteContext) -> RelaxExpr:
        """Emit the real numbers as float32."""
        return self.product.as_float(context)

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Emit the product in int16 where its numbers allow that, else requantise the accumulators."""
        return scale_channels(context, self.image, self.scales, params) or self.product.as_quantised(context, params)


def scale_channels(
    context: RewriteContext, image: QuantisedValue, scales: QuantisedValue, result: QuantParams
) -> QuantisedValue | None:
    """Emit the quantised product; None where it is none over channels, or its numbers are too large.

    Args:
        context: of the rewriter.
        image: [N, H, W, C].
        scales: [N, 1, 1, C].
        result: scale and zero point of the result.
    """
    params = channel_scale_params(image.params, scales.params, result, dtype=context.unit.activation)
    if params is None or not is_channel_scale(image, scales):
        return None
    _, _, width, channels = static_shape(image.tensor) or ()
    rounding = Rounding(
        low=-32767.0, high=32767.0, zero=0, dtype="int16", converts=context.unit.converts, is_bounded=True
    )
    compute = functools.partial(
        _compute,
        params=params,
        dtype=context.unit.activation,
        rounding=rounding,
        pixels=_repeated(width, channels, lanes=4 * context.unit.lanes[0]),
    )
    # The name is part of a symbol of the object file, which must not change.
    return QuantisedValue(tensor=context.call(compute, image.tensor, scales.tensor, name="gate_int8"), params=result)


def is_channel_scale(image: QuantisedValue, scales: QuantisedValue) -> bool:
    """Say whether one tensor has one number for each channel of the other, an image of several pixels."""
    shape, other = static_shape(image.tensor) or (), static_shape(scales.tensor) or ()
    return len(shape) == len(other) == 4 and shape[1] * shape[2] > 1 and other == (shape[0], 1, 1, shape[3])


def _repeated(width: int, channels: int, *, lanes: int) -> int:
    """Return how many pixels of a row have channels that fill vectors, the widest that can be filled."""
    while lanes > 1:
        for pixels in range(1, MAX_REPEATED + 1):
            if width % pixels == 0 and pixels * channels % lanes == 0:
                return pixels
        lanes //= 2
    return 1


def _compute(
    image: Tensor, scales: Tensor, *, params: ChannelScaleParams, dtype: str, rounding: Rounding, pixels: int
) -> Tensor:
    # image: [N, H, W, C] uint8 or int8; scales: [N, 1, 1, C] of the same dtype
    batch, _, _, channels = (int(each) for each in image.shape)
    by = tirx.const(params.factor, "float32")
    exact = params.exact

    def one(n: Var, _pixel: Var, c: Var) -> PrimExpr:
        scale = scales[n, 0, 0, c].astype("int32") - params.zeros[1]
        return rounding.of(scale.astype("float32") * by) if exact is None else scale.astype("int16")

    # factors: [N, repeated pixels, C] int16
    factors = te.compute((batch, pixels, channels), one, name=FACTORS)
    information = np.iinfo(dtype)
    least, most = (tirx.const(int(bound), "int16") for bound in (information.min, information.max))

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        # int16: 9 bits of (image - zero point)
        centred = image[n, y, x, c].astype("int16") - tirx.const(params.zeros[0], "int16")
        if exact is not None:
            rounded = _shifted(centred * factors[n, tirx.floormod(x, pixels), c], exact.shift)
            result = rounded + tirx.const(exact.zero, "int16")
            return tirx.max(tirx.min(result, most), least).astype(dtype)
        # moved up by 7
        wide = tirx.shift_left(centred, tirx.const(7, "int16")).astype("int32")
        # int32, of which the upper half is kept: one instruction of most processors
        product = wide * factors[n, tirx.floormod(x, pixels), c].astype("int32")
        high = tirx.shift_right(product, tirx.const(16, "int32")).astype("int16")
        # int16 with `fraction` bits behind the point: rounded, the zero point added, saturated
        result = tirx.shift_right(high + tirx.const(params.offset, "int16"), tirx.const(params.fraction, "int16"))
        return tirx.max(tirx.min(result, most), least).astype(dtype)

    # result: [N, H, W, C] uint8 or int8
    return te.compute(image.shape, element, name=BLOCK, attrs={_REPEATED: pixels})


def _shifted(product: PrimExpr, shift: int) -> PrimExpr:
    """Return an int16 expression times 2**-shift, rounded with ties to even."""
    if shift == 0:
        return product
    is_odd = tirx.bitwise_and(tirx.shift_right(product, tirx.const(shift, "int16")), tirx.const(1, "int16"))
    below_half = tirx.const((1 << (shift - 1)) - 1, "int16")
    return tirx.shift_right(product + below_half + is_odd, tirx.const(shift, "int16"))


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a product of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Make the factors of an image first, then multiply as many pixels at once as fill vectors.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    block = schedule.get_sblock(BLOCK)
    pixels = int(schedule.get(block).annotations[_REPEATED])
    n, y, x, c = schedule.get_loops(block)
    size = total(schedule, [n, y, x, c])
    x, pixel = schedule.split(x, [None, pixels])
    run = schedule.fuse(pixel, c)
    lanes = min(vector_of_bytes(extent(schedule, run)), 4 * processor.widest)
    run, lane = schedule.split(run, [None, lanes])
    vectorise(schedule, lane)
    # Loops now: n, y, x / pixels, vectors of (pixels, C), lanes.
    # Bytes, of which four take as long as a float.
    if size > 4 * PARALLEL_ELEMENTS:
        schedule.parallel(fuse(schedule, [n, y]))
    for other in blocks(schedule):
        if schedule.get(other).name_hint != BLOCK:
            schedule_spatial(schedule, other, processor)
    return function_of(schedule)
