"""Normalisations that TVM's importer lacks or computes in one form only."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm, constant, positive_axes, shape_of
from crossfarm.backends.tvm.passes.relax_utils import dtype_of
from crossfarm.backends.tvm.types import RelaxExpr

_STASH = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""Element types of ONNX in which a normalisation may be computed."""


def _stashed(node: Node) -> RelaxExpr:
    """Return the first input in the type that `stash_type` asks for."""
    wanted = _STASH.get(int(node.attributes.get("stash_type", 1)), "float32")
    if node.dtype(0) == "float64":
        wanted = "float64"  # less would lose what the model has
    return node.input(0) if wanted == node.dtype(0) else node.emit(relax.op.astype(node.input(0), wanted))


def _scaled(node: Node, normal: RelaxExpr, *, bias: bool) -> RelaxExpr:
    """Return a normal value in the dtype of the input, times the scale, plus the bias."""
    if dtype_of(normal) != node.dtype(0):
        normal = node.emit(relax.op.astype(normal, node.dtype(0)))
    result = relax.op.multiply(normal, node.input(1))
    return relax.op.add(node.emit(result), node.input(2)) if bias and node.has(2) else result


def _last_axes(node: Node) -> list[int]:
    rank = len(node.shape(0))
    return list(range(positive_axes([node.attributes.get("axis", -1)], rank)[0], rank))


def _layer(node: Node) -> Sequence[RelaxExpr] | None:
    """Return a LayerNormalization with its mean and the inverse of its deviation; None when those are not asked for."""
    if not any(node.outputs[1:]):
        return None
    value, axes = _stashed(node), _last_axes(node)
    epsilon = constant(node.attributes.get("epsilon", 1e-5), dtype_of(value))
    mean = node.emit(relax.op.mean(value, axes, True))
    centred = node.emit(relax.op.subtract(value, mean))
    variance = node.emit(relax.op.mean(relax.op.multiply(centred, centred), axes, True))
    inverse = node.emit(relax.op.divide(constant(1.0, dtype_of(value)), relax.op.sqrt(relax.op.add(variance, epsilon))))
    normal = node.emit(relax.op.multiply(centred, inverse))
    return [_scaled(node, normal, bias=True), mean, inverse]


def _rms(node: Node) -> RelaxExpr | None:
    """Return an RMSNormalization over several axes; None for one over the last, which TVM has."""
    axes = _last_axes(node)
    if len(axes) == 1 and node.dtype(0) == "float32" and len(node.shape(1)) == 1:
        return None
    value = _stashed(node)
    epsilon = constant(node.attributes.get("epsilon", 1e-5), dtype_of(value))
    square = node.emit(relax.op.mean(relax.op.multiply(value, value), axes, True))
    normal = node.emit(relax.op.divide(value, relax.op.sqrt(relax.op.add(square, epsilon))))
    return _scaled(node, normal, bias=False)


def _batch(node: Node) -> Sequence[RelaxExpr] | None:
    """Return a BatchNormalization of training mode, with the running mean and variance; None for one of inference."""
    if not node.attributes.get("training_mode", 0):
        if any(node.outputs[1:]):
            raise UnsupportedForm(f"{len(node.outputs)} outputs ask for training as before opset 14")
        return None
    shape, dtype = node.shape(0), node.dtype(0)
    axes = [axis for axis in range(len(shape)) if axis != 1]
    momentum = node.attributes.get("momentum", 0.9)
    value, inner = node.input(0), [1, -1] + [1] * (len(shape) - 2)
    mean = node.emit(relax.op.mean(value, axes, True))
    centred = node.emit(relax.op.subtract(value, mean))
    variance = node.emit(relax.op.mean(relax.op.multiply(centred, centred), axes, True))
    epsilon = constant(node.attributes.get("epsilon", 1e-5), dtype)
    normal = node.emit(relax.op.divide(centred, relax.op.sqrt(relax.op.add(variance, epsilon))))
    scale, bias = (node.emit(relax.op.reshape(node.input(number), inner)) for number in (1, 2))
    result = relax.op.add(node.emit(relax.op.multiply(normal, scale)), bias)

    def running(number: int, current: RelaxExpr) -> RelaxExpr:
        kind = node.dtype(number)
        flat = relax.op.astype(node.emit(relax.op.reshape(current, [shape[1]])), kind)
        before = relax.op.multiply(node.input(number), constant(momentum, kind))
        return relax.op.add(before, relax.op.multiply(node.emit(flat), constant(1 - momentum, kind)))

    return [result, running(3, mean), running(4, variance)][: max(1, len(node.outputs))]


def _lp(node: Node) -> RelaxExpr:
    """Return an LpNormalization; what has the norm 0 stays 0."""
    value, dtype = node.input(0), node.dtype(0)
    axes = positive_axes([node.attributes.get("axis", -1)], len(shape_of(value)))
    order = node.attributes.get("p", 2)
    if order not in (1, 2):
        raise UnsupportedForm(f"p = {order}; the standard has 1 and 2")
    if order == 1:
        norm = relax.op.sum(relax.op.abs(value), axes, True)
    else:
        norm = relax.op.sqrt(relax.op.sum(relax.op.multiply(value, value), axes, True))
    norm = node.emit(norm)
    divisor = relax.op.where(relax.op.equal(norm, constant(0.0, dtype)), constant(1.0, dtype), norm)
    return relax.op.divide(value, node.emit(divisor))


CONVERTERS: dict[str, Converter] = {
    "BatchNormalization": _batch,
    "LayerNormalization": _layer,
    "LpNormalization": _lp,
    "RMSNormalization": _rms,
}
"""Operator -> its converter."""
