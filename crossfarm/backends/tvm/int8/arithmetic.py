"""The exact arithmetic of quantised tensors, as tensor expressions; numpy_reference.py has it in NumPy.

A quantised integer q stands for the real number (q - zero point) * scale. Accumulators are int32. Real numbers become
quantised integers in single precision: multiply, clamp, round ties to even, add the zero point; no two of these
operations can be contracted to a fused multiply-add, so that every processor gives the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tvm import te, tirx

from crossfarm.backends.tvm.int8.numpy_reference import AddParams, QuantParams
from crossfarm.backends.tvm.int8.rounding import Rounding
from crossfarm.backends.tvm.types import PrimExpr, Tensor, Var

INT16_BLOCK = "crossfarm_int8_halves"
"""Name of a block that makes int16 numbers of accumulators."""


def as_float(value: float) -> PrimExpr:
    """Return a float32 constant."""
    return tirx.const(float(value), "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """How accumulators become real numbers, as far as it is the same for all channels.

    Attributes:
        has_bias: a bias is added first.
        factor: what all are multiplied by; None when each channel has its own.
    """

    has_bias: bool
    factor: float | None

    def of(self, accumulators: Tensor, constants: Sequence[Tensor], index: Sequence[Var]) -> PrimExpr:
        """Return the real number of one accumulator.

        Args:
            accumulators: [..., C] int32, or float32 that are integers below 2**24.
            constants: the bias [C], in the dtype of the accumulators, and the factors [C] float32, where they are.
            index: of the accumulator.
        """
        value = accumulators[index] + constants[0][index[-1]] if self.has_bias else accumulators[index]
        factor = constants[-1][index[-1]] if self.factor is None else as_float(self.factor)
        return value.astype("float32") * factor


def requantise(
    accumulators: Tensor, *constants: Tensor, scaling: Scaling, rounding: Rounding, name: str = "crossfarm_requantised"
) -> Tensor:
    """Return the quantised integers of accumulators.

    Args:
        accumulators: see `Scaling.of`.
        constants: likewise.
        scaling: from accumulators to units of the result's scale.
        rounding: from there to the result.
        name: of the block.
    """

    def element(*index: Var) -> PrimExpr:
        return rounding.of(scaling.of(accumulators, constants, index))

    # [..., C] int32 -> [..., C] uint8, int8 or int16
    return te.compute(accumulators.shape, element, name=name)


def scaled_accumulators(accumulators: Tensor, *constants: Tensor, scaling: Scaling, low: float, high: float) -> Tensor:
    """Return the real numbers (float32) of accumulators, clamped; see `requantise`."""

    def element(*index: Var) -> PrimExpr:
        real = scaling.of(accumulators, constants, index)
        if high != float("inf"):
            real = tirx.min(real, as_float(high))
        return real if low == float("-inf") else tirx.max(real, as_float(low))

    # [..., C] int32 -> [..., C] float32
    return te.compute(accumulators.shape, element, name="crossfarm_real")


def quantise(values: Tensor, *, factor: float, rounding: Rounding) -> Tensor:
    """Return the quantised integers of real numbers (float32).

    Args:
        values: the numbers.
        factor: turns the numbers into units of the scale.
        rounding: from there to the result.
    """
    by = as_float(factor)
    return te.compute(values.shape, lambda *index: rounding.of(values[index] * by), name="crossfarm_quantised")


def dequantise(values: Tensor, *, params: QuantParams) -> Tensor:
    """Return the real numbers (float32) of quantised integers."""

    def element(*index: Var) -> PrimExpr:
        return (values[index].astype("int32") - tirx.const(params.zero, "int32")).astype("float32") * as_float(
            params.scale
        )

    return te.compute(values.shape, element, name="crossfarm_dequantised")


def change_type(values: Tensor, *, shift: int, dtype: str) -> Tensor:
    """Return quantised integers in the other 8-bit dtype: `shift` is added."""

    def element(*index: Var) -> PrimExpr:
        return (values[index].astype("int32") + tirx.const(shift, "int32")).astype(dtype)

    return te.compute(values.shape, element, name="crossfarm_retyped")


def add(left: Tensor, right: Tensor, *, params: AddParams, rounding: Rounding) -> Tensor:
    """Return the quantised integers of a sum of two quantised tensors, which may broadcast."""
    scale = as_float(2.0**-params.shift)

    def element(*index: Var) -> PrimExpr:
        total = (
            _at(left, index).astype("int32") * tirx.const(params.factors[0], "int32")
            + _at(right, index).astype("int32") * tirx.const(params.factors[1], "int32")
            + tirx.const(params.constant, "int32")
        )
        return rounding.of(total.astype("float32") * scale)

    # two of uint8 or int8 -> the same dtype, by way of int32
    return te.compute(_broadcast(left, right), element, name="crossfarm_added")


def multiply(left: Tensor, right: Tensor, *, zeros: tuple[int, int]) -> Tensor:
    """Return the products of two quantised tensors less their zero points, which may broadcast.

    They are float32: products of two numbers below 2**8 are exact in it, and are floats next in any case. What
    broadcasts is made a float once, not for every element of the result.
    """
    shape = _broadcast(left, right)
    factors = [_centred(tensor, zero) for tensor, zero in zip((left, right), zeros, strict=True)]

    def element(*index: Var) -> PrimExpr:
        return _at(factors[0], index) * _at(factors[1], index)

    return te.compute(shape, element, name="crossfarm_multiplied")


def _centred(tensor: Tensor, zero: int) -> Tensor:
    def element(*index: Var) -> PrimExpr:
        value = tensor[index].astype("float32")
        return value - as_float(zero) if zero else value

    return te.compute(tensor.shape, element, name="crossfarm_centred")


def _broadcast(left: Tensor, right: Tensor) -> tuple[int, ...]:
    pairs = zip(left.shape, right.shape, strict=True)
    return tuple(max(int(mine), int(other)) for mine, other in pairs)


def _at(tensor: Tensor, index: Sequence[Var]) -> PrimExpr:
    return tensor[tuple(0 if int(extent) == 1 else axis for extent, axis in zip(tensor.shape, index, strict=True))]


def positive(values: Tensor, *, zero: int) -> Tensor:
    """Return quantised integers without those below the zero point, which stand for negative numbers."""
    least = tirx.const(zero, str(values.dtype))
    return te.compute(values.shape, lambda *index: tirx.max(values[index], least), name="crossfarm_positive")
