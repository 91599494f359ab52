"""How a value of a quantised graph can be computed in integers: what int8/rewrite.py remembers of it.

Kinds of value that belong to one family of kernels stand with these: channel_scale.py, activations.py, pooling.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from tvm import relax

from crossfarm.backends.tvm.int8 import arithmetic
from crossfarm.backends.tvm.int8.dot_instructions import IntegerUnit
from crossfarm.backends.tvm.int8.numpy_reference import QuantParams, add_params, multipliers
from crossfarm.backends.tvm.int8.rounding import CONVERTIBLE, Rounding, int16_rounding
from crossfarm.backends.tvm.passes.relax_utils import dtype_of, static_shape
from crossfarm.backends.tvm.types import Array, BlockBuilder, RelaxExpr, RelaxVar, Tensor

EXACT_IN_FLOAT = 2**24
"""Integers below that are float32 numbers."""
ACCUMULATOR_LIMIT = 2.0**31
"""No int32 accumulator is beyond it."""
_TO_NHWC, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


class RewriteContext(Protocol):
    """What values and handlers of operators need of the rewriter of a graph."""

    unit: IntegerUnit
    builder_: BlockBuilder

    def value(self, expression: RelaxExpr) -> Known | None:
        """Return how an expression can be computed in integers; None when it cannot."""

    def keep(self, value: Value) -> RelaxVar:
        """Return a variable for a known value, which is float32 to operators that do not know it."""

    def emit(self, expression: RelaxExpr) -> RelaxVar:
        """Bind an expression to a new variable."""

    def call(self, compute: Callable[..., Tensor], *arguments: RelaxExpr, name: str) -> RelaxVar:
        """Bind a tensor expression to a new variable; `name` becomes part of a symbol of the object file."""


class Value(Protocol):
    """A value of the graph that can be had as quantised integers."""

    def as_float(self, context: RewriteContext) -> RelaxExpr:
        """Emit or return the real numbers as float32."""

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Emit the integers that stand for the numbers with a scale and zero point."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Constant integers whose zero point is 0.

    Attributes:
        array: int8, or int32 of a bias.
        scale: one for all, or one for each index of `axis`; float64.
        axis: the axis with scales of its own.
    """

    array: Array
    scale: Array
    axis: int | None


Known: TypeAlias = Value | Weights
"""What may be known of an expression."""


def activation_rounding(
    context: RewriteContext, params: QuantParams, *, low: float = -math.inf, high: float = math.inf, largest: float
) -> Rounding:
    """Return how real numbers within bounds become integers in the unit's dtype.

    Args:
        context: whose unit says the dtype.
        params: of the result.
        low: real bound.
        high: real bound.
        largest: no number is beyond it, in units of the scale.
    """
    least, most = params.bounds(context.unit.activation, low, high)
    return Rounding(
        low=least,
        high=most,
        zero=params.zero,
        dtype=context.unit.activation,
        converts=context.unit.converts,
        is_bounded=largest < CONVERTIBLE,
    )


def channels_last(context: RewriteContext, tensor: RelaxExpr) -> RelaxExpr:
    """Return an image [N, C, H, W] as [N, H, W, C]; a tensor of another rank as it is."""
    return _transposed(context, tensor, _TO_NHWC)


def channels_first(context: RewriteContext, tensor: RelaxExpr) -> RelaxExpr:
    """Return an image [N, H, W, C] as [N, C, H, W], as the graph has it; a tensor of another rank as it is."""
    return _transposed(context, tensor, _TO_NCHW)


def _transposed(context: RewriteContext, tensor: RelaxExpr, axes: list[int]) -> RelaxExpr:
    shape = static_shape(tensor)
    return tensor if shape is None or len(shape) != 4 else context.emit(relax.op.permute_dims(tensor, axes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantisedValue:
    """A quantised tensor, images as NHWC.

    Attributes:
        tensor: variable, in the unit's dtype (uint8 or int8).
        params: scale and zero point.
    """

    tensor: RelaxVar
    params: QuantParams

    def as_float(self, context: RewriteContext) -> RelaxExpr:
        """Emit the real numbers as float32."""
        return context.call(functools.partial(arithmetic.dequantise, params=self.params), self.tensor, name="real")

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Requantise for another scale and zero point; emit nothing when they are the same."""
        if params == self.params:
            return self
        most = 255 * self.params.scale / params.scale
        rounding = activation_rounding(context, params, largest=most)
        compute = functools.partial(arithmetic.quantise, factor=params.inverse, rounding=rounding)
        return QuantisedValue(tensor=context.call(compute, self.as_float(context), name="quantise"), params=params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accumulators:
    """The int32 accumulators of a product, images as NHWC.

    Attributes:
        tensor: variable, int32; or float32, which holds integers below 2**24.
        scale: real size of one unit, for each channel; float64 [C].
        bias: is added to the accumulators first, for each channel; int32 [C].
        largest_product: no accumulator is beyond it before the bias is added.
        low: real bound.
        high: real bound.
    """

    tensor: RelaxVar
    scale: Array
    bias: Array
    largest_product: float = ACCUMULATOR_LIMIT
    low: float = -math.inf
    high: float = math.inf

    @property
    def is_clamped(self) -> bool:
        """Whether a bound holds."""
        return (self.low, self.high) != (-math.inf, math.inf)

    @property
    def largest(self) -> float:
        """No accumulator is beyond it, with its bias."""
        bias = float(np.abs(self.bias.astype(np.int64)).max(initial=0))
        return min(self.largest_product + bias, ACCUMULATOR_LIMIT)

    def bias_of(self, weights: Weights) -> Array | None:
        """Return a bias in units of the accumulators; None when it has other units, or something was clamped."""
        flat = weights.array.reshape(-1)
        scale = np.broadcast_to(weights.scale, flat.shape) if weights.scale.size in (1, flat.size) else None
        if flat.size != self.scale.size or scale is None or weights.array.dtype != np.int32 or self.is_clamped:
            return None
        return flat if np.allclose(scale, self.scale, rtol=1e-6, atol=0.0) else None

    def as_float(self, context: RewriteContext) -> RelaxExpr:
        """Emit the real numbers as float32, images as NHWC."""
        tensor, constants, scaling = self._terms(context, self.scale.astype(np.float32))
        compute = functools.partial(arithmetic.scaled_accumulators, scaling=scaling, low=self.low, high=self.high)
        return context.call(compute, tensor, *constants, name="real")

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Requantise the accumulators: add the bias, scale, clamp, round, add the zero point."""
        factors = multipliers(self.scale, params.scale)
        tensor, constants, scaling = self._terms(context, factors)
        largest = self.largest * float(factors.max(initial=0.0))
        rounding = activation_rounding(context, params, low=self.low, high=self.high, largest=largest)
        compute = functools.partial(arithmetic.requantise, scaling=scaling, rounding=rounding)
        return QuantisedValue(tensor=context.call(compute, tensor, *constants, name="requantise"), params=params)

    def as_int16(self, context: RewriteContext, step: float) -> RelaxVar:
        """Emit int16 numbers in units of `step`, saturated; only for accumulators that are not clamped."""
        factors = multipliers(self.scale, step)
        tensor, constants, scaling = self._terms(context, factors)
        bounded = self.largest * float(np.abs(factors).max(initial=0.0)) < CONVERTIBLE
        compute = functools.partial(
            arithmetic.requantise,
            scaling=scaling,
            rounding=int16_rounding(converts=context.unit.converts, is_bounded=bounded),
            name=arithmetic.INT16_BLOCK,
        )
        # The name is part of a symbol of the object file, which must not change.
        return context.call(compute, tensor, *constants, name="halves")

    def _terms(self, context: RewriteContext, factors: Array) -> tuple[RelaxVar, list[RelaxExpr], arithmetic.Scaling]:
        """Return the accumulators, the constants of their channels, and what is done with both.

        The sum of two floats that are integers below 2**24 is rounded once, to what the integer sum becomes as a float.
        """
        tensor, bias = self.tensor, self.bias
        if dtype_of(tensor) != "int32":
            if np.abs(bias.astype(np.int64)).max(initial=0) < EXACT_IN_FLOAT:
                bias = bias.astype(np.float32)
            else:
                tensor = context.emit(relax.op.astype(tensor, "int32"))
        is_even = bool(np.all(factors == factors.flat[0]))
        scaling = arithmetic.Scaling(has_bias=bool(np.any(bias)), factor=float(factors.flat[0]) if is_even else None)
        constants = [bias] * scaling.has_bias + [factors] * (not is_even)
        return tensor, [relax.const(each) for each in constants], scaling


@dataclasses.dataclass(frozen=True, kw_only=True)
class AddedValue:
    """The sum of two quantised tensors of equal rank.

    Attributes:
        left: the one.
        right: the other.
        expression: the sum in float32, with what clamps it.
        low: real bound.
        high: real bound.
    """

    left: QuantisedValue
    right: QuantisedValue
    expression: RelaxExpr
    low: float = -math.inf
    high: float = math.inf

    def as_float(self, _context: RewriteContext) -> RelaxExpr:
        """Return the real numbers, in the order of axes of the graph."""
        return self.expression

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Emit the sum in int32, requantised."""
        addition = add_params(self.left.params, self.right.params, params)
        largest = ACCUMULATOR_LIMIT * 2.0**-addition.shift
        rounding = activation_rounding(context, params, low=self.low, high=self.high, largest=largest)
        compute = functools.partial(arithmetic.add, params=addition, rounding=rounding)
        tensor = context.call(compute, self.left.tensor, self.right.tensor, name="add_int8")
        return QuantisedValue(tensor=tensor, params=params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RearrangedValue:
    """A value that is not quantised yet, reshaped or transposed.

    Attributes:
        source: the value.
        move: reshapes or transposes a tensor in the order of axes of the graph.
        expression: the result in float32.
    """

    source: Value
    move: Callable[[RelaxExpr], RelaxExpr]
    expression: RelaxExpr

    def as_float(self, _context: RewriteContext) -> RelaxExpr:
        """Return the real numbers, in the order of axes of the graph."""
        return self.expression

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Quantise the source, and move the integers."""
        tensor = channels_first(context, self.source.as_quantised(context, params).tensor)
        return QuantisedValue(tensor=channels_last(context, context.emit(self.move(tensor))), params=params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FloatValue:
    """Real numbers that are computed in float32.

    Attributes:
        expression: the numbers.
        source: the numbers without a constant that they are multiplied by last.
        factor: that constant.
        largest: no number of `expression` is beyond it.
    """

    expression: RelaxExpr
    source: RelaxExpr
    factor: float = 1.0
    largest: float = math.inf

    def as_float(self, _context: RewriteContext) -> RelaxExpr:
        """Return the real numbers, in the order of axes of the graph."""
        return self.expression

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Quantise `source`, with the constant as a part of the scale."""
        rounding = activation_rounding(context, params, largest=self.largest / params.scale)
        compute = functools.partial(arithmetic.quantise, factor=self.factor * params.inverse, rounding=rounding)
        tensor = context.call(compute, channels_last(context, self.source), name="quantise")
        return QuantisedValue(tensor=tensor, params=params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConcatenatedValue:
    """Values that are concatenated: each is quantised with the scale of the result, then all are copied.

    Attributes:
        parts: the values.
        axis: in the order of axes that the graph has.
        expression: the result in float32.
    """

    parts: tuple[Value, ...]
    axis: int
    expression: RelaxExpr

    def as_float(self, _context: RewriteContext) -> RelaxExpr:
        """Return the real numbers, in the order of axes of the graph."""
        return self.expression

    def as_quantised(self, context: RewriteContext, params: QuantParams) -> QuantisedValue:
        """Emit the concatenation of the quantised parts."""
        axis = _TO_NHWC.index(self.axis) if len(static_shape(self.expression) or ()) == 4 else self.axis
        tensors = [part.as_quantised(context, params).tensor for part in self.parts]
        return QuantisedValue(tensor=context.emit(relax.op.concat(tensors, axis=axis)), params=params)


_Clampable = TypeVar("_Clampable", Accumulators, AddedValue)


def clamped(value: _Clampable, low: float, high: float) -> _Clampable:
    """Return a value within closer bounds: it was clamped to its own first."""
    return dataclasses.replace(value, low=min(max(value.low, low), high), high=max(min(value.high, high), low))
