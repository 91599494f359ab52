"""Makes one LayerNormalization again of what older exports write as ten operators.

centred = x - mean(x);  normal = centred / sqrt(mean(centred^2) + epsilon);  y = normal * scale + bias
"""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from crossfarm.backends.tvm.passes.relax_utils import (
    bound,
    constant_array,
    constant_number,
    integers,
    is_float32,
    operator_name,
    rewrite_functions,
    static_shape,
)
from crossfarm.backends.tvm.types import Array, IRModule, RelaxCall, RelaxExpr


def whole_layer_norms(module: IRModule) -> IRModule:
    """Return a module in which normalisations over the last axis are relax.nn.layer_norm, scale and bias in them."""
    return rewrite_functions(module, _Joiner)


@mutator
class _Joiner(PyExprMutator):  # type: ignore[misc]
    """Finds the quotient, then takes in what scales and shifts it."""

    def visit_call_(self, call: RelaxCall) -> RelaxExpr:
        """Rewrite one call, whose arguments have been rewritten."""
        call = self.visit_expr_post_order(call)
        name, made = operator_name(call), None
        if name == "relax.divide":
            made = self._normal(call)
        elif name == "relax.multiply":
            made = self._scaled(call)
        elif name == "relax.add":
            made = self._shifted(call)
        return call if made is None else self.builder_.normalize(made)

    def _bound(self, expression: RelaxExpr) -> RelaxExpr:
        return bound(expression, self.lookup_binding)

    def _normal(self, call: RelaxCall) -> RelaxExpr | None:
        """Return a normalisation without scale and bias for the quotient of one."""
        centred, root = self._bound(call.args[0]), self._bound(call.args[1])
        if operator_name(centred) != "relax.subtract" or operator_name(root) != "relax.sqrt" or not is_float32(call):
            return None
        value = centred.args[0]
        total = self._bound(root.args[0])
        if not self._is_mean_of(centred.args[1], value) or operator_name(total) != "relax.add":
            return None
        for variance, other in (total.args, reversed(total.args)):
            epsilon = constant_number(other, beside=variance)
            if epsilon is None or not self._is_variance(variance, call.args[0]):
                continue
            length = (static_shape(value) or (0,))[-1:]
            if static_shape(value) != static_shape(call):
                return None
            scale, bias = np.ones(length, np.float32), np.zeros(length, np.float32)
            return relax.op.nn.layer_norm(value, relax.const(scale), relax.const(bias), [-1], epsilon)
        return None

    def _is_mean_of(self, expression: RelaxExpr, value: RelaxExpr) -> bool:
        mean = self._bound(expression)
        if operator_name(mean) != "relax.mean" or not mean.args[0].same_as(value) or mean.attrs.axis is None:
            return False
        rank = len(static_shape(value) or ())
        return bool(mean.attrs.keepdims) and integers(mean.attrs.axis) in ((-1,), (rank - 1,))

    def _is_variance(self, expression: RelaxExpr, centred: RelaxExpr) -> bool:
        mean = self._bound(expression)
        if operator_name(mean) != "relax.mean" or not self._is_mean_of(expression, mean.args[0]):
            return False
        square = self._bound(mean.args[0])
        name = operator_name(square)
        if name == "relax.multiply":
            return all(each.same_as(centred) for each in square.args)
        if name == "relax.square":
            return bool(square.args[0].same_as(centred))
        is_power = name == "relax.power" and square.args[0].same_as(centred)
        return bool(is_power) and constant_number(square.args[1], beside=centred) == 2.0

    def _scaled(self, call: RelaxCall) -> RelaxExpr | None:
        return self._taking(call, argument=1, neutral=1.0)

    def _shifted(self, call: RelaxCall) -> RelaxExpr | None:
        return self._taking(call, argument=2, neutral=0.0)

    def _taking(self, call: RelaxCall, *, argument: int, neutral: float) -> RelaxExpr | None:
        """Return a normalisation that takes in a constant beside it where it has none; a bias comes after a scale."""
        for one, other in (call.args, reversed(call.args)):
            normal = self._bound(one)
            if operator_name(normal) != "relax.nn.layer_norm" or static_shape(call) != static_shape(normal):
                continue
            if integers(normal.attrs.axes) not in ((-1,), (len(static_shape(call) or ()) - 1,)):
                continue
            row = _row(other, static_shape(call) or ())
            given = constant_array(normal.args[argument])
            bias = constant_array(normal.args[2])
            if row is None or given is None or bias is None or np.any(given != neutral) or np.any(bias != 0):
                continue
            arguments = list(normal.args)
            arguments[argument] = relax.const(row)
            return relax.op.nn.layer_norm(*arguments, list(integers(normal.attrs.axes)), float(normal.attrs.epsilon))
        return None


def _row(expression: RelaxExpr, shape: tuple[int, ...]) -> Array | None:
    """Return a constant that has one number for each place of the last axis, as a row."""
    array = constant_array(expression)
    if array is None or array.dtype != np.float32 or array.ndim > len(shape) or array.shape[-1:] != shape[-1:]:
        return None
    return np.ascontiguousarray(array.reshape(-1)) if array.size == shape[-1] else None
