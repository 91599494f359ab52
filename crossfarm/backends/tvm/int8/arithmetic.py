"""The exact arithmetic of quantised tensors, as tensor expressions; numpy_reference.py has it in NumPy.

A stored integer q stands for the real number (q - zero) * scale. Sums are 32-bit integers. Real numbers become stored
ones in single precision: multiply, clamp, round halves to even, add the zero point; no two of these operations can be
contracted to a fused multiply-add, so that every processor gives the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from crossfarm.backends.tvm.int8.numpy_reference import Addition, Steps
from crossfarm.backends.tvm.int8.rounding import Storing

HALVES = "crossfarm_int8_halves"
"""Name of a block that makes 16-bit integers of sums."""


def as_float(value: float) -> Any:
    """Return a float32 constant."""
    return tirx.const(float(value), "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """How sums become real numbers, as far as it is the same for all channels.

    Attributes:
        has_bias: a bias is added first.
        factor: what all are multiplied by; None when each channel has its own.
    """

    has_bias: bool
    factor: float | None

    def of(self, sums: Any, constants: Sequence[Any], place: Any) -> Any:
        """Return the real number of one sum.

        Args:
            sums: te.Tensor of int32, or of float32 that are integers below 2**24; the last axis holds the channels.
            constants: te.Tensor [channels] of the bias, in the dtype of the sums, and of the factors, where they are.
            place: of the sum.
        """
        value = sums[place] + constants[0][place[-1]] if self.has_bias else sums[place]
        factor = constants[-1][place[-1]] if self.factor is None else as_float(self.factor)
        return value.astype("float32") * factor


def requantise(
    sums: Any, *constants: Any, scaling: Scaling, storing: Storing, name: str = "crossfarm_requantised"
) -> Any:
    """Return the te.Tensor of stored integers of 32-bit sums.

    Args:
        sums: see `Scaling.of`.
        constants: likewise.
        scaling: from sums to units of the result's scale.
        storing: from there to the result.
        name: of the block.
    """

    def element(*place: Any) -> Any:
        return storing.of(scaling.of(sums, constants, place))

    return te.compute(sums.shape, element, name=name)


def real_sums(sums: Any, *constants: Any, scaling: Scaling, low: float, high: float) -> Any:
    """Return the te.Tensor of the real numbers (float32) of 32-bit sums, clamped; see `requantise`."""

    def element(*place: Any) -> Any:
        real = scaling.of(sums, constants, place)
        if high != float("inf"):
            real = tirx.min(real, as_float(high))
        return real if low == float("-inf") else tirx.max(real, as_float(low))

    return te.compute(sums.shape, element, name="crossfarm_real")


def quantise(values: Any, *, factor: float, storing: Storing) -> Any:
    """Return the te.Tensor of stored integers of real numbers (float32).

    Args:
        values: the numbers.
        factor: turns the numbers into units of the scale.
        storing: from there to the result.
    """
    by = as_float(factor)
    return te.compute(values.shape, lambda *place: storing.of(values[place] * by), name="crossfarm_quantised")


def dequantise(values: Any, *, steps: Steps) -> Any:
    """Return the te.Tensor of the real numbers (float32) of stored integers."""

    def element(*place: Any) -> Any:
        return (values[place].astype("int32") - tirx.const(steps.zero, "int32")).astype("float32") * as_float(
            steps.scale
        )

    return te.compute(values.shape, element, name="crossfarm_dequantised")


def change_type(values: Any, *, shift: int, dtype: str) -> Any:
    """Return the te.Tensor of stored integers in the other 8-bit type: `shift` is added."""

    def element(*place: Any) -> Any:
        return (values[place].astype("int32") + tirx.const(shift, "int32")).astype(dtype)

    return te.compute(values.shape, element, name="crossfarm_retyped")


def add(left: Any, right: Any, *, how: Addition, storing: Storing) -> Any:
    """Return the te.Tensor of stored integers of a sum of two real tensors, which may broadcast."""
    scale = as_float(2.0**-how.shift)

    def element(*place: Any) -> Any:
        total = (
            _at(left, place).astype("int32") * tirx.const(how.factors[0], "int32")
            + _at(right, place).astype("int32") * tirx.const(how.factors[1], "int32")
            + tirx.const(how.constant, "int32")
        )
        return storing.of(total.astype("float32") * scale)

    return te.compute(_broadcast(left, right), element, name="crossfarm_added")


def multiply(left: Any, right: Any, *, zeros: tuple[int, int]) -> Any:
    """Return the te.Tensor of the products of two tensors of stored integers, which may broadcast.

    They are float32: products of two numbers below 2**8 are exact in it, and are floats next in any case. What
    broadcasts is made a float once, not for every element of the result.
    """
    shape = _broadcast(left, right)
    factors = [_centred(tensor, zero) for tensor, zero in zip((left, right), zeros, strict=True)]

    def element(*place: Any) -> Any:
        return _at(factors[0], place) * _at(factors[1], place)

    return te.compute(shape, element, name="crossfarm_multiplied")


def _centred(tensor: Any, zero: int) -> Any:
    def element(*place: Any) -> Any:
        value = tensor[place].astype("float32")
        return value - as_float(zero) if zero else value

    return te.compute(tensor.shape, element, name="crossfarm_centred")


def _broadcast(left: Any, right: Any) -> tuple[int, ...]:
    pairs = zip(left.shape, right.shape, strict=True)
    return tuple(max(int(mine), int(other)) for mine, other in pairs)


def _at(tensor: Any, place: tuple[Any, ...]) -> Any:
    return tensor[tuple(0 if int(extent) == 1 else index for extent, index in zip(tensor.shape, place, strict=True))]


def positive(values: Any, *, zero: int) -> Any:
    """Return the te.Tensor of stored integers without those below the zero point, which stand for negative numbers."""
    least = tirx.const(zero, str(values.dtype))
    return te.compute(values.shape, lambda *place: tirx.max(values[place], least), name="crossfarm_positive")
