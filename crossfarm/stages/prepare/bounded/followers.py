"""Which places of a result count, where an operator follows one whose extent depends on data.

The places that count are always the first ones of an axis, and what an operator makes of them must not depend on the
others. So each operator has a rule: what it does with rows is the same on all of them, or the rest is put out of the
way first. An operator without a rule is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from crossfarm.stages.prepare.bounded import movement
from crossfarm.stages.prepare.bounded.rules import Rule, joined, kept, named_axes, only, shape_of
from crossfarm.stages.prepare.bounded.walk import STANDARD, Unfit, Walk, attribute, axis_of

if TYPE_CHECKING:
    import onnx

_BATCHED = (
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MaxPool",
)


def follow(walk: Walk, node: onnx.NodeProto) -> None:
    """Add a node some of whose inputs have places that do not count.

    Raises:
        Unfit: what it makes of the places that count depends on the others, or nobody knows.
    """
    rule = RULES.get(node.op_type) if node.domain in STANDARD else None
    if rule is None:
        raise Unfit("what it makes of places that do not count is not known")
    open_inputs = [name for name in node.input if name and walk.shape(name) is None]
    if open_inputs:
        raise Unfit(f"the shape of its input {open_inputs[0]!r} is not known")
    found = rule(walk, node)
    for name, counts in zip(node.output, found, strict=False):
        if name and counts:
            walk.counts[name] = dict(counts)


def _elementwise(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    shapes = {name: shape_of(walk, name) for name in node.input if name}
    rank = max(map(len, shapes.values()))
    found: dict[int, str] = {}
    for name, shape in shapes.items():
        for axis, count in walk.counts_of(name).items():
            joined(found, axis + rank - len(shape), count)
    for name, shape in shapes.items():
        for place in found:
            own = place - rank + len(shape)
            if own >= 0 and own not in walk.counts_of(name) and shape[own] != 1:
                raise Unfit(f"its input {name!r} has {shape[own]} fixed places where others depend on data")
    return kept(walk, node, found)


def _quantised(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    only(walk, node, 0)
    rank = len(shape_of(walk, node.input[0]))
    axis = axis_of(int(attribute(node, "axis", 1)), rank)
    if math.prod(shape_of(walk, node.input[1])) != 1 and axis in walk.counts_of(node.input[0]):
        raise Unfit("it has a scale for each of the places")
    return kept(walk, node, dict(walk.counts_of(node.input[0])))


def _lowest(kind: Any) -> Any:
    return -np.inf if kind.kind == "f" else np.iinfo(kind).min if kind.kind in "iu" else False


def _highest(kind: Any) -> Any:
    return np.inf if kind.kind == "f" else np.iinfo(kind).max if kind.kind in "iu" else True


def lowest_or_highest(is_lowest: bool) -> Callable[[Any], Any]:
    """Return what gives the lowest number of a NumPy dtype, or the highest."""
    return _lowest if is_lowest else _highest


def masked(walk: Walk, name: str, axis: int, count: str, value: Callable[[Any], Any]) -> str:
    """Return a value with another number in the places of an axis that do not count."""
    import onnx

    shape = shape_of(walk, name)
    column = [1] * (len(shape) - axis - 1)
    places = walk.constant(np.arange(shape[axis]).reshape([shape[axis], *column]))
    kind = onnx.helper.tensor_dtype_to_np_dtype(walk.element(name))
    rest = walk.constant(np.asarray(value(kind), kind), kind)
    result = walk.add("Where", walk.add("Less", places, count), name, rest)
    walk.counts[result] = dict(walk.counts_of(name))
    return result


_NEUTRAL: dict[str, Callable[[Any], Any]] = {
    "ArgMax": _lowest,
    "ArgMin": _highest,
    "LogSoftmax": _lowest,
    "ReduceL1": lambda _: 0,
    "ReduceL2": lambda _: 0,
    "ReduceMax": _lowest,
    "ReduceMin": _highest,
    "ReduceProd": lambda _: 1,
    "ReduceSum": lambda _: 0,
    "ReduceSumSquare": lambda _: 0,
    "Softmax": _lowest,
}
"""What changes nothing in the places that do not count."""


def _reduce(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    only(walk, node, 0)
    name, rank = node.input[0], len(shape_of(walk, node.input[0]))
    given = named_axes(walk, node)
    axes = [axis_of(axis, rank) for axis in given] if given else list(range(rank))
    if not given and attribute(node, "noop_with_empty_axes", 0):
        axes = []
    counts = dict(walk.counts_of(name))
    for axis in sorted(set(axes) & set(counts)):
        if node.op_type not in _NEUTRAL:
            raise Unfit(f"it reduces the axis {axis}, whose extent depends on data")
        name = masked(walk, name, axis, counts.pop(axis), _NEUTRAL[node.op_type])
    node.input[0] = name
    if attribute(node, "keepdims", 1):
        return kept(walk, node, counts)
    left = [axis for axis in range(rank) if axis not in axes]
    return kept(walk, node, {left.index(axis): count for axis, count in counts.items()})


def _arg(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    name, rank = node.input[0], len(shape_of(walk, node.input[0]))
    axis = axis_of(int(attribute(node, "axis", 0)), rank)
    counts = dict(walk.counts_of(name))
    if axis in counts:
        if attribute(node, "select_last_index", 0):
            raise Unfit("it takes the last of equals of an axis whose extent depends on data")
        node.input[0] = masked(walk, name, axis, counts.pop(axis), _NEUTRAL[node.op_type])
    if attribute(node, "keepdims", 1):
        return kept(walk, node, counts)
    return kept(walk, node, {place - (place > axis): count for place, count in counts.items()})


def _softmax(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    name = node.input[0]
    axis = axis_of(int(attribute(node, "axis", -1)), len(shape_of(walk, name)))
    counts = dict(walk.counts_of(name))
    if axis in counts:
        node.input[0] = masked(walk, name, axis, counts[axis], _NEUTRAL[node.op_type])
    return kept(walk, node, counts)


def _along(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    """Of an operator that works along the axes from one on, as LayerNormalization does."""
    only(walk, node, 0)
    rank = len(shape_of(walk, node.input[0]))
    axis = axis_of(int(attribute(node, "axis", -1)), rank)
    if any(place >= axis for place in walk.counts_of(node.input[0])):
        raise Unfit("it normalises an axis whose extent depends on data")
    return kept(walk, node, dict(walk.counts_of(node.input[0])))


def _cum_sum(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    """The first sums do not depend on what comes behind them, unless they begin at the end."""
    only(walk, node, 0)
    if attribute(node, "reverse", 0):
        raise Unfit("it adds up from the end")
    return kept(walk, node, dict(walk.counts_of(node.input[0])))


def _top_k(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    """Of equals the first comes first, so that what does not count, behind all else, is never in the way."""
    name = node.input[0]
    axis = axis_of(int(attribute(node, "axis", -1)), len(shape_of(walk, name)))
    counts = dict(walk.counts_of(name))
    if walk.array(node.input[1]) is None:
        raise Unfit("how many it looks for depends on data too")
    if axis in counts:
        largest = bool(attribute(node, "largest", 1))
        node.input[0] = masked(walk, name, axis, counts.pop(axis), lowest_or_highest(largest))
    return kept(walk, node, counts)


def _matmul(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    """Rows of the first, columns of the second; of what is summed over, zeros stand in the way of nothing."""
    ranks = [len(shape_of(walk, name)) for name in node.input[:2]]
    if min(ranks) < 2:
        raise Unfit("it multiplies with a vector")
    rank, found = max(ranks), {}
    for number, summed in ((0, ranks[0] - 1), (1, ranks[1] - 2)):
        counts = dict(walk.counts_of(node.input[number]))
        if summed in counts:
            node.input[number] = masked(walk, node.input[number], summed, counts.pop(summed), lambda _: 0)
        for axis, count in counts.items():
            if axis < ranks[number] - 2:
                raise Unfit("it multiplies as many pairs of matrices as depends on data")
            found[axis + rank - ranks[number]] = count
    return kept(walk, node, found)


def _gemm(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    only(walk, node, 0)
    row = 1 if attribute(node, "transA", 0) else 0
    counts = dict(walk.counts_of(node.input[0]))
    if set(counts) - {row}:
        raise Unfit("it sums over an axis whose extent depends on data")
    if len(node.input) > 2 and node.input[2] and len(shape_of(walk, node.input[2])) > 1:
        raise Unfit("it adds a number of rows of its own")
    return kept(walk, node, {0: counts[row]} if row in counts else {})


def _batched(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    only(walk, node, 0)
    if set(walk.counts_of(node.input[0])) - {0}:
        raise Unfit("more of its input than the number of images depends on data")
    return kept(walk, node, dict(walk.counts_of(node.input[0])))


def _roi_align(walk: Walk, node: onnx.NodeProto) -> list[dict[int, str]]:
    only(walk, node, 1, 2)
    rois, images = walk.counts_of(node.input[1]), walk.counts_of(node.input[2])
    if set(rois) - {0} or (images and images != rois):
        raise Unfit("its regions and their images have different numbers of places that count")
    return kept(walk, node, dict(rois))


_ELEMENTWISE = (
    *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh"),
    *("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BitShift"),
    *("Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh"),
    *("Div",),
    *("Elu", "Equal", "Erf", "Exp"),
    *("Floor",),
    *("Gelu", "Greater", "GreaterOrEqual"),
    *("HardSigmoid", "HardSwish"),
    *("Identity", "IsInf", "IsNaN"),
    *("LeakyRelu", "Less", "LessOrEqual", "Log"),
    *("Max", "Mean", "Min", "Mish", "Mod", "Mul"),
    *("Neg", "Not"),
    *("Or",),
    *("PRelu", "Pow"),
    *("Reciprocal", "Relu", "Round"),
    *("Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish"),
    *("Tan", "Tanh", "ThresholdedRelu"),
    *("Where",),
    *("Xor",),
)
RULES: dict[str, Rule] = {
    **movement.RULES,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_BATCHED, _batched),
    **dict.fromkeys([name for name in _NEUTRAL if name.startswith("Reduce")], _reduce),
    **dict.fromkeys(["ReduceMean", "ReduceLogSum", "ReduceLogSumExp"], _reduce),
    "ArgMax": _arg,
    "ArgMin": _arg,
    "CumSum": _cum_sum,
    "DequantizeLinear": _quantised,
    "Gemm": _gemm,
    "LayerNormalization": _along,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "QuantizeLinear": _quantised,
    "RMSNormalization": _along,
    "RoiAlign": _roi_align,
    "Softmax": _softmax,
    "TopK": _top_k,
}
"""Operator -> its rule."""
