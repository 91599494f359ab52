"""Brings images into NHWC, and makes the transposes that this leaves behind meet and cancel.

TVM's ConvertLayout puts a transpose before and behind every operator that it has no rule for, and ONNX graphs bring
transposes of their own. A transpose of a large tensor costs as much as a small convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from crossfarm.backends.tvm.passes.constant_folding import fold_constants
from crossfarm.backends.tvm.passes.relax_utils import (
    constant_array,
    integers,
    operator_name,
    rewrite_functions,
    static_shape,
)
from crossfarm.backends.tvm.types import IRModule, RelaxCall, RelaxExpr

_ELEMENTWISE = frozenset(
    "relax." + name
    for name in (
        "abs", "add", "ceil", "clip", "divide", "erf", "exp", "floor", "log", "maximum", "minimum", "multiply",
        "negative", "nn.gelu", "nn.leakyrelu", "nn.relu", "nn.silu", "power", "round", "rsqrt", "sigmoid", "sqrt",
        "square", "subtract", "tanh",
    )
)  # fmt: skip


_OF_IMAGES = {"relax.max": relax.op.max, "relax.mean": relax.op.mean, "relax.sum": relax.op.sum}
_TO_FIRST, _PIXELS = [0, 3, 1, 2], [2, 3]


def to_channels_last(module: IRModule) -> IRModule:
    """Return a module whose 2-D convolutions are NHWC over HWIO weights, with as few transposes as possible."""
    if _has_convolutions(module):
        module = relax.transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "HWIO"]})(module)
    return rewrite_functions(fold_constants(relax.transform.Normalize()(module)), _Sinker)


def _has_convolutions(module: IRModule) -> bool:
    """Say whether there is something to convert; ConvertLayout does not leave every other graph as it is."""
    blocks = [
        block
        for function in module.functions.values()
        if isinstance(function, relax.Function)
        for block in function.body.blocks
    ]
    return any(operator_name(binding.value) == "relax.nn.conv2d" for block in blocks for binding in block.bindings)


def inverse(axes: Sequence[int]) -> list[int]:
    """Return the permutation that undoes one."""
    return [list(axes).index(axis) for axis in range(len(axes))]


def only_moves_ones(shape: Sequence[int], axes: Sequence[int]) -> bool:
    """Say whether a permutation leaves the order of all axes larger than 1, so that memory stays as it is."""
    moved = [axis for axis in axes if shape[axis] != 1]
    return moved == sorted(moved)


@mutator
class _Sinker(PyExprMutator):  # type: ignore[misc]
    """Moves permute_dims behind elementwise operators, where it meets its inverse."""

    def visit_call_(self, call: RelaxCall) -> RelaxExpr:
        """Rewrite one call, whose arguments have been rewritten."""
        call = self.visit_expr_post_order(call)
        name = operator_name(call)
        if name == "relax.permute_dims" and call.attrs.axes is not None:
            return self._merge(call)
        if name in _OF_IMAGES:
            reduced = self._reduce_image(call)
            return call if reduced is None else reduced
        if name in _ELEMENTWISE:
            sunk = self._sink(call)
            return call if sunk is None else sunk
        return call

    def _transposed(self, expression: RelaxExpr) -> tuple[RelaxExpr, list[int]] | None:
        """Return source and axes when an expression is the result of a permute_dims."""
        if not isinstance(expression, relax.Var):
            return None
        bound = self.lookup_binding(expression)
        if operator_name(bound) != "relax.permute_dims" or bound.attrs.axes is None:
            return None
        return bound.args[0], list(integers(bound.attrs.axes))

    def _merge(self, call: RelaxCall) -> RelaxExpr:
        source = self._transposed(call.args[0])
        if source is None:
            return call
        axes = [source[1][axis] for axis in integers(call.attrs.axes)]
        if axes == sorted(axes):
            return source[0]
        return self.builder_.normalize(relax.op.permute_dims(source[0], axes))

    def _sink(self, call: RelaxCall) -> RelaxExpr | None:
        found = next((found for found in map(self._transposed, call.args) if found is not None), None)
        if found is None:
            return None
        axes = found[1]
        arguments = [self._untransposed(argument, axes) for argument in call.args]
        if any(argument is None for argument in arguments):
            return None
        inner = self.builder_.emit(relax.Call(call.op, arguments, call.attrs, list(call.ty_args)))
        return self.builder_.normalize(relax.op.permute_dims(inner, axes))

    def _reduce_image(self, call: RelaxCall) -> RelaxExpr | None:
        """Reduce an image over its pixels with its channels last, so that its transpose is one of few numbers."""
        found = self._transposed(call.args[0])
        if found is None or found[1] != _TO_FIRST or call.attrs.axis is None:
            return None
        if sorted(axis % 4 for axis in integers(call.attrs.axis)) != _PIXELS:
            return None
        keep = bool(call.attrs.keepdims)
        inner = self.builder_.emit(_OF_IMAGES[operator_name(call)](found[0], axis=[1, 2], keepdims=keep))
        return self.builder_.normalize(relax.op.permute_dims(inner, _TO_FIRST)) if keep else inner

    def _untransposed(self, argument: RelaxExpr, axes: list[int]) -> RelaxExpr | None:
        """Return the expression that becomes `argument` when `axes` are applied; None when there is no cheap one."""
        found = self._transposed(argument)
        if found is not None and found[1] == axes:
            return found[0]
        if isinstance(argument, tirx.IntImm | tirx.FloatImm):
            return argument
        shape = static_shape(argument)
        return None if shape is None or len(shape) > len(axes) else self._turned(argument, shape, axes)

    def _turned(self, argument: RelaxExpr, shape: tuple[int, ...], axes: list[int]) -> RelaxExpr | None:
        full = (1,) * (len(axes) - len(shape)) + shape
        array = constant_array(argument)
        if array is not None:
            turned = array.reshape(full).transpose(inverse(axes))
            return relax.const(np.ascontiguousarray(turned), str(array.dtype))
        if len(shape) < len(axes):
            return argument if all(extent == 1 for extent in shape) else None
        if only_moves_ones(shape, inverse(axes)):
            return self.builder_.emit(relax.op.reshape(argument, [shape[axis] for axis in inverse(axes)]))
        return self.builder_.emit(relax.op.permute_dims(argument, inverse(axes)))


@mutator
class FreeTransposes(PyExprMutator):  # type: ignore[misc]
    """Makes a permute_dims that moves no data a reshape, which is a view."""

    def visit_call_(self, call: RelaxCall) -> RelaxExpr:
        """Rewrite one call, whose arguments have been rewritten."""
        call = self.visit_expr_post_order(call)
        if operator_name(call) != "relax.permute_dims" or call.attrs.axes is None:
            return call
        shape, axes = static_shape(call.args[0]), integers(call.attrs.axes)
        if shape is None or not only_moves_ones(shape, axes):
            return call
        return self.builder_.normalize(relax.op.reshape(call.args[0], [shape[axis] for axis in axes]))
