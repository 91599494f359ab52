"""Computes what depends on constants alone, with NumPy.

relax.transform.FoldConstant compiles a function per constant, which takes longer than all other passes together; it is
left with what has no entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from crossfarm.backends.tvm.passes.relax_utils import (
    constant_array,
    dtype_of,
    integers,
    operator_name,
    rewrite_functions,
    static_shape,
)
from crossfarm.backends.tvm.types import Array, IRModule, RelaxCall, RelaxExpr

_Compute = Callable[[RelaxCall, Sequence[Array]], Array]

_FOLDED: dict[str, _Compute] = {
    "relax.permute_dims": lambda call, arrays: arrays[0].transpose(
        None if call.attrs.axes is None else integers(call.attrs.axes)
    ),
    "relax.expand_dims": lambda call, arrays: arrays[0].reshape(static_shape(call) or ()),
    "relax.squeeze": lambda call, arrays: arrays[0].reshape(static_shape(call) or ()),
    "relax.add": lambda _, arrays: arrays[0] + arrays[1],
    "relax.subtract": lambda _, arrays: arrays[0] - arrays[1],
    "relax.multiply": lambda _, arrays: arrays[0] * arrays[1],
    "relax.sqrt": lambda _, arrays: np.sqrt(arrays[0]),
    # FoldConstant would begin a maximum with the smallest finite number, and drop NaN.
    "relax.max": lambda call, arrays: _reduced(np.max, call, arrays[0]),
    "relax.min": lambda call, arrays: _reduced(np.min, call, arrays[0]),
    "relax.maximum": lambda _, arrays: np.maximum(arrays[0], arrays[1]),
    "relax.minimum": lambda _, arrays: np.minimum(arrays[0], arrays[1]),
    "relax.equal": lambda _, arrays: np.equal(arrays[0], arrays[1]),
    "relax.not_equal": lambda _, arrays: np.not_equal(arrays[0], arrays[1]),
    "relax.less": lambda _, arrays: np.less(arrays[0], arrays[1]),
    "relax.less_equal": lambda _, arrays: np.less_equal(arrays[0], arrays[1]),
    "relax.greater": lambda _, arrays: np.greater(arrays[0], arrays[1]),
    "relax.greater_equal": lambda _, arrays: np.greater_equal(arrays[0], arrays[1]),
    "relax.logical_and": lambda _, arrays: np.logical_and(arrays[0], arrays[1]),
    "relax.logical_or": lambda _, arrays: np.logical_or(arrays[0], arrays[1]),
    "relax.logical_not": lambda _, arrays: np.logical_not(arrays[0]),
    "relax.where": lambda _, arrays: np.where(arrays[0], arrays[1], arrays[2]),
}
"""Operators of tensors alone -> their value; floats are rounded as on the target, each operation by itself."""


def _reduced(reduce: Callable[..., Array], call: RelaxCall, array: Array) -> Array:
    axes = None if call.attrs.axis is None else integers(call.attrs.axis)
    return reduce(array, axis=axes, keepdims=bool(call.attrs.keepdims))


def fold_constants(module: IRModule) -> IRModule:
    """Return the module with operators of constants computed."""
    return relax.transform.FoldConstant()(rewrite_functions(module, _Folder))


@mutator
class _Folder(PyExprMutator):  # type: ignore[misc]
    """Replaces calls by constants."""

    def visit_call_(self, call: RelaxCall) -> RelaxExpr:
        """Rewrite one call, whose arguments have been rewritten."""
        call = self.visit_expr_post_order(call)
        name = operator_name(call)
        if name == "relax.reshape":
            return self._reshape(call)
        compute = _FOLDED.get(name)
        if compute is None:
            return call
        arrays = [constant_array(self._value(argument)) for argument in call.args]
        if any(array is None for array in arrays):
            return call
        return _constant(compute(call, [array for array in arrays if array is not None]), dtype_of(call))

    def _value(self, argument: RelaxExpr) -> RelaxExpr:
        bound = self.lookup_binding(argument) if isinstance(argument, relax.Var) else None
        return argument if bound is None else bound

    def _reshape(self, call: RelaxCall) -> RelaxExpr:
        array, shape = constant_array(self._value(call.args[0])), static_shape(call)
        if array is None or shape is None or math.prod(shape) != array.size:
            return call
        return _constant(array.reshape(shape), dtype_of(call))


def _constant(array: Array, dtype: str) -> RelaxExpr:
    return relax.const(np.ascontiguousarray(array).reshape(array.shape), dtype)
