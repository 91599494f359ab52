"""The exact arithmetic of quantised tensors in NumPy: what every integer kernel is held against.

A stored integer q stands for the real number (q - zero) * scale. Products are summed in 32 bits, which is exact. What
becomes a stored integer again goes through single precision in this order: multiply, clamp, round halves to even, add
the zero point. ONNX's QuantizeLinear divides where this multiplies by the rounded inverse, so that the two may differ
by one step where a number lies at a half; see docs/quantisation.md.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
MAGIC = 12582912.0
"""1.5 * 2**23: between 2**23 and 2**24 floats are the integers, so that adding this rounds."""
MAGIC_BITS = 0x4B400000
"""The bits of MAGIC as a float32."""
FACTOR_BITS = 16
"""Bits of the larger factor of a sum of two tensors: 255 * 2**16 twice stays well below 2**31."""
GATE_BITS = 14
"""Bits of a gate behind the point at most: a zero point with the bits that remain of them fits into 16 bits."""
HALF_MOST = 2**15 - 1
"""The largest 16-bit integer."""
SWISH_STEPS = 512
"""Steps that the bound of a clamped number must have: twice those of a result."""
SWISH_TRIES = 4
"""Sizes of steps, each 1.4 times the one before, that may be too small."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """Scale and zero point of a tensor.

    Attributes:
        scale: real size of one step, a float32.
        zero: stored integer of the real number 0.
    """

    scale: float
    zero: int

    @property
    def inverse(self) -> float:
        """1 / scale, rounded to float32."""
        return float(np.float32(1.0 / np.float64(self.scale)))

    def bounds(self, dtype: str, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Return the least and the largest number in units of the scale that can be stored, as float32.

        Args:
            dtype: of the stored integers.
            low: real bound, -inf for none.
            high: real bound, inf for none.
        """
        info = np.iinfo(dtype)
        floor, ceiling = float(info.min - self.zero), float(info.max - self.zero)
        least = max(floor, min(float(np.float32(low / self.scale)), ceiling))
        return least, min(ceiling, max(float(np.float32(high / self.scale)), least))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition:
    """A sum of two quantised tensors in 32-bit integers.

    Attributes:
        factors: of the two stored tensors.
        constant: what is added: the zero points times the factors.
        shift: the sum times 2**-shift is the result in units of its scale.
    """

    factors: tuple[int, int]
    constant: int
    shift: int


def addition(left: Steps, right: Steps, result: Steps) -> Addition:
    """Return the integers of a sum: both scales over the result's, rounded to FACTOR_BITS bits."""
    ratios = (left.scale / result.scale, right.scale / result.scale)
    shift = FACTOR_BITS - 1 - math.floor(math.log2(max(ratios)))
    factors = (round(math.ldexp(ratios[0], shift)), round(math.ldexp(ratios[1], shift)))
    return Addition(factors=factors, constant=-(factors[0] * left.zero + factors[1] * right.zero), shift=shift)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gating:
    """A quantised tensor times one quantised number for each channel, in 16-bit integers.

    A gate less its zero point, times `factor` and rounded, is a 16-bit integer. The upper half of its product with the
    tensor less its zero point, times 2**7, is the result with `fraction` bits behind the point.

    Attributes:
        zeros: zero points of the tensor and of the gates.
        factor: float32.
        fraction: bits, at least 1.
        offset: the zero point of the result and a half, both with `fraction` bits.
    """

    zeros: tuple[int, int]
    factor: float
    fraction: int
    offset: int


def gating(image: Steps, gate: Steps, result: Steps, *, dtype: str) -> Gating | None:
    """Return the integers of a product with gates; None when a gate can be so large that no bits are left behind it.

    Before the last rounding the result errs by the last of `fraction` bits and by 1/64 of a step at most.
    """
    info = np.iinfo(dtype)
    ratio = np.float64(image.scale) * np.float64(gate.scale) / np.float64(result.scale)
    most = float(ratio) * max(info.max - gate.zero, gate.zero - info.min)
    bits = min(GATE_BITS, math.floor(math.log2((2**15 - 1) / most)))
    # 7 bits in front of the product and 16 that are dropped.
    fraction = bits + 7 - 16
    if fraction < 1:
        return None
    return Gating(
        zeros=(image.zero, gate.zero),
        factor=float(np.float32(ratio * 2.0**bits)),
        fraction=fraction,
        offset=(result.zero << fraction) + (1 << (fraction - 1)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swishing:
    """x * clamp(x + shift, 0, top) * factor, which HardSwish is, in 16-bit integers.

    Numbers x are integers in units of `step` first, and stay at the bounds of 16 bits: what is below -shift gives 0,
    and what is beyond the largest one gives more than can be stored. The steps are negative, so that both factors of
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


def swishing(*, shift: float, top: float, factor: float, result: Steps, dtype: str) -> Swishing | None:
    """Return the integers of such a product; None where 16 bits do not hold them.

    A power of two must remain of all scales: the step follows from factor * step**2 * 2**(16 - lift) =
    scale * 2**-fraction. Before the result is rounded, it errs by half a step of x, of the shift and of the top: by a
    quarter of its own steps at most, since `top` has SWISH_STEPS of them or more.
    """
    info = np.iinfo(dtype)
    most = (info.max - result.zero) * result.scale
    # The offset has room whether integers are stored with a sign or without one: both give the same numbers.
    room = max(result.zero - int(info.min), 128)
    if not (0 < shift < top < math.inf and 0 < factor < math.inf and most > 0):
        return None
    # No x matters below -shift or beyond the one whose product is `most`; a bit more, so that rounding reaches it.
    reach = max(top, most / (factor * top) * (1 + 2.0**-8))
    finest = math.floor(math.log2(result.scale) - math.log2(factor) - 2 * math.log2(reach / HALF_MOST))
    for exponent in range(finest, finest - SWISH_TRIES, -1):
        step = float(np.float32(math.sqrt(result.scale / factor * 2.0**-exponent)))
        rise, tops = round(shift / step), round(top / step)
        if rise < 1 or tops < SWISH_STEPS:
            return None
        lift = max(0, 17 - exponent)
        fraction = exponent - 16 + lift
        half = 1 << (fraction - 1)
        if tops << lift <= HALF_MOST and (room << fraction) + half + (tops << lift >> 1) <= HALF_MOST:
            offset = (result.zero << fraction) + half
            return Swishing(step=-step, rise=rise, top=tops, lift=lift, fraction=fraction, offset=offset)
    return None


def multipliers(sums: Array, result: float) -> Array:
    """Return scale of the sums over scale of the result, rounded to float32 once."""
    return (sums.astype(np.float64) / np.float64(result)).astype(np.float32)


def stored(real: Array, *, low: float, high: float, zero: int, dtype: str) -> Array:
    """Return the stored integers of float32 numbers in units of the scale; NaN becomes the lower bound."""
    clamped = np.minimum(np.fmax(real, np.float32(low)), np.float32(high))
    return (np.rint(clamped).astype(np.int32) + zero).astype(dtype)


def requantise(sums: Array, bias: Array, multiplier: Array, *, low: float, high: float, zero: int, dtype: str) -> Array:
    """Return the stored integers of 32-bit sums; the last axis holds the channels."""
    real = (sums.astype(np.int32) + bias).astype(np.float32) * multiplier
    return stored(real, low=low, high=high, zero=zero, dtype=dtype)


def quantise(values: Array, *, steps: Steps, dtype: str) -> Array:
    """Return the stored integers of real numbers (float32)."""
    low, high = steps.bounds(dtype)
    return stored(values * np.float32(steps.inverse), low=low, high=high, zero=steps.zero, dtype=dtype)


def dequantise(values: Array, *, steps: Steps) -> Array:
    """Return the real numbers (float32) of stored integers."""
    return (values.astype(np.int32) - steps.zero).astype(np.float32) * np.float32(steps.scale)


def add(left: Array, right: Array, *, how: Addition, low: float, high: float, zero: int, dtype: str) -> Array:
    """Return the stored integers of a sum of two tensors of stored integers."""
    total = left.astype(np.int32) * np.int32(how.factors[0]) + right.astype(np.int32) * np.int32(how.factors[1])
    real = (total + np.int32(how.constant)).astype(np.float32) * np.float32(2.0**-how.shift)
    return stored(real, low=low, high=high, zero=zero, dtype=dtype)


def gate(image: Array, gates: Array, *, how: Gating, dtype: str) -> Array:
    """Return the stored integers of an image [n, height, width, channels] times gates [n, 1, 1, channels]."""
    info = np.iinfo(dtype)
    factors = np.rint((gates.astype(np.int32) - how.zeros[1]).astype(np.float32) * np.float32(how.factor))
    product = ((image.astype(np.int32) - how.zeros[0]) * 2**7 * factors.astype(np.int32)) >> 16
    stored: Array = np.clip((product + how.offset) >> how.fraction, info.min, info.max).astype(dtype)
    return stored


def halves(sums: Array, bias: Array, multiplier: Array) -> Array:
    """Return 32-bit sums as 16-bit integers, which stay at their bounds; the last axis holds the channels."""
    info = np.iinfo("int16")
    return requantise(sums, bias, multiplier, low=float(info.min), high=float(info.max), zero=0, dtype="int16")


def swish(values: Array, *, how: Swishing, dtype: str) -> Array:
    """Return the stored integers of x * clamp(x + shift, 0, top) * factor; x is of `halves`, in units of the step."""
    info = np.iinfo(dtype)
    wide = values.astype(np.int32)
    clamped = (np.clip(wide, how.rise - how.top, how.rise) - how.rise) << how.lift
    product = (wide * clamped) >> 16
    stored: Array = np.clip((product + how.offset) >> how.fraction, info.min, info.max).astype(dtype)
    return stored


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
    """Return the 32-bit sums of a convolution.

    Args:
        image: stored integers [n, height, width, channels].
        weights: stored integers [kernel height, kernel width, channels of a group, output channels].
        zero: zero point of the image, which is also what stands around it.
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
    sums = np.zeros((len(image), rows, columns, channels), np.int32)
    per_group = channels // groups
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            first = (ky * dilation[0], kx * dilation[1])
            window = wide[:, first[0] :: strides[0], first[1] :: strides[1]][:, :rows, :columns]
            for group in range(groups):
                part = slice(group * per_group, (group + 1) * per_group)
                source = window[..., group * depth : (group + 1) * depth]
                sums[..., part] += source @ weights[ky, kx, :, part].astype(np.int32)
    return sums
