"""The exact arithmetic of quantised tensors in NumPy: what every integer kernel is held against.

A quantised integer q stands for the real number (q - zero point) * scale. Products are accumulated in int32, which is
exact. What becomes a quantised integer again goes through single precision in this order: multiply, clamp, round ties
to even, add the zero point. ONNX's QuantizeLinear divides where this multiplies by the rounded inverse, so that the two
may differ by one step where a number lies at a half; see docs/quantisation.md.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from crossfarm.backends.tvm.types import Array

MAGIC = 12582912.0
"""1.5 * 2**23: between 2**23 and 2**24 floats are the integers, so that adding this rounds."""
MAGIC_BITS = 0x4B400000
"""The bits of MAGIC as a float32."""
FACTOR_BITS = 16
"""Bits of the larger factor of a sum of two tensors: 255 * 2**16 twice stays well below 2**31."""
CHANNEL_SCALE_BITS = 14
"""Bits of a channel's factor behind the point at most: a zero point with the bits that remain of them fits into 16
bits."""
INT16_MAX = 2**15 - 1
"""The largest 16-bit integer."""
HARD_SWISH_STEPS = 512
"""Steps that the bound of a clamped number must have: twice those of a result."""
HARD_SWISH_TRIES = 4
"""Sizes of steps, each 1.4 times the one before, that may be too small."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantParams:
    """Scale and zero point of a tensor.

    Attributes:
        scale: real size of one step, a float32.
        zero: the zero point: the integer that stands for the real number 0.
    """

    scale: float
    zero: int

    @property
    def inverse(self) -> float:
        """1 / scale, rounded to float32."""
        return float(np.float32(1.0 / np.float64(self.scale)))

    def bounds(self, dtype: str, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Return the least and the largest number in units of the scale that can be represented, as float32.

        Args:
            dtype: of the integers.
            low: real bound, -inf for none.
            high: real bound, inf for none.
        """
        info = np.iinfo(dtype)
        floor, ceiling = float(info.min - self.zero), float(info.max - self.zero)
        least = max(floor, min(float(np.float32(low / self.scale)), ceiling))
        return least, min(ceiling, max(float(np.float32(high / self.scale)), least))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AddParams:
    """A sum of two quantised tensors in int32.

    Attributes:
        factors: of the two tensors.
        constant: what is added: the zero points times the factors.
        shift: the sum times 2**-shift is the result in units of its scale.
    """

    factors: tuple[int, int]
    constant: int
    shift: int


def add_params(left: QuantParams, right: QuantParams, result: QuantParams) -> AddParams:
    """Return the integers of a sum: both scales over the result's, rounded to FACTOR_BITS bits."""
    ratios = (left.scale / result.scale, right.scale / result.scale)
    shift = FACTOR_BITS - 1 - math.floor(math.log2(max(ratios)))
    factors = (round(math.ldexp(ratios[0], shift)), round(math.ldexp(ratios[1], shift)))
    return AddParams(factors=factors, constant=-(factors[0] * left.zero + factors[1] * right.zero), shift=shift)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelScaleParams:
    """A quantised tensor times one quantised number for each channel, in int16.

    A channel's number less its zero point, times `factor` and rounded, is an int16 factor. The upper half of its
    product with the tensor less its zero point, times 2**7, is the result with `fraction` bits behind the point.

    Attributes:
        zeros: zero points of the tensor and of the channels' numbers.
        factor: float32.
        fraction: bits, at least 1.
        offset: the zero point of the result and a half, both with `fraction` bits.
        exact: how it is computed without any error instead, where that can be.
    """

    zeros: tuple[int, int]
    factor: float
    fraction: int
    offset: int
    exact: ExactScaleParams | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactScaleParams:
    """The product of two centred integers, which 16 bits hold, times 2**-shift: rounded with ties to even.

    Scales that are powers of two give such a product. There every 2**shift-th one is a tie, so that rounding them in
    one direction would be an error that adds up.

    Attributes:
        shift: 0 to 14.
        zero: of the result.
    """

    shift: int
    zero: int


def _exact_scale_params(ratio: float, most: int, zero: int) -> ExactScaleParams | None:
    """Return the integers of an exact product.

    Args:
        ratio: scales of both factors over that of the result.
        most: the largest product of two centred integers, without its sign.
        zero: of the result.
    """
    mantissa, exponent = math.frexp(ratio)
    shift = 1 - exponent
    # Half a step may be added before the shift, and the zero point behind it.
    if mantissa != 0.5 or not 0 <= shift <= 14 or most + (1 << shift >> 1) + abs(zero) > INT16_MAX:
        return None
    return ExactScaleParams(shift=shift, zero=zero)


def channel_scale_params(
    image: QuantParams, scales: QuantParams, result: QuantParams, *, dtype: str
) -> ChannelScaleParams | None:
    """Return the integers of such a product; None when a factor can be so large that no bits are left behind its point.

    Before the last rounding the result errs by the last of `fraction` bits and by 1/64 of a step at most.
    """
    ratio = np.float64(image.scale) * np.float64(scales.scale) / np.float64(result.scale)
    most = float(ratio) * _reach(scales, dtype)
    bits = min(CHANNEL_SCALE_BITS, math.floor(math.log2((2**15 - 1) / most)))
    # 7 bits in front of the product and 16 that are dropped.
    fraction = bits + 7 - 16
    if fraction < 1:
        return None
    return ChannelScaleParams(
        zeros=(image.zero, scales.zero),
        factor=float(np.float32(ratio * 2.0**bits)),
        fraction=fraction,
        offset=(result.zero << fraction) + (1 << (fraction - 1)),
        exact=_exact_scale_params(float(ratio), _reach(image, dtype) * _reach(scales, dtype), result.zero),
    )


def _reach(params: QuantParams, dtype: str) -> int:
    """Return the largest integer less its zero point, without its sign."""
    info = np.iinfo(dtype)
    return max(int(info.max) - params.zero, params.zero - int(info.min))


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardSwishParams:
    """x * clamp(x + shift, 0, top) * factor, which HardSwish is, in int16.

    Numbers x are integers in units of `step` first, and stay at the bounds of 16 bits: what is below -shift gives 0,
    and what is beyond the largest one saturates the result. The steps are negative, so that both factors of
    the product can be: compilers then know the instruction that returns its upper half. That drops the lower half, a
    shift `fraction` more bits, and both round down: two such steps together err no more than one.

    Attributes:
        step: real size of one step of x, a float32 below 0.
        rise: the shift in steps, without their sign.
        top: likewise.
        lift: bits that the clamped number is moved up, so that at least one remains behind the point.
        fraction: bits behind the point of the upper half of the product.
        offset: the zero point of the result and a half, both with `fraction` bits.
    """

    step: float
    rise: int
    top: int
    lift: int
    fraction: int
    offset: int


def hard_swish_params(
    *, shift: float, top: float, factor: float, result: QuantParams, dtype: str
) -> HardSwishParams | None:
    """Return the integers of such a product; None where 16 bits do not hold them.

    A power of two must remain of all scales: the step follows from factor * step**2 * 2**(16 - lift) =
    scale * 2**-fraction. Before the result is rounded, it errs by half a step of x, of the shift and of the top: by a
    quarter of its own steps at most, since `top` has HARD_SWISH_STEPS of them or more.
    """
    info = np.iinfo(dtype)
    most = (info.max - result.zero) * result.scale
    # The offset has room whether the dtype is signed or not: both give the same numbers.
    room = max(result.zero - int(info.min), 128)
    if not (0 < shift < top < math.inf and 0 < factor < math.inf and most > 0):
        return None
    # No x matters below -shift or beyond the one whose product is `most`; a bit more, so that rounding reaches it.
    reach = max(top, most / (factor * top) * (1 + 2.0**-8))
    finest = math.floor(math.log2(result.scale) - math.log2(factor) - 2 * math.log2(reach / INT16_MAX))
    for exponent in range(finest, finest - HARD_SWISH_TRIES, -1):
        step = float(np.float32(math.sqrt(result.scale / factor * 2.0**-exponent)))
        rise, tops = round(shift / step), round(top / step)
        if rise < 1 or tops < HARD_SWISH_STEPS:
            return None
        lift = max(0, 17 - exponent)
        fraction = exponent - 16 + lift
        half = 1 << (fraction - 1)
        if tops << lift <= INT16_MAX and (room << fraction) + half + (tops << lift >> 1) <= INT16_MAX:
            offset = (result.zero << fraction) + half
            return HardSwishParams(step=-step, rise=rise, top=tops, lift=lift, fraction=fraction, offset=offset)
    return None


def multipliers(accumulators: Array, result: float) -> Array:
    """Return the scales of accumulators [C] over the scale of the result, rounded to float32 once."""
    return (accumulators.astype(np.float64) / np.float64(result)).astype(np.float32)


def round_to_integers(real: Array, *, low: float, high: float, zero: int, dtype: str) -> Array:
    """Return the quantised integers of float32 numbers in units of the scale; NaN becomes the lower bound."""
    clamped = np.minimum(np.fmax(real, np.float32(low)), np.float32(high))
    return (np.rint(clamped).astype(np.int32) + zero).astype(dtype)


def requantise(
    accumulators: Array, bias: Array, multiplier: Array, *, low: float, high: float, zero: int, dtype: str
) -> Array:
    """Return the quantised integers of accumulators [..., C]."""
    real = (accumulators.astype(np.int32) + bias).astype(np.float32) * multiplier
    return round_to_integers(real, low=low, high=high, zero=zero, dtype=dtype)


def quantise(values: Array, *, params: QuantParams, dtype: str) -> Array:
    """Return the quantised integers of real numbers (float32)."""
    low, high = params.bounds(dtype)
    return round_to_integers(values * np.float32(params.inverse), low=low, high=high, zero=params.zero, dtype=dtype)


def dequantise(values: Array, *, params: QuantParams) -> Array:
    """Return the real numbers (float32) of quantised integers."""
    return (values.astype(np.int32) - params.zero).astype(np.float32) * np.float32(params.scale)


def add(left: Array, right: Array, *, params: AddParams, low: float, high: float, zero: int, dtype: str) -> Array:
    """Return the quantised integers of a sum of two quantised tensors."""
    total = left.astype(np.int32) * np.int32(params.factors[0]) + right.astype(np.int32) * np.int32(params.factors[1])
    real = (total + np.int32(params.constant)).astype(np.float32) * np.float32(2.0**-params.shift)
    return round_to_integers(real, low=low, high=high, zero=zero, dtype=dtype)


def scale_channels(image: Array, scales: Array, *, params: ChannelScaleParams, dtype: str) -> Array:
    """Return the quantised integers of an image [N, H, W, C] times a number for each channel, [N, 1, 1, C]."""
    info = np.iinfo(dtype)
    if params.exact is not None:
        centred = (image.astype(np.int32) - params.zeros[0]) * (scales.astype(np.int32) - params.zeros[1])
        rounded = np.rint(np.ldexp(centred.astype(np.float64), -params.exact.shift)).astype(np.int32)
        return np.clip(rounded + params.exact.zero, info.min, info.max).astype(dtype)
    factors = np.rint((scales.astype(np.int32) - params.zeros[1]).astype(np.float32) * np.float32(params.factor))
    product = ((image.astype(np.int32) - params.zeros[0]) * 2**7 * factors.astype(np.int32)) >> 16
    result: Array = np.clip((product + params.offset) >> params.fraction, info.min, info.max).astype(dtype)
    return result


def to_int16(accumulators: Array, bias: Array, multiplier: Array) -> Array:
    """Return accumulators [..., C] as int16, saturated."""
    info = np.iinfo("int16")
    return requantise(accumulators, bias, multiplier, low=float(info.min), high=float(info.max), zero=0, dtype="int16")


def hard_swish(values: Array, *, params: HardSwishParams, dtype: str) -> Array:
    """Return the quantised integers of x * clamp(x + shift, 0, top) * factor; x is of `to_int16`, in units of the
    step."""
    info = np.iinfo(dtype)
    wide = values.astype(np.int32)
    clamped = (np.clip(wide, params.rise - params.top, params.rise) - params.rise) << params.lift
    product = (wide * clamped) >> 16
    result: Array = np.clip((product + params.offset) >> params.fraction, info.min, info.max).astype(dtype)
    return result


def convolve(
    image: Array,
    weights: Array,
    *,
    zero: int,
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Array:
    """Return the int32 accumulators of a convolution, [N, rows, columns, output channels].

    Args:
        image: quantised integers [N, H, W, C].
        weights: integers [kernel height, kernel width, channels of a group, output channels].
        zero: zero point of the image, with which it is also padded.
        strides: down and right.
        padding: top, left, bottom, right.
        dilation: down and right.
        groups: of channels.
    """
    top, left, bottom, right = padding
    wide = np.pad(image.astype(np.int32) - zero, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kernel_height, kernel_width, depth, channels = weights.shape
    rows = (wide.shape[1] - dilation[0] * (kernel_height - 1) - 1) // strides[0] + 1
    columns = (wide.shape[2] - dilation[1] * (kernel_width - 1) - 1) // strides[1] + 1
    accumulators = np.zeros((len(image), rows, columns, channels), np.int32)
    per_group = channels // groups
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            first = (ky * dilation[0], kx * dilation[1])
            window = wide[:, first[0] :: strides[0], first[1] :: strides[1]][:, :rows, :columns]
            for group in range(groups):
                part = slice(group * per_group, (group + 1) * per_group)
                source = window[..., group * depth : (group + 1) * depth]
                accumulators[..., part] += source @ weights[ky, kx, :, part].astype(np.int32)
    return accumulators
