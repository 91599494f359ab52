"""Tensors as views of the memory of others: transposes, reshapes and factors that a kernel need not see computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from tvm import relax

from crossfarm.backends.tvm.passes.relax_utils import constant_number, integers, operator_name, static_shape
from crossfarm.backends.tvm.types import Array, RelaxCall, RelaxExpr, RelaxVar

_MOVING = frozenset({"relax.permute_dims", "relax.reshape", "relax.expand_dims", "relax.squeeze"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """A tensor whose element at an index is a factor times an element of another one.

    Attributes:
        source: the other one, in C order.
        shape: of the view.
        strides: of its axes, in elements of the source; 0 for an axis of one element.
        factor: times which they are.
    """

    source: RelaxExpr
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    factor: float = 1.0


def view_of(expression: RelaxExpr, binding: Callable[[RelaxVar], RelaxExpr], *, factors: bool = True) -> View:
    """Return a float32 tensor of static shape as a view of what it is made of by moving, or of itself.

    Args:
        expression: a variable, or a call whose arguments are variables.
        binding: returns what a variable is bound to, or None.
        factors: products with a constant are seen through.
    """
    steps: list[tuple[RelaxExpr, RelaxCall, float | None]] = []
    current = expression
    while True:
        made = binding(current) if isinstance(current, relax.Var) else current
        if isinstance(made, relax.Var) and made is not current:
            current = made
            continue
        name = operator_name(made)
        if name in _MOVING:
            steps.append((current, made, None))
            current = made.args[0]
            continue
        scaled = constant_factor(made) if factors else None
        if scaled is None:
            break
        steps.append((current, made, scaled[1]))
        current = scaled[0]
    factor, array = 1.0, _unwritten(current)
    for whole, call, scale in reversed(steps):
        if scale is not None:
            factor *= scale
            continue
        moved = _moved(array, call)
        if moved is None:
            # The copy has to be made: what is below it is then part of the source.
            current, factor, moved = whole, 1.0, _unwritten(whole)
        array = moved
    return View(source=current, shape=array.shape, strides=strides_of(array), factor=factor)


def constant_factor(call: RelaxExpr) -> tuple[RelaxExpr, float] | None:
    """Return what a call multiplies by a constant, and the constant; None when it does something else."""
    name = operator_name(call)
    if name == "relax.multiply":
        for one, other in (call.args, reversed(call.args)):
            number = constant_number(other, beside=one)
            if number is not None:
                return one, number
    if name == "relax.divide":
        number = constant_number(call.args[1], beside=call.args[0])
        if number:
            return call.args[0], float(np.float32(1.0) / np.float32(number))
    return None


def strides_of(array: Array) -> tuple[int, ...]:
    """Return the strides of an array in elements; 0 for an axis of one element."""
    pairs = zip(array.strides, array.shape, strict=True)
    return tuple(0 if extent == 1 else stride // array.itemsize for stride, extent in pairs)


def reshaped(array: Array, shape: tuple[int, ...]) -> Array | None:
    """Return a view of an array's memory in another shape; None where that would be a copy."""
    try:
        return array.reshape(shape, copy=False)
    except ValueError:
        return None


def _moved(array: Array, call: RelaxCall) -> Array | None:
    if operator_name(call) == "relax.permute_dims":
        return array.transpose(None if call.attrs.axes is None else integers(call.attrs.axes))
    return reshaped(array, static_shape(call) or ())


def _unwritten(expression: RelaxExpr) -> Array:
    """Return an array of the shape of a tensor, whose memory is never touched."""
    return np.empty(static_shape(expression) or (), np.float32)
