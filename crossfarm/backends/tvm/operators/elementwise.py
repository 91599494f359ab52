"""Elementwise operators: of several inputs pairwise, and activations that are formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import relax

from crossfarm.backends.tvm.operators.node import Converter, Node, constant, is_float
from crossfarm.backends.tvm.passes.relax_utils import constant_array
from crossfarm.backends.tvm.types import RelaxExpr

_Binary = Callable[[RelaxExpr, RelaxExpr], RelaxExpr]


def _pairwise(operator: _Binary) -> Converter:
    """Return the converter of an operator that takes any number of inputs: pairs, from the left."""

    def convert(node: Node) -> RelaxExpr:
        result = node.input(0)
        for number in range(1, len(node.inputs)):
            result = node.emit(operator(result, node.input(number)))
        return result

    return convert


def _mean(node: Node) -> RelaxExpr:
    total = _pairwise(relax.op.add)(node)
    return relax.op.divide(total, constant(len(node.inputs), node.dtype(0)))


def _mod(node: Node) -> RelaxExpr:
    """Return the remainder: with `fmod` of the dividend's sign, else of the divisor's."""
    dtype = node.dtype(0)
    if node.attributes.get("fmod", 0) or is_float(dtype) or dtype.startswith("uint"):
        return relax.op.mod(node.input(0), node.input(1))
    return relax.op.floor_mod(node.input(0), node.input(1))


def _is_inf(node: Node) -> RelaxExpr:
    value, dtype = node.input(0), node.dtype(0)
    positive = relax.op.equal(value, constant(float("inf"), dtype))
    negative = relax.op.equal(value, constant(float("-inf"), dtype))
    detect = node.attributes.get("detect_positive", 1), node.attributes.get("detect_negative", 1)
    if all(detect):
        return relax.op.logical_or(node.emit(positive), node.emit(negative))
    if not any(detect):
        return relax.op.full_like(value, constant(False, "bool"), dtype="bool")
    return positive if detect[0] else negative


def _celu(node: Node) -> RelaxExpr:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)), as the standard writes it."""
    value, dtype = node.input(0), node.dtype(0)
    alpha, one, zero = (constant(number, dtype) for number in (node.attributes.get("alpha", 1.0), 1.0, 0.0))
    grown = relax.op.subtract(relax.op.exp(relax.op.divide(value, alpha)), one)
    below = relax.op.minimum(relax.op.multiply(alpha, grown), zero)
    return relax.op.add(relax.op.maximum(value, zero), below)


def _prelu(node: Node) -> RelaxExpr:
    value, slope = node.input(0), node.input(1)
    below = relax.op.less(value, constant(0, node.dtype(0)))
    return relax.op.where(below, relax.op.multiply(value, slope), value)


def _clip(node: Node) -> RelaxExpr:
    """Return a Clip between two known bounds as the one operator that it is, any other as maximum and minimum.

    One operator compiles and runs several times as fast. Both keep NaN (passes/maxima.py), and both give the upper
    bound where the lower one is above it.
    """
    value, dtype = node.input(0), node.dtype(0)
    bounds = [_bound(node, number, name) for number, name in ((1, "min"), (2, "max"))]
    known = [None if bound is None else _number(bound) for bound in bounds]
    # A bound that is NaN bounds nothing in ONNX Runtime.
    bounds = [
        None if number is not None and math.isnan(number) else bound
        for bound, number in zip(bounds, known, strict=True)
    ]
    if dtype == "float32" and known[0] is not None and known[1] is not None and known[0] <= known[1]:
        return relax.op.clip(value, *known)
    for bound, operator in zip(bounds, (relax.op.maximum, relax.op.minimum), strict=True):
        if bound is not None:
            value = node.emit(operator(value, bound))
    return value


def _bound(node: Node, number: int, name: str) -> RelaxExpr | None:
    if node.has(number):
        return node.input(number)
    return constant(node.attributes[name], node.dtype(0)) if name in node.attributes else None


def _number(expression: RelaxExpr) -> float | None:
    array = constant_array(expression)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _sign(node: Node) -> RelaxExpr | None:
    """Return a Sign, of which TVM's alone makes 0 of NaN; None for integers."""
    if not is_float(node.dtype(0)):
        return None
    value = node.input(0)
    return relax.op.where(relax.op.isnan(value), value, relax.op.sign(value))


def _above_threshold(node: Node) -> RelaxExpr:
    """Return a ThresholdedRelu as a choice; TVM's importer multiplies by 0, which makes NaN of -infinity."""
    value, dtype = node.input(0), node.dtype(0)
    alpha = constant(node.attributes.get("alpha", 1.0), dtype)
    return relax.op.where(relax.op.greater(value, alpha), value, constant(0.0, dtype))


def _softplus(node: Node) -> RelaxExpr:
    """log(1 + exp(x)), written so that it neither overflows nor loses what is small: Taylor's series below 2^-6."""
    value, dtype = node.input(0), node.dtype(0)
    one = constant(1.0, dtype)
    small = node.emit(relax.op.exp(relax.op.negative(relax.op.abs(value))))
    series = one
    for order in (5, 4, 3, 2):
        fraction = relax.op.multiply(small, constant((order - 1) / order, dtype))
        series = relax.op.subtract(one, relax.op.multiply(fraction, series))
    near = relax.op.less(small, constant(2.0**-6, dtype))
    grown = relax.op.where(near, relax.op.multiply(small, series), relax.op.log(relax.op.add(one, small)))
    return relax.op.add(relax.op.maximum(value, constant(0.0, dtype)), grown)


def _mish(node: Node) -> RelaxExpr:
    """x * tanh(log(1 + e)) with e = exp(x), which is x * n / (n + 2) with n = e * (e + 2); beyond 20 it is x."""
    value, dtype = node.input(0), node.dtype(0)
    limit = constant(20.0 if dtype != "float16" else 5.0, dtype)
    grown = node.emit(relax.op.exp(relax.op.minimum(value, limit)))
    number = node.emit(relax.op.multiply(grown, relax.op.add(grown, constant(2.0, dtype))))
    share = relax.op.divide(number, relax.op.add(number, constant(2.0, dtype)))
    return relax.op.multiply(value, share)


CONVERTERS: dict[str, Converter] = {
    "Celu": _celu,
    "Clip": _clip,
    "IsInf": _is_inf,
    "Max": _pairwise(relax.op.maximum),
    "Mean": _mean,
    "Min": _pairwise(relax.op.minimum),
    "Mish": _mish,
    "Mod": _mod,
    "PRelu": _prelu,
    "Sign": _sign,
    "Softplus": _softplus,
    "Sum": _pairwise(relax.op.add),
    "ThresholdedRelu": _above_threshold,
}
"""Operator -> its converter."""
