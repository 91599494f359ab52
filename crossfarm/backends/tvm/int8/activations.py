"""Activations behind an integer product, however a graph spells them: HardSwish and HardSigmoid.

HardSigmoid, a clamped linear function of accumulators, is accumulators again, with another scale and another bias.

HardSwish, x * clamp(x + 3, 0, 6) / 6, is computed in 16 bits. Accumulators become int16 in the vectors in which they
stand, which is all that needs the constants of a channel. What follows is the same for every number, so that it takes
vectors over channels and pixels alike, as wide as the processor has them (epilogue_strips.py): on floats, in vectors of
accumulators, it takes half as long again. See `numpy_reference.HardSwishParams`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from tvm import te, tirx

from crossfarm.backends.tvm.int8.channel_scale import ChannelScaledValue
from crossfarm.backends.tvm.int8.numpy_reference import HardSwishParams, QuantParams, hard_swish_params
from crossfarm.backends.tvm.int8.values import (
    ACCUMULATOR_LIMIT,
    Accumulators,
    FloatValue,
    Known,
    QuantisedValue,
    RewriteContext,
)
from crossfarm.backends.tvm.passes.relax_utils import bound, constant_number, operator_name, without_factor
from crossfarm.backends.tvm.types import PrimExpr, RelaxCall, RelaxExpr, Tensor, Var

HARD_SWISH = "crossfarm_int8_hard_swish"
"""Name of the block that makes quantised integers of int16 numbers."""

SHIFT_TOLERANCE = 2.0**-12
"""Share of the distance between two bounds by which a clamped function may be shifted: a 16th of a step of 8 bits."""

Lookup: TypeAlias = Callable[[RelaxExpr], Known | None]
"""Returns how an expression can be computed in integers."""
Binding: TypeAlias = Callable[[RelaxExpr], RelaxExpr]
"""Returns what a variable is bound to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardSwishValue:
    """x * clamp(x + shift, 0, top) * factor, where x are accumulators.

    Attributes:
        accumulators: x; not clamped.
        shift: real.
        top: real.
        factor: real.
        expression: the result in float32.
        unscaled: the same without the constants that it is multiplied by last.
        last_factor: those constants.
    """

    accumulators: Accumulators
    shift: float
    top: float
    factor: float
    expression: RelaxExpr
    unscaled: RelaxExpr
    last_factor: float = 1.0

    def times(self, factor: float, expression: RelaxExpr) -> HardSwishValue:
        """Return the value times a constant, and `expression`, which computes that in float32."""
        return dataclasses.replace(
            self, factor=self.factor * factor, expression=expression, last_factor=self.last_factor * factor
        )

    def as_float(self, _context: RewriteContext) -> RelaxExpr:
        """Return the real numbers, in the order of axes of the graph."""
        return self.expression

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Emit the result in int16 arithmetic; where 16 bits do not hold its numbers, quantise the floats."""
        dtype = context.unit.activation
        found = hard_swish_params(shift=self.shift, top=self.top, factor=self.factor, result=params, dtype=dtype)
        if found is None:
            in_float = FloatValue(expression=self.expression, source=self.unscaled, factor=self.last_factor)
            return in_float.as_quantised(context, params)
        values = self.accumulators.as_int16(context, found.step)
        compute = functools.partial(hard_swish, params=found, dtype=dtype)
        return QuantisedValue(tensor=context.call(compute, values, name="hard_swish_int8"), params=params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Linear:
    """slope * (source + shift), slope above 0."""

    source: RelaxExpr
    slope: float = 1.0
    shift: float = 0.0


def match_hard_swish(call: RelaxCall, *, known: Lookup, binding: Binding) -> HardSwishValue | None:
    """Return what a product of accumulators x and clamp(x + shift, 0, top) is, or of that and a constant; or None.

    Args:
        call: of relax.multiply.
        known: returns how a variable can be computed in integers.
        binding: returns what a variable is bound to.
    """
    for one, other in (call.args, reversed(call.args)):
        value, constant = known(one), constant_number(other, beside=one)
        if isinstance(value, HardSwishValue) and constant is not None:
            return value.times(constant, call)
        accumulators = value.product if isinstance(value, ChannelScaledValue) else value
        clipped, by = without_factor(other, binding)
        found = _clipped_linear(clipped, known, binding)
        if not isinstance(accumulators, Accumulators) or accumulators.is_clamped or found is None:
            continue
        linear, low, high = found
        if known(linear.source) is value and low == 0.0:
            return HardSwishValue(
                accumulators=accumulators,
                shift=linear.shift,
                top=high / linear.slope,
                factor=by * linear.slope,
                expression=call,
                unscaled=call,
            )
    return None


def match_clamped_linear(expression: RelaxExpr, *, known: Lookup, binding: Binding) -> Accumulators | None:
    """Return the accumulators that a clamped linear function of others is, as HardSigmoid; None for anything else.

    Args:
        expression: float32.
        known: see `match_hard_swish`.
        binding: likewise.
    """
    found = _clipped_linear(expression, known, binding)
    accumulators = known(found[0].source) if found is not None else None
    if found is None or not isinstance(accumulators, Accumulators) or accumulators.is_clamped:
        return None
    linear, low, high = found
    # The shift is rounded to a whole unit of the accumulators.
    if not 0.5 * accumulators.scale.max() * linear.slope < (high - low) * SHIFT_TOLERANCE < math.inf:
        return None
    bias = accumulators.bias + np.rint(linear.shift / accumulators.scale)
    if accumulators.largest + np.abs(bias).max(initial=0) >= ACCUMULATOR_LIMIT:
        return None
    scale = accumulators.scale * linear.slope
    return dataclasses.replace(accumulators, scale=scale, bias=bias.astype(np.int32), low=low, high=high)


def _clipped_linear(expression: RelaxExpr, known: Lookup, binding: Binding) -> tuple[_Linear, float, float] | None:
    """Return a linear function and the bounds that clip it; None when an expression is none."""
    clip = bound(expression, binding)
    if operator_name(clip) != "relax.clip":
        return None
    low, high = (getattr(limit, "value", None) for limit in clip.args[1:])
    linear = _linear(clip.args[0], known, binding)
    return None if linear is None or low is None or high is None else (linear, float(low), float(high))


def _linear(expression: RelaxExpr, known: Lookup, binding: Binding) -> _Linear | None:
    """Return a known value with the constants that are added and multiplied to it; None for anything else."""
    if known(expression) is not None:
        return _Linear(source=expression)
    made = bound(expression, binding)
    if operator_name(made) not in ("relax.add", "relax.multiply"):
        return None
    for one, other in (made.args, reversed(made.args)):
        constant = constant_number(other, beside=one)
        linear = _linear(one, known, binding) if constant is not None else None
        if linear is None or constant is None:
            continue
        if operator_name(made) == "relax.add":
            return dataclasses.replace(linear, shift=linear.shift + constant / linear.slope)
        return dataclasses.replace(linear, slope=linear.slope * constant) if constant > 0 else None
    return None


def hard_swish(values: Tensor, *, params: HardSwishParams, dtype: str) -> Tensor:
    """Return the quantised integers of x * clamp(x + shift, 0, top) * factor; values x, int16, in units of the step."""
    # values: [..., C] int16
    information = np.iinfo(dtype)
    least, most = (_int16(int(bound)) for bound in (information.min, information.max))

    def element(*index: Var) -> PrimExpr:
        value = values[index]
        # clamp(x + shift, 0, top), int16; the step is negative, and so are both factors
        clamped = tirx.max(tirx.min(value, _int16(params.rise)), _int16(params.rise - params.top)) - _int16(params.rise)
        if params.lift:
            clamped = tirx.shift_left(clamped, _int16(params.lift))
        # the upper half of the int32 product: one instruction of most processors
        product = tirx.shift_right(value.astype("int32") * clamped.astype("int32"), tirx.const(16, "int32"))
        # int16 with `fraction` bits behind the point: rounded, the zero point added, saturated
        result = tirx.shift_right(product.astype("int16") + _int16(params.offset), _int16(params.fraction))
        return tirx.max(tirx.min(result, most), least).astype(dtype)

    # result: [..., C] uint8 or int8
    return te.compute(values.shape, element, name=HARD_SWISH)


def _int16(value: int) -> PrimExpr:
    return tirx.const(value, "int16")
