"""How real numbers become stored integers, as tensor expressions: clamp, round halves to even, add the zero point.

There are two ways with one result. One needs nothing but additions of floats. The other is for processors that turn
floats into the nearest integers in one instruction and pack vectors of wide integers into narrow ones at the bounds of
the narrow type: there the bounds of the stored type cost nothing, and the others are held in bytes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from tvm import tirx

from crossfarm.backends.tvm.int8.numpy_reference import MAGIC, MAGIC_BITS

LARGEST = 2.0**30
"""Numbers up to that are converted to 32-bit integers without any doubt, and with a zero point added."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Storing:
    """What becomes of a number in units of the scale.

    Attributes:
        low: bound of the number, such that low + zero is the dtype's least integer or more.
        high: bound, likewise.
        zero: zero point.
        dtype: int8, uint8 or int16.
        converts: the processor rounds and packs as told above.
        is_bounded: no number is beyond LARGEST, clamped or not.
    """

    low: float
    high: float
    zero: int
    dtype: str
    converts: bool = False
    is_bounded: bool = False

    def of(self, real: Any) -> Any:
        """Return the stored integer of a float32 expression."""
        return self._converted(real) if self.converts else self._added(real)

    def _clamped(self, real: Any) -> Any:
        """NaN becomes the lower bound, as in ONNX Runtime; a tirx.Max would keep it (maxima.py)."""
        low, high = tirx.const(self.low, "float32"), tirx.const(self.high, "float32")
        raised = tirx.Select(real > low, real, low)
        return tirx.Select(raised < high, raised, high)

    def _added(self, real: Any) -> Any:
        """Adding 1.5 * 2**23 to a number below 2**22 rounds it, halves to even, into the low bits of the sum."""
        bits = tirx.reinterpret("int32", self._clamped(real) + tirx.const(MAGIC, "float32"))
        return (bits + tirx.const(self.zero - MAGIC_BITS, "int32")).astype(self.dtype)

    def _converted(self, real: Any) -> Any:
        """Rounding keeps the order, so that bounds may be rounded and held behind it.

        The zero point is added by an intrinsic that saturates, which no simplification moves in front of the packing.
        """
        bounded = real if self.is_bounded else self._clamped(real)
        rounded = tirx.call_llvm_pure_intrin("int32", "llvm.lrint", bounded)
        half = _saturated(rounded, "int32", "int16")
        if self.dtype == "int16":
            return half
        if self.zero:
            half = tirx.call_llvm_pure_intrin("int16", "llvm.sadd.sat", half, tirx.const(self.zero, "int16"))
        stored = _saturated(half, "int16", self.dtype)
        information = np.iinfo(self.dtype)
        least, most = (int(np.rint(np.float32(bound))) + self.zero for bound in (self.low, self.high))
        if self.is_bounded and least > information.min:
            stored = tirx.max(stored, tirx.const(least, self.dtype))
        if self.is_bounded and most < information.max:
            stored = tirx.min(stored, tirx.const(most, self.dtype))
        return stored


def halves(*, converts: bool, is_bounded: bool) -> Storing:
    """Return how numbers become 16-bit integers."""
    information = np.iinfo("int16")
    return Storing(
        low=float(information.min),
        high=float(information.max),
        zero=0,
        dtype="int16",
        converts=converts,
        is_bounded=is_bounded,
    )


def _saturated(value: Any, wide: str, dtype: str) -> Any:
    """Return an integer in a narrower type, at the bounds of which what is beyond them stays."""
    information = np.iinfo(dtype)
    least, most = (tirx.const(int(bound), wide) for bound in (information.min, information.max))
    return tirx.max(tirx.min(value, most), least).astype(dtype)
