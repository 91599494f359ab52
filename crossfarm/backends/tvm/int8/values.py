"""How a value of a quantised graph can be had in integers: what int8_graph.py remembers about it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
from tvm import relax

from crossfarm.backends.tvm.int8 import arithmetic, rounding
from crossfarm.backends.tvm.int8.dot_instructions import IntegerUnit
from crossfarm.backends.tvm.int8.numpy_reference import Steps, addition, multipliers, swishing
from crossfarm.backends.tvm.int8.windows import Window
from crossfarm.backends.tvm.passes.relax_utils import Array, dtype_of, static_shape

EXACT_IN_FLOAT = 2**24
"""Integers below that are float32 numbers."""
MOST_OF_A_SUM = 2.0**31
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class Walk(Protocol):
    """What the values need of the walk through the graph."""

    unit: IntegerUnit

    def emit(self, expression: Any) -> Any:
        """Bind an expression to a new variable."""

    def call(self, compute: Callable[..., Any], *arguments: Any, name: str) -> Any:
        """Bind a tensor expression to a new variable."""


def _storing(
    walk: Walk, steps: Steps, *, low: float = -math.inf, high: float = math.inf, largest: float
) -> rounding.Storing:
    """Return how real numbers within bounds are stored; in units of the scale none is beyond `largest`."""
    least, most = steps.bounds(walk.unit.activation, low, high)
    return rounding.Storing(
        low=least,
        high=most,
        zero=steps.zero,
        dtype=walk.unit.activation,
        converts=walk.unit.converts,
        is_bounded=largest < rounding.LARGEST,
    )


def channels_last(walk: Walk, tensor: Any) -> Any:
    """Return an image with its channels last; anything else as it is."""
    return _turned(walk, tensor, _TO_LAST)


def channels_first(walk: Walk, tensor: Any) -> Any:
    """Return an image with its channels first, as the graph has it; anything else as it is."""
    return _turned(walk, tensor, _TO_FIRST)


def _turned(walk: Walk, tensor: Any, axes: list[int]) -> Any:
    shape = static_shape(tensor)
    return tensor if shape is None or len(shape) != 4 else walk.emit(relax.op.permute_dims(tensor, axes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Constant stored integers around zero.

    Attributes:
        array: int8, or int32 of a bias.
        scale: one for all, or one for each index of `axis`; float64.
        axis: the axis with scales of its own.
    """

    array: Array
    scale: Array
    axis: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """Stored integers, images with their channels last.

    Attributes:
        tensor: variable, in the unit's dtype.
        steps: scale and zero point.
    """

    tensor: Any
    steps: Steps

    def real(self, walk: Walk) -> Any:
        """Emit the real numbers."""
        return walk.call(functools.partial(arithmetic.dequantise, steps=self.steps), self.tensor, name="real")

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers for other steps; nothing when they are the same."""
        if steps == self.steps:
            return self
        most = 255 * self.steps.scale / steps.scale
        compute = functools.partial(
            arithmetic.quantise, factor=steps.inverse, storing=_storing(walk, steps, largest=most)
        )
        return Stored(tensor=walk.call(compute, self.real(walk), name="quantise"), steps=steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sums:
    """32-bit sums, images with their channels last.

    Attributes:
        tensor: variable, int32; or float32, which holds integers below 2**24.
        scale: real size of one step, for each channel; float64.
        bias: is added to the sums first, for each channel; int32.
        largest_product: no sum is beyond it before the bias is added.
        low: real bound.
        high: real bound.
    """

    tensor: Any
    scale: Array
    bias: Array
    largest_product: float = MOST_OF_A_SUM
    low: float = -math.inf
    high: float = math.inf

    @property
    def is_clamped(self) -> bool:
        """Whether a bound holds."""
        return (self.low, self.high) != (-math.inf, math.inf)

    @property
    def largest(self) -> float:
        """No sum is beyond it."""
        bias = float(np.abs(self.bias.astype(np.int64)).max(initial=0))
        return min(self.largest_product + bias, MOST_OF_A_SUM)

    def bias_of(self, weights: Weights) -> Array | None:
        """Return a bias in units of the sums, when it was stored so and nothing has been clamped yet."""
        flat = weights.array.reshape(-1)
        scale = np.broadcast_to(weights.scale, flat.shape) if weights.scale.size in (1, flat.size) else None
        if flat.size != self.scale.size or scale is None or weights.array.dtype != np.int32 or self.is_clamped:
            return None
        return flat if np.allclose(scale, self.scale, rtol=1e-6, atol=0.0) else None

    def real(self, walk: Walk) -> Any:
        """Emit the real numbers."""
        tensor, constants, scaling = self._terms(walk, self.scale.astype(np.float32))
        compute = functools.partial(arithmetic.real_sums, scaling=scaling, low=self.low, high=self.high)
        return walk.call(compute, tensor, *constants, name="real")

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers."""
        factors = multipliers(self.scale, steps.scale)
        tensor, constants, scaling = self._terms(walk, factors)
        storing = _storing(
            walk, steps, low=self.low, high=self.high, largest=self.largest * float(factors.max(initial=0.0))
        )
        compute = functools.partial(arithmetic.requantise, scaling=scaling, storing=storing)
        return Stored(tensor=walk.call(compute, tensor, *constants, name="requantise"), steps=steps)

    def halves(self, walk: Walk, step: float) -> Any:
        """Emit 16-bit integers in units of `step`, at whose bounds stays what is beyond them; not clamped sums only."""
        factors = multipliers(self.scale, step)
        tensor, constants, scaling = self._terms(walk, factors)
        bounded = self.largest * float(np.abs(factors).max(initial=0.0)) < rounding.LARGEST
        compute = functools.partial(
            arithmetic.requantise,
            scaling=scaling,
            storing=rounding.halves(converts=walk.unit.converts, is_bounded=bounded),
            name=arithmetic.HALVES,
        )
        return walk.call(compute, tensor, *constants, name="halves")

    def _terms(self, walk: Walk, factors: Array) -> tuple[Any, list[Any], arithmetic.Scaling]:
        """Return the sums, the constants of their channels, and what is done with both.

        The sum of two floats that are integers below 2**24 is rounded once, to what the integer sum becomes as a float.
        """
        tensor, bias = self.tensor, self.bias
        if dtype_of(tensor) != "int32":
            if np.abs(bias.astype(np.int64)).max(initial=0) < EXACT_IN_FLOAT:
                bias = bias.astype(np.float32)
            else:
                tensor = walk.emit(relax.op.astype(tensor, "int32"))
        is_even = bool(np.all(factors == factors.flat[0]))
        scaling = arithmetic.Scaling(has_bias=bool(np.any(bias)), factor=float(factors.flat[0]) if is_even else None)
        constants = [bias] * scaling.has_bias + [factors] * (not is_even)
        return tensor, [relax.const(each) for each in constants], scaling


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summed:
    """The sum of two stored tensors of equal rank.

    Attributes:
        left: the one.
        right: the other.
        sum: the float32 expression, with what clamps it.
        low: real bound.
        high: real bound.
    """

    left: Stored
    right: Stored
    sum: Any
    low: float = -math.inf
    high: float = math.inf

    def real(self, _walk: Walk) -> Any:
        """Return the real numbers, in the order of axes of the graph."""
        return self.sum

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers."""
        how = addition(self.left.steps, self.right.steps, steps)
        storing = _storing(walk, steps, low=self.low, high=self.high, largest=MOST_OF_A_SUM * 2.0**-how.shift)
        compute = functools.partial(arithmetic.add, how=how, storing=storing)
        return Stored(tensor=walk.call(compute, self.left.tensor, self.right.tensor, name="add_int8"), steps=steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gated:
    """The product of an image and a number for each of its channels.

    Attributes:
        image: [n, height, width, channels].
        gate: [n, 1, 1, channels].
        product: the same as sums.
    """

    image: Stored
    gate: Stored
    product: Sums

    def real(self, walk: Walk) -> Any:
        """Emit the real numbers."""
        return self.product.real(walk)

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers."""
        from crossfarm.backends.tvm.int8.channel_scale import gated

        return gated(walk, self.image, self.gate, steps) or self.product.stored(walk, steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swished:
    """Sums x as x * clamp(x + shift, 0, top) * factor, which HardSwish is.

    Attributes:
        sums: not clamped.
        shift: real.
        top: real.
        factor: real.
        swished: the float32 expression.
        product: the same without the constants that it is multiplied by last.
        behind: those constants.
    """

    sums: Sums
    shift: float
    top: float
    factor: float
    swished: Any
    product: Any
    behind: float = 1.0

    def times(self, factor: float, expression: Any) -> Swished:
        """Return the value times a constant, and `expression`, which computes that in float32."""
        return dataclasses.replace(self, factor=self.factor * factor, swished=expression, behind=self.behind * factor)

    def real(self, _walk: Walk) -> Any:
        """Return the real numbers, in the order of axes of the graph."""
        return self.swished

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers."""
        from crossfarm.backends.tvm.int8.activations import swish

        how = swishing(shift=self.shift, top=self.top, factor=self.factor, result=steps, dtype=walk.unit.activation)
        if how is None:
            return Real(expression=self.swished, source=self.product, factor=self.behind).stored(walk, steps)
        halves = self.sums.halves(walk, how.step)
        compute = functools.partial(swish, how=how, dtype=walk.unit.activation)
        return Stored(tensor=walk.call(compute, halves, name="hard_swish_int8"), steps=steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pooled:
    """The maxima of a value that is not stored yet: rounding keeps the order, so it is stored first."""

    of: Value
    window: Window
    pooled: Any

    def real(self, _walk: Walk) -> Any:
        """Return the real numbers, in the order of axes of the graph."""
        return self.pooled

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers."""
        from crossfarm.backends.tvm.int8.pooling import maximum

        return maximum(walk, self.of.stored(walk, steps), self.window)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moved:
    """A value that is not stored yet in another shape or order."""

    of: Value
    move: Callable[[Any], Any]
    moved: Any

    def real(self, _walk: Walk) -> Any:
        """Return the real numbers, in the order of axes of the graph."""
        return self.moved

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers."""
        tensor = channels_first(walk, self.of.stored(walk, steps).tensor)
        return Stored(tensor=channels_last(walk, walk.emit(self.move(tensor))), steps=steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Real:
    """Real numbers that are computed in float32.

    Attributes:
        expression: the numbers.
        source: the numbers without a constant that they are multiplied by last.
        factor: that constant.
        largest: no number of `expression` is beyond it.
    """

    expression: Any
    source: Any
    factor: float = 1.0
    largest: float = math.inf

    def real(self, _walk: Walk) -> Any:
        """Return the real numbers, in the order of axes of the graph."""
        return self.expression

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers."""
        storing = _storing(walk, steps, largest=self.largest / steps.scale)
        compute = functools.partial(arithmetic.quantise, factor=self.factor * steps.inverse, storing=storing)
        tensor = walk.call(compute, channels_last(walk, self.source), name="quantise")
        return Stored(tensor=tensor, steps=steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joined:
    """Values behind each other along an axis: each is stored for the steps of the result, then all are copied.

    Attributes:
        parts: the values.
        axis: in the order of axes that the graph has.
        joined: the float32 expression.
    """

    parts: tuple[Value, ...]
    axis: int
    joined: Any

    def real(self, _walk: Walk) -> Any:
        """Return the real numbers, in the order of axes of the graph."""
        return self.joined

    def stored(self, walk: Walk, steps: Steps) -> Stored:
        """Emit the stored integers."""
        axis = _TO_LAST.index(self.axis) if len(static_shape(self.joined) or ()) == 4 else self.axis
        tensors = [part.stored(walk, steps).tensor for part in self.parts]
        return Stored(tensor=walk.emit(relax.op.concat(tensors, axis=axis)), steps=steps)


Value = Stored | Sums | Summed | Gated | Swished | Pooled | Moved | Real | Joined
"""What is known of a value besides weights."""
Known = Value | Weights


_Clampable = TypeVar("_Clampable", Sums, Summed)


def clamped(value: _Clampable, low: float, high: float) -> _Clampable:
    """Return a value within closer bounds: it was clamped to its own first."""
    return dataclasses.replace(value, low=min(max(value.low, low), high), high=max(min(value.high, high), low))
