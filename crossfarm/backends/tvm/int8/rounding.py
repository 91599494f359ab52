"""How real numbers become quantised integers, as tensor expressions: clamp, round ties to even, add the zero point.

There are two ways with one result. One needs nothing but additions of floats. The other is for processors that convert
floats to the nearest integers in one instruction and narrow vectors of integers with saturation: there the bounds of
the result's dtype cost nothing, and other bounds are applied to bytes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from tvm import tirx

from crossfarm.backends.tvm.int8.numpy_reference import MAGIC, MAGIC_BITS
from crossfarm.backends.tvm.types import PrimExpr

CONVERTIBLE = 2.0**30
"""Numbers up to that are converted to 32-bit integers without any doubt, and with a zero point added."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounding:
    """How a number in units of the scale becomes an integer.

    Attributes:
        low: bound of the number, such that low + zero is the dtype's least integer or more.
        high: bound, likewise.
        zero: zero point.
        dtype: int8, uint8 or int16.
        converts: the processor rounds and narrows in one instruction each.
        is_bounded: no number is beyond CONVERTIBLE, clamped or not.
    """

    low: float
    high: float
    zero: int
    dtype: str
    converts: bool = False
    is_bounded: bool = False

    def of(self, real: PrimExpr) -> PrimExpr:
        """Return the integer of a float32 expression."""
        return self._converted(real) if self.converts else self._added(real)

    def _clamped(self, real: PrimExpr) -> PrimExpr:
        """NaN becomes the lower bound, as in ONNX Runtime; a tirx.Max would keep it (maxima.py)."""
        low, high = tirx.const(self.low, "float32"), tirx.const(self.high, "float32")
        # The number stands four times in the result, and may hold the clamp of another rounding when kernels are put
        # together. Without a name for it TVM's simplification takes time that grows fourfold with each.
        number = tirx.Var("number", "float32")
        raised = tirx.Select(number > low, number, low)
        return tirx.Let(number, real, tirx.Select(raised < high, raised, high))

    def _added(self, real: PrimExpr) -> PrimExpr:
        """Adding 1.5 * 2**23 to a number below 2**22 rounds it, ties to even, into the low bits of the sum."""
        bits = tirx.reinterpret("int32", self._clamped(real) + tirx.const(MAGIC, "float32"))
        return (bits + tirx.const(self.zero - MAGIC_BITS, "int32")).astype(self.dtype)

    def _converted(self, real: PrimExpr) -> PrimExpr:
        """Rounding keeps the order, so that bounds may be rounded and applied behind it.

        The zero point is added by an intrinsic that saturates, which no simplification moves in front of the narrowing.
        """
        bounded = real if self.is_bounded else self._clamped(real)
        rounded = tirx.call_llvm_pure_intrin("int32", "llvm.lrint", bounded)
        narrow = _saturated(rounded, "int32", "int16")
        if self.dtype == "int16":
            return narrow
        if self.zero:
            narrow = tirx.call_llvm_pure_intrin("int16", "llvm.sadd.sat", narrow, tirx.const(self.zero, "int16"))
        result = _saturated(narrow, "int16", self.dtype)
        information = np.iinfo(self.dtype)
        least, most = (int(np.rint(np.float32(bound))) + self.zero for bound in (self.low, self.high))
        if self.is_bounded and least > information.min:
            result = tirx.max(result, tirx.const(least, self.dtype))
        if self.is_bounded and most < information.max:
            result = tirx.min(result, tirx.const(most, self.dtype))
        return result


def int16_rounding(*, converts: bool, is_bounded: bool) -> Rounding:
    """Return how numbers become int16, saturated."""
    information = np.iinfo("int16")
    return Rounding(
        low=float(information.min),
        high=float(information.max),
        zero=0,
        dtype="int16",
        converts=converts,
        is_bounded=is_bounded,
    )


def _saturated(value: PrimExpr, wide: str, dtype: str) -> PrimExpr:
    """Return an integer in a narrower dtype, saturated."""
    information = np.iinfo(dtype)
    least, most = (tirx.const(int(bound), wide) for bound in (information.min, information.max))
    return tirx.max(tirx.min(value, most), least).astype(dtype)
