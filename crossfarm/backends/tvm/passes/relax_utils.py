"""What all rewrites of Relax need: questions about an expression, and the way through a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tvm
from tvm import relax

from crossfarm.backends.tvm.types import Array, IRModule, Mutator, PrimExpr, RelaxExpr, RelaxVar


def constant_array(expression: RelaxExpr) -> Array | None:
    """Return the content of a constant tensor; None when the expression is none."""
    if isinstance(expression, tvm.ir.GenericConst) and isinstance(expression.value, tvm.runtime.Tensor):
        array: Array = expression.value.numpy()
        return array
    return None


def static_shape(expression: RelaxExpr) -> tuple[int, ...] | None:
    """Return the shape of a tensor; None when the expression is no tensor or the shape is open."""
    shape = getattr(getattr(expression, "ty", None), "shape", None)
    if not isinstance(shape, relax.ShapeExpr):
        return None
    extents = tuple(shape.values)
    if not all(isinstance(extent, tvm.tirx.IntImm) for extent in extents):
        return None
    return tuple(int(extent) for extent in extents)


def dtype_of(expression: RelaxExpr) -> str:
    """Return the dtype of a tensor; empty when the expression is none."""
    return str(getattr(getattr(expression, "ty", None), "dtype", ""))


def is_float32(*expressions: RelaxExpr) -> bool:
    """Say whether all expressions are float32 tensors of static shape."""
    return all(dtype_of(each) == "float32" and static_shape(each) is not None for each in expressions)


def operator_name(expression: RelaxExpr) -> str:
    """Return the name of the operator that a call calls; empty for anything else."""
    if isinstance(expression, relax.Call) and isinstance(expression.op, tvm.ir.Op):
        return str(expression.op.name)
    return ""


def constant_number(expression: RelaxExpr, *, beside: RelaxExpr) -> float | None:
    """Return the number that a constant float32 tensor of one element holds; None when it is none.

    Args:
        expression: an operand.
        beside: the other operand, whose shape must not become another one.
    """
    array = constant_array(expression)
    if array is None or array.size != 1 or array.dtype != np.float32:
        return None
    return float(array.reshape(-1)[0]) if array.ndim <= max(1, len(static_shape(beside) or ())) else None


def without_factor(expression: RelaxExpr, binding: Callable[[RelaxVar], RelaxExpr]) -> tuple[RelaxExpr, float]:
    """Return what a product with a constant multiplies, and the constant; the expression and 1 when it is none.

    Args:
        expression: a variable or what one is bound to.
        binding: returns what a variable is bound to, or None.
    """
    made = bound(expression, binding)
    if operator_name(made) == "relax.multiply":
        for one, other in (made.args, reversed(made.args)):
            factor = constant_number(other, beside=one)
            if factor is not None:
                return one, factor
    return expression, 1.0


def bound(expression: RelaxExpr, binding: Callable[[RelaxVar], RelaxExpr]) -> RelaxExpr:
    """Return what a variable is bound to in the end, None for a parameter; anything else as it is."""
    while isinstance(expression, relax.Var):
        expression = binding(expression)
    return expression


def integers(values: Iterable[PrimExpr]) -> tuple[int, ...]:
    """Return integers of an attribute as Python's."""
    return tuple(int(value) for value in values)


def rewrite_functions(module: IRModule, mutator_of: Callable[[IRModule], Mutator]) -> IRModule:
    """Return a module whose Relax functions went through a mutator, without what became dead."""
    rewriter = mutator_of(module)
    for variable, function in list(module.functions.items()):
        if isinstance(function, relax.Function):
            rewriter.builder_.update_func(variable, rewriter.visit_expr(function))
    return relax.transform.DeadCodeElimination()(rewriter.builder_.get())
