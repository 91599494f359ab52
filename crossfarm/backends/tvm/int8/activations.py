"""Activations behind a product of integers, however a graph spells them: HardSwish and HardSigmoid.

A clamped line of sums, which HardSigmoid is, is sums again, with another scale and another bias.

HardSwish, x * clamp(x + 3, 0, 6) / 6, is computed in 16 bits. Sums become 16-bit integers in the vectors in which they
stand, which is all that needs the constants of a channel. What follows is the same for every number, so that it takes
vectors over channels and pixels alike, as wide as the processor has them (int8_strips.py): on floats, in vectors of
sums, it takes half as long again. See `integer.Swishing`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

from crossfarm.backends.tvm.int8.numpy_reference import Swishing
from crossfarm.backends.tvm.int8.values import MOST_OF_A_SUM, Gated, Known, Sums, Swished
from crossfarm.backends.tvm.passes.relax_utils import bound, constant_number, operator_name, without_factor

HARD_SWISH = "crossfarm_int8_hard_swish"
"""Name of the block that makes stored integers of 16-bit ones."""

FINE = 2.0**-12
"""Share of the distance between two bounds by which a clamped line may be shifted: a 16th of a step of 8 bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Line:
    """slope * (of + shift), slope above 0."""

    of: Any
    slope: float = 1.0
    shift: float = 0.0


def hard_swish(call: Any, *, known: Callable[[Any], Known | None], binding: Callable[[Any], Any]) -> Swished | None:
    """Return what a product of sums and a clamped line of the same sums is, or of that and a constant; or None.

    Args:
        call: of relax.multiply.
        known: returns how a variable can be had in integers.
        binding: returns what a variable is bound to.
    """
    for one, other in (call.args, reversed(call.args)):
        value, constant = known(one), constant_number(other, beside=one)
        if isinstance(value, Swished) and constant is not None:
            return value.times(constant, call)
        sums = value.product if isinstance(value, Gated) else value
        clipped, by = without_factor(other, binding)
        found = _clipped_line(clipped, known, binding)
        if not isinstance(sums, Sums) or sums.is_clamped or found is None:
            continue
        line, low, high = found
        if known(line.of) is value and low == 0.0:
            factor = by * line.slope
            return Swished(
                sums=sums, shift=line.shift, top=high / line.slope, factor=factor, swished=call, product=call
            )
    return None


def clamped_line(
    expression: Any, *, known: Callable[[Any], Known | None], binding: Callable[[Any], Any]
) -> Sums | None:
    """Return the sums that a clamped line of sums is; None for anything else; see `hard_swish`."""
    found = _clipped_line(expression, known, binding)
    sums = known(found[0].of) if found is not None else None
    if found is None or not isinstance(sums, Sums) or sums.is_clamped:
        return None
    line, low, high = found
    # The shift is rounded to a whole sum.
    if not 0.5 * sums.scale.max() * line.slope < (high - low) * FINE < math.inf:
        return None
    bias = sums.bias + np.rint(line.shift / sums.scale)
    if sums.largest + np.abs(bias).max(initial=0) >= MOST_OF_A_SUM:
        return None
    return dataclasses.replace(sums, scale=sums.scale * line.slope, bias=bias.astype(np.int32), low=low, high=high)


def _clipped_line(
    expression: Any, known: Callable[[Any], Known | None], binding: Callable[[Any], Any]
) -> tuple[_Line, float, float] | None:
    """Return a line and its bounds; None when an expression is none."""
    clip = bound(expression, binding)
    if operator_name(clip) != "relax.clip":
        return None
    low, high = (getattr(limit, "value", None) for limit in clip.args[1:])
    line = _line(clip.args[0], known, binding)
    return None if line is None or low is None or high is None else (line, float(low), float(high))


def _line(expression: Any, known: Callable[[Any], Known | None], binding: Callable[[Any], Any]) -> _Line | None:
    """Return what sums and constants are added and multiplied to; None when it is anything else, or falls."""
    if known(expression) is not None:
        return _Line(of=expression)
    made = bound(expression, binding)
    if operator_name(made) not in ("relax.add", "relax.multiply"):
        return None
    for one, other in (made.args, reversed(made.args)):
        constant = constant_number(other, beside=one)
        line = _line(one, known, binding) if constant is not None else None
        if line is None or constant is None:
            continue
        if operator_name(made) == "relax.add":
            return dataclasses.replace(line, shift=line.shift + constant / line.slope)
        return dataclasses.replace(line, slope=line.slope * constant) if constant > 0 else None
    return None


def swish(halves: Any, *, how: Swishing, dtype: str) -> Any:
    """Return the te.Tensor of the stored integers of 16-bit numbers x in units of the step."""
    information = np.iinfo(dtype)
    least, most = (tirx.const(int(bound), "int16") for bound in (information.min, information.max))

    def element(*place: Any) -> Any:
        value = halves[place]
        clamped = tirx.max(tirx.min(value, _half(how.rise)), _half(how.rise - how.top)) - _half(how.rise)
        if how.lift:
            clamped = tirx.shift_left(clamped, _half(how.lift))
        product = tirx.shift_right(value.astype("int32") * clamped.astype("int32"), tirx.const(16, "int32"))
        result = tirx.shift_right(product.astype("int16") + _half(how.offset), _half(how.fraction))
        return tirx.max(tirx.min(result, most), least).astype(dtype)

    return te.compute(halves.shape, element, name=HARD_SWISH)


def _half(value: int) -> Any:
    return tirx.const(value, "int16")
