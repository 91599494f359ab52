"""Replaces quantised operators of a Relax graph (between DequantizeLinear and QuantizeLinear) by integer kernels.

The graph is walked once, forwards. For every value that stands for quantised numbers the walk remembers how it can be
had in integers (int8_values.py): as stored ones, as 32-bit sums of a product, as a sum of two stored tensors. Each such
value is also emitted in float32, which costs nothing: what nobody reads in the end is dropped. A QuantizeLinear takes
the integers wherever they are known, so that an operator between two quantised tensors never meets a float; any other
operator takes the floats.

Images are kept with their channels last; the transposes around them meet and cancel in layout.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from crossfarm.backends.tvm.int8 import (
    activations,
    arithmetic,
    channel_scale,
    convolution,
    depthwise,
    depthwise_dot4,
    pooling,
    value_bounds,
    winograd,
)
from crossfarm.backends.tvm.int8.dot_instructions import IntegerUnit
from crossfarm.backends.tvm.int8.numpy_reference import Steps
from crossfarm.backends.tvm.int8.values import (
    Gated,
    Joined,
    Known,
    Moved,
    Pooled,
    Real,
    Stored,
    Summed,
    Sums,
    Swished,
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


def use_integers(module: Any, unit: IntegerUnit) -> Any:
    """Return the module with quantised operators as integer kernels; as it is when it has none.

    Args:
        module: tvm.IRModule as `importing.import_onnx` gives it: images NCHW.
        unit: the integer instructions of the target.
    """

    @mutator
    class Rewriter(_Rewriter):
        """The rewriter for one target."""

        def __init__(self, rewritten: Any) -> None:
            super().__init__(rewritten)
            self.unit = unit

    return rewrite_functions(module, Rewriter) if is_quantised(module) else module


def is_quantised(module: Any) -> bool:
    """Say whether a module, as `importing.import_onnx` gives it, holds quantised tensors."""
    bindings = [binding for block in module["main"].body.blocks for binding in block.bindings]
    return any(operator_name(binding.value) == "relax.dequantize" for binding in bindings)


class _Rewriter(PyExprMutator):  # type: ignore[misc]
    """Asks a handler about every call; see the module."""

    unit: IntegerUnit

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self._values: dict[Any, Known] = {}

    def visit_call_(self, call: Any) -> Any:
        """Rewrite one call, whose arguments have been rewritten."""
        call = self.visit_expr_post_order(call)
        handler = _HANDLERS.get(operator_name(call))
        made = handler(self, call) if handler is not None else None
        return call if made is None else made

    def value(self, expression: Any) -> Known | None:
        """Return how an expression can be had in integers."""
        while isinstance(expression, relax.Var):
            known = self._values.get(expression)
            if known is not None:
                return known
            expression = self.lookup_binding(expression)
        return None

    def parts(self, expression: Any) -> tuple[Any, ...]:
        """Return the fields of a tuple; none when it is not known."""
        while isinstance(expression, relax.Var):
            expression = self.lookup_binding(expression)
        return tuple(expression.fields) if isinstance(expression, relax.Tuple) else ()

    def emit(self, expression: Any) -> Any:
        """Bind an expression to a new variable."""
        return self.builder_.emit(expression)

    def know(self, expression: Any, value: Known) -> Any:
        """Bind an expression to a new variable, of which `value` is known."""
        variable = self.emit(expression)
        self._values[variable] = value
        return variable

    def call(self, compute: Callable[..., Any], *arguments: Any, name: str) -> Any:
        """Bind a tensor expression to a new variable."""
        return self.emit(self.builder_.call_te(compute, *arguments, primfunc_name_hint=name))

    def real(self, value: Value) -> Any:
        """Emit a known value in float32, in the order of axes that the graph has."""
        return channels_first(self, value.real(self))

    def keep(self, value: Value) -> Any:
        """Return a variable for a known value, which is float32 for whoever does not know it."""
        return self.know(self.real(value), value)


def _quantise(walk: _Rewriter, call: Any) -> Any | None:
    """QuantizeLinear: take the integers of what is known, quantise the floats of what is not."""
    steps = _steps(call, walk.unit)
    dtype = dtype_of(call)
    if steps is None or dtype not in ("int8", "uint8") or dtype_of(call.args[0]) != "float32":
        return None
    value = _any_value(walk, call.args[0]).stored(walk, steps)
    tensor = value.tensor
    if dtype != walk.unit.activation:
        shift = 128 if dtype == "uint8" else -128
        tensor = walk.call(functools.partial(arithmetic.change_type, shift=shift, dtype=dtype), tensor, name="retype")
    return walk.know(channels_first(walk, tensor), value)


def _any_value(walk: _Rewriter, expression: Any) -> Value:
    """Return what is known of an expression; of constants, and of what is computed in float32, its real numbers."""
    value = walk.value(expression)
    if value is not None and not isinstance(value, Weights):
        return value
    line = activations.clamped_line(expression, known=walk.value, binding=walk.lookup_binding)
    if line is not None:
        return line
    source, factor = without_factor(expression, walk.lookup_binding)
    most = value_bounds.largest(expression, walk.value, walk.lookup_binding)
    return Real(expression=expression, source=source, factor=factor, largest=most)


def _dequantise(walk: _Rewriter, call: Any) -> Any | None:
    """DequantizeLinear: of a constant these are weights, of anything else stored integers."""
    array = constant_array(call.args[0])
    if array is not None:
        scale, zero = constant_array(call.args[1]), constant_array(call.args[2])
        if scale is None or zero is None or np.any(zero) or array.dtype not in (np.int8, np.int32):
            return None
        axis = int(call.attrs.axis) % max(array.ndim, 1) if scale.size > 1 else None
        return walk.know(call, Weights(array=array, scale=scale.reshape(-1).astype(np.float64), axis=axis))
    steps, dtype = _steps(call, walk.unit), dtype_of(call.args[0])
    if steps is None or dtype not in ("int8", "uint8"):
        return None
    known = walk.value(call.args[0])
    if isinstance(known, Stored):
        return walk.keep(dataclasses.replace(known, steps=steps))
    tensor = channels_last(walk, call.args[0])
    if dtype != walk.unit.activation:
        shift = -128 if dtype == "uint8" else 128
        compute = functools.partial(arithmetic.change_type, shift=shift, dtype=walk.unit.activation)
        tensor = walk.call(compute, tensor, name="retype")
    return walk.keep(Stored(tensor=tensor, steps=steps))


def _steps(call: Any, unit: IntegerUnit) -> Steps | None:
    """Return scale and zero point of a whole tensor, the zero point as the unit stores it."""
    scale, zero = constant_array(call.args[1]), constant_array(call.args[2])
    if scale is None or zero is None or scale.size != 1 or zero.size != 1 or str(zero.dtype) not in ("int8", "uint8"):
        return None
    shift = {("int8", "uint8"): 128, ("uint8", "int8"): -128}.get((str(zero.dtype), unit.activation), 0)
    return Steps(scale=float(scale.reshape(-1)[0]), zero=int(zero.reshape(-1)[0]) + shift)


def _convolve(walk: _Rewriter, call: Any) -> Any | None:
    image, weights = walk.value(call.args[0]), walk.value(call.args[1])
    if not isinstance(image, Stored) or not isinstance(weights, Weights) or weights.array.dtype != np.int8:
        return None
    attributes = call.attrs
    layouts = (str(attributes.data_layout), str(attributes.kernel_layout))
    if layouts != ("NCHW", "OIHW") or weights.axis not in (None, 0):
        return None
    kernel = np.ascontiguousarray(weights.array.transpose(2, 3, 1, 0))
    window, groups = window_of(attributes, kernel.shape[:2]), int(attributes.groups)
    _, height, width, channels = static_shape(image.tensor) or ()
    if min(window.output(height, width)) < 1:
        return None
    zero = image.steps.zero
    offsets = -zero * kernel.astype(np.int64).sum(axis=(0, 1, 2))
    is_depthwise = groups == channels and kernel.shape[2:] == (1, channels) and channels > 1
    if is_depthwise and math.prod(window.kernel) <= depthwise.MAX_TAPS:
        taps, dot = kernel[:, :, 0], depthwise_dot4.dot_for(walk.unit, channels)
        if dot is None:
            made = depthwise.convolve(image.tensor, taps, zero=zero, window=window, builder=walk.builder_)
            offsets = np.zeros_like(offsets)
        else:
            made = depthwise_dot4.convolve(image.tensor, taps, zero=zero, window=window, builder=walk.builder_, dot=dot)
    else:
        made = winograd.convolve(
            image.tensor, kernel, zero=zero, window=window, groups=groups, builder=walk.builder_, unit=walk.unit
        )
    return walk.keep(_sums(walk.emit(made), image, weights, kernel, offsets))


def _sums(tensor: Any, left: Stored, weights: Weights, products: Any, offsets: Any) -> Sums:
    """Return what is known of sums of products with the numbers of all axes but the last of `products`."""
    scale = np.broadcast_to(left.steps.scale * weights.scale, offsets.shape)
    most = 255.0 * np.abs(products.astype(np.int64)).reshape(-1, products.shape[-1]).sum(axis=0).max(initial=0)
    return Sums(
        tensor=tensor, scale=np.ascontiguousarray(scale), bias=offsets.astype(np.int32), largest_product=float(most)
    )


def _multiply_matrices(walk: _Rewriter, call: Any) -> Any | None:
    left, weights = walk.value(call.args[0]), walk.value(call.args[1])
    if not isinstance(left, Stored) or not isinstance(weights, Weights) or weights.array.dtype != np.int8:
        return None
    shape = static_shape(left.tensor) or ()
    if len(shape) != 2 or weights.array.ndim != 2 or weights.axis not in (None, 1):
        return None
    made = convolution.multiply(left.tensor, weights.array, builder=walk.builder_, unit=walk.unit)
    offsets = -left.steps.zero * weights.array.astype(np.int64).sum(axis=0)
    return walk.keep(_sums(walk.emit(made), left, weights, weights.array, offsets))


def _add(walk: _Rewriter, call: Any) -> Any | None:
    left, right = (walk.value(argument) for argument in call.args)
    if isinstance(left, Sums) and isinstance(right, Weights):
        bias = left.bias_of(right)
        return None if bias is None else walk.keep(dataclasses.replace(left, bias=left.bias + bias))
    if isinstance(left, Stored) and isinstance(right, Stored) and _ranks_agree(left, right):
        return walk.know(call, Summed(left=left, right=right, sum=call))
    return None


def _ranks_agree(left: Stored, right: Stored) -> bool:
    return len(static_shape(left.tensor) or ()) == len(static_shape(right.tensor) or ()) > 0


def _multiply(walk: _Rewriter, call: Any) -> Any | None:
    left, right = (walk.value(argument) for argument in call.args)
    if not isinstance(left, Stored) or not isinstance(right, Stored) or not _ranks_agree(left, right):
        swished = activations.hard_swish(call, known=walk.value, binding=walk.lookup_binding)
        return None if swished is None else walk.know(call, swished)
    compute = functools.partial(arithmetic.multiply, zeros=(left.steps.zero, right.steps.zero))
    tensor = walk.call(compute, left.tensor, right.tensor, name="multiply_int8")
    channels = (static_shape(tensor) or ())[-1]
    scale = np.full(channels, left.steps.scale * right.steps.scale)
    product = Sums(tensor=tensor, scale=scale, bias=np.zeros(channels, np.int32))
    for image, gate in ((left, right), (right, left)):
        if channel_scale.is_gate(image, gate):
            return walk.keep(Gated(image=image, gate=gate, product=product))
    return walk.keep(product)


def _divide(walk: _Rewriter, call: Any) -> Any | None:
    """Multiply by the inverse of a constant: the activations of quantised graphs are rounded to 8 bits behind it."""
    divisor = constant_array(call.args[1])
    if divisor is None or not constant_number(call.args[1], beside=call.args[0]):
        return None
    product = walk.builder_.normalize(relax.op.multiply(call.args[0], relax.const(np.reciprocal(divisor))))
    known = _multiply(walk, product)
    return product if known is None else known


def _relu(walk: _Rewriter, call: Any) -> Any | None:
    return _clamp(walk, call, 0.0, float("inf"))


def _clip(walk: _Rewriter, call: Any) -> Any | None:
    low, high = (getattr(bound, "value", None) for bound in call.args[1:])
    if low is None or high is None:
        return None
    return _clamp(walk, call, float(low), float(high))


def _clamp(walk: _Rewriter, call: Any, low: float, high: float) -> Any | None:
    value = walk.value(call.args[0])
    if isinstance(value, Gated):
        value = value.product
    if isinstance(value, Sums):
        return walk.keep(clamped(value, low, high))
    if isinstance(value, Stored) and (low, high) == (0.0, float("inf")):
        compute = functools.partial(arithmetic.positive, zero=value.steps.zero)
        return walk.keep(dataclasses.replace(value, tensor=walk.call(compute, value.tensor, name="relu_int8")))
    if isinstance(value, Summed):
        return walk.know(call, dataclasses.replace(clamped(value, low, high), sum=call))
    return None


def _max_pool(walk: _Rewriter, call: Any) -> Any | None:
    value = walk.value(call.args[0])
    is_plain = not bool(call.attrs.ceil_mode) and str(call.attrs.layout) == "NCHW"
    window = window_of(call.attrs, integers(call.attrs.pool_size))
    if value is None or isinstance(value, Swished):
        pooled = pooling.of_reals(walk, call)
        if not is_plain:
            return pooled
        return walk.know(pooled, Pooled(of=_any_value(walk, call.args[0]), window=window, pooled=pooled))
    if isinstance(value, Weights) or not is_plain:
        return None
    if isinstance(value, Stored):
        return walk.keep(pooling.maximum(walk, value, window))
    return walk.know(call, Pooled(of=value, window=window, pooled=call))


def _mean_pool(walk: _Rewriter, call: Any) -> Any | None:
    value = walk.value(call.args[0])
    if value is None or isinstance(value, Swished):
        return pooling.of_reals(walk, call)
    made = pooling.mean_pool(walk, value, call) if isinstance(value, Stored) else None
    return None if made is None else walk.keep(made)


def _global_mean(walk: _Rewriter, call: Any) -> Any | None:
    value = walk.value(call.args[0])
    made = pooling.global_mean(walk, value, call) if isinstance(value, Stored) else None
    return None if made is None else walk.keep(made)


def _join(walk: _Rewriter, call: Any) -> Any | None:
    """Concatenation, as soon as one part is known in integers: what else is computed in float32 is rounded alone."""
    shape = static_shape(call)
    parts = walk.parts(call.args[0])
    if shape is None or not parts or dtype_of(call) != "float32":
        return None
    values = tuple(_any_value(walk, part) for part in parts)
    if all(isinstance(value, Real) for value in values):
        return None
    axis = 0 if call.attrs.axis is None else int(call.attrs.axis) % len(shape)
    return walk.know(call, Joined(parts=values, axis=axis, joined=call))


def _move(walk: _Rewriter, call: Any) -> Any | None:
    """Reshape, flatten, transpose: what moves numbers moves integers too."""
    value = walk.value(call.args[0])
    if value is None:
        return None

    def move(tensor: Any) -> Any:
        return relax.Call(call.op, [tensor, *call.args[1:]], call.attrs, list(call.ty_args))

    if isinstance(value, Weights):
        return _move_weights(walk, call, value)
    if isinstance(value, Stored):
        tensor = walk.emit(move(channels_first(walk, value.tensor)))
        return walk.keep(dataclasses.replace(value, tensor=channels_last(walk, tensor)))
    return walk.know(call, Moved(of=value, move=move, moved=call))


def _move_weights(walk: _Rewriter, call: Any, weights: Weights) -> Any | None:
    name, shape = operator_name(call), static_shape(call)
    if name == "relax.reshape" and shape is not None and weights.array.ndim <= 1:
        return walk.know(call, weights)
    if name == "relax.permute_dims" and weights.array.ndim == 2 and integers(call.attrs.axes or (1, 0)) == (1, 0):
        axis = None if weights.axis is None else 1 - weights.axis
        return walk.know(call, dataclasses.replace(weights, array=weights.array.T, axis=axis))
    return None


_HANDLERS: Mapping[str, Callable[[_Rewriter, Any], Any | None]] = {
    "relax.quantize": _quantise,
    "relax.dequantize": _dequantise,
    "relax.nn.conv2d": _convolve,
    "relax.matmul": _multiply_matrices,
    "relax.add": _add,
    "relax.multiply": _multiply,
    "relax.divide": _divide,
    "relax.nn.relu": _relu,
    "relax.clip": _clip,
    "relax.nn.max_pool2d": _max_pool,
    "relax.nn.avg_pool2d": _mean_pool,
    "relax.nn.adaptive_avg_pool2d": _global_mean,
    "relax.mean": _global_mean,
    "relax.concat": _join,
    "relax.reshape": _move,
    "relax.permute_dims": _move,
    "relax.squeeze": _move,
    "relax.expand_dims": _move,
}
"""Operator -> what makes it of integers; None from it leaves the operator in float32."""
