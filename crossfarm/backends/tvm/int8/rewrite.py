"""Replaces quantised operators of a Relax graph (between DequantizeLinear and QuantizeLinear) by integer kernels.

The graph is rewritten in one pass, forwards. For every value that stands for quantised numbers the rewriter remembers
how it can be computed in integers (values.py): as a quantised tensor, as int32 accumulators of a product, as a sum of
two quantised tensors. Each such value is also emitted in float32, which costs nothing: what is not read in the end is
dropped. A QuantizeLinear takes the integers wherever they are known, so that an operator between two quantised tensors
never meets a float; any other operator takes the floats.

Images are kept in NHWC; the transposes around them meet and cancel in passes/layout.py.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from crossfarm.backends.tvm.int8 import (
    activations,
    arithmetic,
    channel_scale,
    pooling,
    products,
    value_bounds,
)
from crossfarm.backends.tvm.int8.activations import HardSwishValue
from crossfarm.backends.tvm.int8.channel_scale import ChannelScaledValue
from crossfarm.backends.tvm.int8.dot_instructions import IntegerUnit
from crossfarm.backends.tvm.int8.numpy_reference import QuantParams
from crossfarm.backends.tvm.int8.pooling import MaxPooledValue
from crossfarm.backends.tvm.int8.values import (
    Accumulators,
    AddedValue,
    ConcatenatedValue,
    FloatValue,
    Known,
    QuantisedValue,
    RearrangedValue,
    Value,
    Weights,
    channels_first,
    channels_last,
    clamped,
)
from crossfarm.backends.tvm.int8.windows import window_of
from crossfarm.backends.tvm.passes.relax_utils import (
    constant_array,
    constant_number,
    dtype_of,
    integers,
    operator_name,
    rewrite_functions,
    static_shape,
    without_factor,
)
from crossfarm.backends.tvm.types import IRModule, RelaxCall, RelaxExpr, RelaxVar, Tensor


def use_integers(module: IRModule, unit: IntegerUnit) -> IRModule:
    """Return the module with quantised operators as integer kernels; as it is when it has none.

    Args:
        module: tvm.IRModule as `onnx_import.import_onnx` gives it: images NCHW.
        unit: the integer instructions of the target.
    """

    @mutator
    class Rewriter(_Rewriter):
        """The rewriter for one target."""

        def __init__(self, rewritten: IRModule) -> None:
            super().__init__(rewritten)
            self.unit = unit

    return rewrite_functions(module, Rewriter) if is_quantised(module) else module


def is_quantised(module: IRModule) -> bool:
    """Say whether a module, as `onnx_import.import_onnx` gives it, holds quantised tensors."""
    bindings = [binding for block in module["main"].body.blocks for binding in block.bindings]
    return any(operator_name(binding.value) == "relax.dequantize" for binding in bindings)


class _Rewriter(PyExprMutator):  # type: ignore[misc]
    """Asks a handler about every call; see the module."""

    unit: IntegerUnit

    def __init__(self, module: IRModule) -> None:
        super().__init__(module)
        self._values: dict[RelaxVar, Known] = {}

    def visit_call_(self, call: RelaxCall) -> RelaxExpr:
        """Rewrite one call, whose arguments have been rewritten."""
        call = self.visit_expr_post_order(call)
        name = operator_name(call)
        handler = _HANDLERS.get(name) if name in _OF_STORED or not _is_stored(call) else None
        made = handler(self, call) if handler is not None else None
        return call if made is None else made

    def value(self, expression: RelaxExpr) -> Known | None:
        """Return how an expression can be computed in integers; None when it cannot."""
        while isinstance(expression, relax.Var):
            known = self._values.get(expression)
            if known is not None:
                return known
            expression = self.lookup_binding(expression)
        return None

    def parts(self, expression: RelaxExpr) -> tuple[RelaxExpr, ...]:
        """Return the fields of a tuple; none when it is not known."""
        while isinstance(expression, relax.Var):
            expression = self.lookup_binding(expression)
        return tuple(expression.fields) if isinstance(expression, relax.Tuple) else ()

    def emit(self, expression: RelaxExpr) -> RelaxVar:
        """Bind an expression to a new variable."""
        return self.builder_.emit(expression)

    def know(self, expression: RelaxExpr, value: Known) -> RelaxVar:
        """Bind an expression to a new variable, of which `value` is known."""
        variable = self.emit(expression)
        self._values[variable] = value
        return variable

    def call(self, compute: Callable[..., Tensor], *arguments: RelaxExpr, name: str) -> RelaxVar:
        """Bind a tensor expression to a new variable."""
        return self.emit(self.builder_.call_te(compute, *arguments, primfunc_name_hint=name))

    def as_float(self, value: Value) -> RelaxVar:
        """Emit a known value in float32, in the order of axes that the graph has."""
        return channels_first(self, value.as_float(self))

    def keep(self, value: Value) -> RelaxVar:
        """Return a variable for a known value, which is float32 to operators that do not know it."""
        return self.know(self.as_float(value), value)


def _quantise(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    """QuantizeLinear: take the integers of what is known, quantise the floats of what is not."""
    params = _quant_params(call, context.unit)
    dtype = dtype_of(call)
    if params is None or dtype not in ("int8", "uint8") or dtype_of(call.args[0]) != "float32":
        return None
    value = _any_value(context, call.args[0]).as_quantised(context, params)
    tensor = value.tensor
    if dtype != context.unit.activation:
        shift = 128 if dtype == "uint8" else -128
        tensor = context.call(
            functools.partial(arithmetic.change_type, shift=shift, dtype=dtype), tensor, name="retype"
        )
    return context.know(channels_first(context, tensor), value)


def _any_value(context: _Rewriter, expression: RelaxExpr) -> Value:
    """Return what is known of an expression; of constants, and of what is computed in float32, its real numbers."""
    value = context.value(expression)
    if value is not None and not isinstance(value, Weights):
        return value
    linear = activations.match_clamped_linear(expression, known=context.value, binding=context.lookup_binding)
    if linear is not None:
        return linear
    source, factor = without_factor(expression, context.lookup_binding)
    most = value_bounds.largest(expression, context.value, context.lookup_binding)
    return FloatValue(expression=expression, source=source, factor=factor, largest=most)


def _dequantise(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    """DequantizeLinear: of a constant these are weights, of anything else a quantised tensor."""
    array = constant_array(call.args[0])
    if array is not None:
        scale, zero = constant_array(call.args[1]), constant_array(call.args[2])
        if scale is None or zero is None or np.any(zero) or array.dtype not in (np.int8, np.int32):
            return None
        axis = int(call.attrs.axis) % max(array.ndim, 1) if scale.size > 1 else None
        return context.know(call, Weights(array=array, scale=scale.reshape(-1).astype(np.float64), axis=axis))
    params, dtype = _quant_params(call, context.unit), dtype_of(call.args[0])
    if params is None or dtype not in ("int8", "uint8"):
        return None
    known = context.value(call.args[0])
    if isinstance(known, QuantisedValue):
        return context.keep(dataclasses.replace(known, params=params))
    tensor = channels_last(context, call.args[0])
    if dtype != context.unit.activation:
        shift = -128 if dtype == "uint8" else 128
        compute = functools.partial(arithmetic.change_type, shift=shift, dtype=context.unit.activation)
        tensor = context.call(compute, tensor, name="retype")
    return context.keep(QuantisedValue(tensor=tensor, params=params))


def _quant_params(call: RelaxCall, unit: IntegerUnit) -> QuantParams | None:
    """Return scale and zero point of a whole tensor, the zero point in the dtype of the unit."""
    scale, zero = constant_array(call.args[1]), constant_array(call.args[2])
    if scale is None or zero is None or scale.size != 1 or zero.size != 1 or str(zero.dtype) not in ("int8", "uint8"):
        return None
    shift = {("int8", "uint8"): 128, ("uint8", "int8"): -128}.get((str(zero.dtype), unit.activation), 0)
    return QuantParams(scale=float(scale.reshape(-1)[0]), zero=int(zero.reshape(-1)[0]) + shift)


def _add(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    left, right = (context.value(argument) for argument in call.args)
    if isinstance(left, Accumulators) and isinstance(right, Weights):
        bias = left.bias_of(right)
        return None if bias is None else context.keep(dataclasses.replace(left, bias=left.bias + bias))
    if isinstance(left, QuantisedValue) and isinstance(right, QuantisedValue) and _ranks_agree(left, right):
        return context.know(call, AddedValue(left=left, right=right, expression=call))
    return None


def _ranks_agree(left: QuantisedValue, right: QuantisedValue) -> bool:
    return len(static_shape(left.tensor) or ()) == len(static_shape(right.tensor) or ()) > 0


def _multiply(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    left, right = (context.value(argument) for argument in call.args)
    if not isinstance(left, QuantisedValue) or not isinstance(right, QuantisedValue) or not _ranks_agree(left, right):
        hard_swish = activations.match_hard_swish(call, known=context.value, binding=context.lookup_binding)
        return None if hard_swish is None else context.know(call, hard_swish)
    compute = functools.partial(arithmetic.multiply, zeros=(left.params.zero, right.params.zero))
    tensor = context.call(compute, left.tensor, right.tensor, name="multiply_int8")
    channels = (static_shape(tensor) or ())[-1]
    scale = np.full(channels, left.params.scale * right.params.scale)
    product = Accumulators(tensor=tensor, scale=scale, bias=np.zeros(channels, np.int32))
    for image, scales in ((left, right), (right, left)):
        if channel_scale.is_channel_scale(image, scales):
            return context.keep(ChannelScaledValue(image=image, scales=scales, product=product))
    return context.keep(product)


def _divide(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    """Multiply by the inverse of a constant: the activations of quantised graphs are rounded to 8 bits behind it."""
    divisor = constant_array(call.args[1])
    if divisor is None or not constant_number(call.args[1], beside=call.args[0]):
        return None
    product = context.builder_.normalize(relax.op.multiply(call.args[0], relax.const(np.reciprocal(divisor))))
    known = _multiply(context, product)
    return product if known is None else known


def _relu(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    return _clamp(context, call, 0.0, float("inf"))


def _clip(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    low, high = (getattr(bound, "value", None) for bound in call.args[1:])
    if low is None or high is None:
        return None
    return _clamp(context, call, float(low), float(high))


def _clamp(context: _Rewriter, call: RelaxCall, low: float, high: float) -> RelaxExpr | None:
    value = context.value(call.args[0])
    if isinstance(value, ChannelScaledValue):
        value = value.product
    if isinstance(value, Accumulators):
        return context.keep(clamped(value, low, high))
    if isinstance(value, QuantisedValue) and (low, high) == (0.0, float("inf")):
        compute = functools.partial(arithmetic.positive, zero=value.params.zero)
        return context.keep(dataclasses.replace(value, tensor=context.call(compute, value.tensor, name="relu_int8")))
    if isinstance(value, AddedValue):
        return context.know(call, dataclasses.replace(clamped(value, low, high), expression=call))
    return None


def _max_pool(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    value = context.value(call.args[0])
    is_plain = not bool(call.attrs.ceil_mode) and str(call.attrs.layout) == "NCHW"
    window = window_of(call.attrs, integers(call.attrs.pool_size))
    if value is None or isinstance(value, HardSwishValue):
        pooled = pooling.pool_floats(context, call)
        if not is_plain:
            return pooled
        return context.know(
            pooled, MaxPooledValue(source=_any_value(context, call.args[0]), window=window, expression=pooled)
        )
    if isinstance(value, Weights) or not is_plain:
        return None
    if isinstance(value, QuantisedValue):
        return context.keep(pooling.maximum(context, value, window))
    return context.know(call, MaxPooledValue(source=value, window=window, expression=call))


def _mean_pool(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    value = context.value(call.args[0])
    if value is None or isinstance(value, HardSwishValue):
        return pooling.pool_floats(context, call)
    made = pooling.mean_pool(context, value, call) if isinstance(value, QuantisedValue) else None
    return None if made is None else context.keep(made)


def _global_mean(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    value = context.value(call.args[0])
    made = pooling.global_mean(context, value, call) if isinstance(value, QuantisedValue) else None
    return None if made is None else context.keep(made)


def _concatenate(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    """Concatenation, as soon as one part is known in integers: parts in float32 are quantised each by itself."""
    shape = static_shape(call)
    parts = context.parts(call.args[0])
    if shape is None or not parts or dtype_of(call) != "float32":
        return None
    values = tuple(_any_value(context, part) for part in parts)
    if all(isinstance(value, FloatValue) for value in values):
        return None
    axis = 0 if call.attrs.axis is None else int(call.attrs.axis) % len(shape)
    return context.know(call, ConcatenatedValue(parts=values, axis=axis, expression=call))


def _move(context: _Rewriter, call: RelaxCall) -> RelaxExpr | None:
    """Reshape, flatten, transpose: what moves numbers moves integers too."""
    value = context.value(call.args[0])
    if value is None:
        return None

    def move(tensor: RelaxExpr) -> RelaxExpr:
        return relax.Call(call.op, [tensor, *call.args[1:]], call.attrs, list(call.ty_args))

    if isinstance(value, Weights):
        return _move_weights(context, call, value)
    if isinstance(value, QuantisedValue):
        tensor = context.emit(move(channels_first(context, value.tensor)))
        moved = dataclasses.replace(value, tensor=channels_last(context, tensor))
        return context.know(call, moved) if _is_stored(call) else context.keep(moved)
    return context.know(call, RearrangedValue(source=value, move=move, expression=call))


def _is_stored(call: RelaxCall) -> bool:
    """Say whether an operator takes the stored integers themselves, not the real numbers that they stand for."""
    return bool(call.args) and not isinstance(call.args[0], relax.Tuple) and dtype_of(call.args[0]) in ("int8", "uint8")


def _move_weights(context: _Rewriter, call: RelaxCall, weights: Weights) -> RelaxExpr | None:
    name, shape = operator_name(call), static_shape(call)
    if name == "relax.reshape" and shape is not None and weights.array.ndim <= 1:
        return context.know(call, weights)
    if name == "relax.permute_dims" and weights.array.ndim == 2 and integers(call.attrs.axes or (1, 0)) == (1, 0):
        axis = None if weights.axis is None else 1 - weights.axis
        return context.know(call, dataclasses.replace(weights, array=weights.array.T, axis=axis))
    return None


_HANDLERS: Mapping[str, Callable[[_Rewriter, RelaxCall], RelaxExpr | None]] = {
    "relax.quantize": _quantise,
    "relax.dequantize": _dequantise,
    "relax.nn.conv2d": products.convolve,
    "relax.matmul": products.multiply_matrices,
    "relax.add": _add,
    "relax.multiply": _multiply,
    "relax.divide": _divide,
    "relax.nn.relu": _relu,
    "relax.clip": _clip,
    "relax.nn.max_pool2d": _max_pool,
    "relax.nn.avg_pool2d": _mean_pool,
    "relax.nn.adaptive_avg_pool2d": _global_mean,
    "relax.mean": _global_mean,
    "relax.concat": _concatenate,
    "relax.reshape": _move,
    "relax.permute_dims": _move,
    "relax.squeeze": _move,
    "relax.expand_dims": _move,
}
"""Operator -> what makes it of integers; None from it leaves the operator in float32."""
_OF_STORED = frozenset({"relax.quantize", "relax.dequantize"}) | {
    name for name, handler in _HANDLERS.items() if handler is _move
}
"""Those that may take stored integers too; any other operator over them is about the integers themselves."""
