"""Converters of operators that compute each element by itself: functions, arithmetic, comparisons, choices.

Semantics: tensorflow/lite/kernels/internal/reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from crossfarm.stages.prepare.tflite.common import (
    Converter,
    activate,
    cast,
    choose,
    finish,
    number,
    output_name,
    refuse,
    reshape_to,
    value_type,
)
from crossfarm.stages.prepare.tflite.emitter import Emitter, Layout, is_real
from crossfarm.stages.prepare.tflite.reader import Operator

_INTEGERS = ("int32", "int64", "uint32", "uint64", "int16", "uint16", "int8", "uint8")
_SIGNED = ("int32", "int64", "int16", "int8")
_EVERYTHING = (*_INTEGERS, "bool")

Function = Callable[[Emitter, Operator, str, str], str]
"""Adds nodes to what is called by the third argument, under the name of the fourth; returns the result's name."""
Operation = Callable[[Emitter, Sequence[str], str, str], str]
"""Adds nodes for operands, under a name, for elements of a type; returns the result's name."""


def _node(kind: str, **attributes: float) -> Function:
    return lambda emitter, operator, values, name: emitter.emit(kind, [values], f"{name}/{kind.lower()}", **attributes)


def _with_number(emitter: Emitter, kind: str, values: str, value: float, name: str) -> str:
    return emitter.emit(kind, [values, number(emitter, value, f"{name}/number")], f"{name}/{kind.lower()}")


def _unary(function: Function, *, integers: Sequence[str] = ()) -> Converter:
    """Return the converter of a function of one tensor, of real numbers or of these types."""

    def convert(emitter: Emitter, operator: Operator) -> None:
        source = emitter.tensor(operator.inputs[0])
        layout = emitter.common_layout(operator, len(source.shape))
        name = output_name(emitter, operator)
        if source.dtype in integers and not is_real(source):
            result = function(emitter, operator, emitter.value(source.index, layout), name)
            emitter.write_plain(operator.outputs[0], result, layout, source.dtype)
            return
        finish(emitter, operator, function(emitter, operator, emitter.real(source.index, layout), name), layout)

    return convert


def _activation(activation: str) -> Converter:
    return _unary(lambda emitter, operator, values, name: activate(emitter, operator, activation, values))


def _rsqrt(emitter: Emitter, operator: Operator, values: str, name: str) -> str:
    one = number(emitter, 1.0, f"{name}/one")
    return emitter.emit("Div", [one, emitter.emit("Sqrt", [values], f"{name}/root")], f"{name}/reciprocal")


def _square(emitter: Emitter, operator: Operator, values: str, name: str) -> str:
    return emitter.emit("Mul", [values, values], f"{name}/square")


def _hard_swish(emitter: Emitter, operator: Operator, values: str, name: str) -> str:
    shifted = _with_number(emitter, "Add", values, 3.0, name)
    low, high = number(emitter, 0.0, f"{name}/low"), number(emitter, 6.0, f"{name}/high")
    gate = emitter.emit("Clip", [shifted, low, high], f"{name}/gate")
    return _with_number(emitter, "Mul", emitter.emit("Mul", [values, gate], f"{name}/gated"), 1 / 6, name)


def _gelu(emitter: Emitter, operator: Operator, values: str, name: str) -> str:
    """x / 2 * (1 + erf(x / sqrt 2)), or its approximation by tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))."""
    if operator.options.approximate:
        square = _square(emitter, operator, values, name)
        factor = _with_number(emitter, "Mul", square, 0.044715 * np.sqrt(2 / np.pi), name)
        inner = emitter.emit(
            "Mul", [values, _with_number(emitter, "Add", factor, np.sqrt(2 / np.pi), name)], f"{name}/x"
        )
        gate = emitter.emit("Tanh", [inner], f"{name}/tanh")
    else:
        gate = emitter.emit("Erf", [_with_number(emitter, "Mul", values, np.sqrt(0.5), name)], f"{name}/erf")
    half = _with_number(emitter, "Mul", values, 0.5, name)
    return emitter.emit("Mul", [half, _with_number(emitter, "Add", gate, 1.0, name)], f"{name}/gelu")


def _leaky_relu(emitter: Emitter, operator: Operator, values: str, name: str) -> str:
    return emitter.emit("LeakyRelu", [values], f"{name}/leaky", alpha=operator.options.alpha)


def _fake_quant(emitter: Emitter, operator: Operator, values: str, name: str) -> str:
    """Round to the steps between two bounds, moved so that 0 is a step.

    Formula: NudgeQuantizationRange in tensorflow/lite/kernels/internal/quantization_util.cc.
    """
    options = operator.options
    if not options.low < options.high or not 2 <= options.bits <= 16:
        raise refuse(emitter, operator, "has bounds or bits between which nothing can be rounded")
    first, last = (1 if options.narrow_range else 0), 2**options.bits - 1
    scale = (options.high - options.low) / (last - first)
    zero = min(max(round(first - options.low / scale), first), last)
    low, high = ((bound - zero) * scale for bound in (first, last))
    bounds = [number(emitter, bound, f"{name}/bound") for bound in (low, high)]
    clipped = emitter.emit("Clip", [values, *bounds], f"{name}/clipped")
    steps = _with_number(emitter, "Mul", _with_number(emitter, "Sub", clipped, low, name), 1 / scale, name)
    halved = emitter.emit("Floor", [_with_number(emitter, "Add", steps, 0.5, name)], f"{name}/rounded")
    return _with_number(emitter, "Add", _with_number(emitter, "Mul", halved, scale, name), low, name)


def _prelu(emitter: Emitter, operator: Operator) -> None:
    """The slope is that of negative numbers; it is spread over the axes it lacks."""
    layout = emitter.common_layout(operator, len(emitter.graph.tensors[operator.outputs[0]].shape))
    name = output_name(emitter, operator)
    values, slope = (emitter.real(index, layout) for index in operator.inputs[:2])
    negative = emitter.emit("Relu", [emitter.emit("Neg", [values], f"{name}/neg")], f"{name}/negative")
    bent = emitter.emit("Mul", [negative, slope], f"{name}/bent")
    result = emitter.emit("Sub", [emitter.emit("Relu", [values], f"{name}/positive"), bent], f"{name}/prelu")
    finish(emitter, operator, result, layout)


def _plain(kind: str, **attributes: int) -> Operation:
    return lambda emitter, operands, name, dtype: emitter.emit(kind, operands, f"{name}/{kind.lower()}", **attributes)


def _negated(kind: str) -> Operation:
    def compare(emitter: Emitter, operands: Sequence[str], name: str, dtype: str) -> str:
        return emitter.emit("Not", [emitter.emit(kind, operands, f"{name}/{kind.lower()}")], f"{name}/not")

    return compare


def _squared_difference(emitter: Emitter, operands: Sequence[str], name: str, dtype: str) -> str:
    difference = emitter.emit("Sub", operands, f"{name}/difference")
    return emitter.emit("Mul", [difference, difference], f"{name}/square")


def _floor_div(emitter: Emitter, operands: Sequence[str], name: str, dtype: str) -> str:
    """Divide and round down; integers are divided less their remainder, which has the divisor's sign."""
    if dtype == "float32":
        return emitter.emit("Floor", [emitter.emit("Div", operands, f"{name}/quotient")], f"{name}/floor")
    remainder = emitter.emit("Mod", operands, f"{name}/remainder")
    whole = emitter.emit("Sub", [operands[0], remainder], f"{name}/whole")
    return emitter.emit("Div", [whole, operands[1]], f"{name}/quotient")


def _floor_mod(emitter: Emitter, operands: Sequence[str], name: str, dtype: str) -> str:
    """The remainder has the divisor's sign."""
    if dtype != "float32":
        return emitter.emit("Mod", operands, f"{name}/remainder")
    divisor = operands[1]
    zero = number(emitter, 0.0, f"{name}/zero")
    remainder = emitter.emit("Mod", operands, f"{name}/remainder", fmod=1)
    signs = [emitter.emit("Less", [value, zero], f"{name}/sign") for value in (remainder, divisor)]
    differ = emitter.emit("Xor", signs, f"{name}/differ")
    exact = emitter.emit("Equal", [remainder, zero], f"{name}/exact")
    other = emitter.emit("And", [differ, emitter.emit("Not", [exact], f"{name}/inexact")], f"{name}/other")
    moved = emitter.emit("Add", [remainder, divisor], f"{name}/moved")
    return emitter.emit("Where", [other, moved, remainder], f"{name}/floor_mod")


def _chosen(kind: str) -> Operation:
    """Return the operation that takes the left operand where the comparison holds, as LiteRT's kernels do."""

    def take(emitter: Emitter, operands: Sequence[str], name: str, dtype: str) -> str:
        holds = emitter.emit(kind, operands, f"{name}/{kind.lower()}")
        return choose(emitter, [holds, *operands], dtype, f"{name}/chosen")

    return take


def _pow(emitter: Emitter, operands: Sequence[str], name: str, dtype: str) -> str:
    """Integers are raised as float64, which holds every int32."""
    if dtype == "float32":
        return emitter.emit("Pow", operands, f"{name}/pow")
    wide = [cast(emitter, operand, "float64", f"{name}/wide") for operand in operands]
    power = emitter.emit("Round", [emitter.emit("Pow", wide, f"{name}/pow")], f"{name}/rounded")
    return cast(emitter, power, dtype, f"{name}/power")


def _atan2(emitter: Emitter, operands: Sequence[str], name: str, dtype: str) -> str:
    """The angle of the point (x, y): atan(y / x), half a turn on where x is negative."""
    y, x = operands
    zero, pi = number(emitter, 0.0, f"{name}/zero"), number(emitter, np.pi, f"{name}/pi")
    angle = emitter.emit("Atan", [emitter.emit("Div", [y, x], f"{name}/ratio")], f"{name}/atan")
    below = emitter.emit("Less", [y, zero], f"{name}/below")
    turn = emitter.emit("Where", [below, emitter.emit("Neg", [pi], f"{name}/minus_pi"), pi], f"{name}/turn")
    left = emitter.emit("Less", [x, zero], f"{name}/left")
    turned = emitter.emit("Where", [left, emitter.emit("Add", [angle, turn], f"{name}/turned"), angle], f"{name}/angle")
    origin = emitter.emit(
        "And", [emitter.emit("Equal", [v, zero], f"{name}/at_zero") for v in (x, y)], f"{name}/origin"
    )
    return emitter.emit("Where", [origin, zero, turned], f"{name}/atan2")


def _binary(operation: Operation, *, integers: Sequence[str] = _INTEGERS, result: str | None = None) -> Converter:
    """Return the converter of an operation of two tensors, of real numbers or of these types.

    Args:
        operation: adds the nodes.
        integers: types of stored elements that it takes too.
        result: type of what it gives, if another than that of its operands.
    """

    def convert(emitter: Emitter, operator: Operator) -> None:
        left, right = (emitter.tensor(index) for index in operator.inputs[:2])
        layout = emitter.common_layout(operator, len(emitter.graph.tensors[operator.outputs[0]].shape))
        name, dtype = output_name(emitter, operator), value_type(left)
        if dtype != value_type(right):
            raise refuse(emitter, operator, f"has operands of two types, {dtype} and {value_type(right)}")
        if dtype != "float32" and dtype not in integers:
            raise refuse(emitter, operator, f"has operands of the type {dtype}, for which LiteRT has no kernel either")
        operands = [emitter.value(index, layout) for index in operator.inputs[:2]]
        made = operation(emitter, operands, name, dtype)
        if result is not None or dtype != "float32":
            if operator.options.activation != "NONE":
                made = _activated_integers(emitter, operator, made, dtype)
            emitter.write_plain(operator.outputs[0], made, layout, result or dtype)
            return
        finish(emitter, operator, made, layout)

    return convert


def _activated_integers(emitter: Emitter, operator: Operator, values: str, dtype: str) -> str:
    bounds = {"RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}.get(operator.options.activation)
    if bounds is None:
        raise refuse(emitter, operator, f"has the fused activation {operator.options.activation} over {dtype}")
    name = output_name(emitter, operator)
    for kind, bound in zip(("Less", "Greater"), bounds, strict=True):
        if bound is not None:
            limit = emitter.constant(np.array(bound, dtype), f"{name}/bound")
            beyond = emitter.emit(kind, [values, limit], f"{name}/beyond")
            values = choose(emitter, [beyond, limit, values], dtype, f"{name}/clamped")
    return values


def _add_n(emitter: Emitter, operator: Operator) -> None:
    layout = emitter.common_layout(operator, len(emitter.graph.tensors[operator.outputs[0]].shape))
    name, first = output_name(emitter, operator), emitter.tensor(operator.inputs[0])
    total = emitter.value(operator.inputs[0], layout)
    for index in operator.inputs[1:]:
        total = emitter.emit("Add", [total, emitter.value(index, layout)], f"{name}/sum")
    if is_real(first):
        finish(emitter, operator, total, layout)
    else:
        emitter.write_plain(operator.outputs[0], total, layout, first.dtype)


def _logical(kind: str) -> Converter:
    def convert(emitter: Emitter, operator: Operator) -> None:
        layout = emitter.common_layout(operator, len(emitter.graph.tensors[operator.outputs[0]].shape))
        operands = [emitter.value(index, layout) for index in operator.inputs]
        if any(emitter.tensor(index).dtype != "bool" for index in operator.inputs):
            raise refuse(emitter, operator, "is about tensors that are not booleans")
        result = emitter.emit(kind, operands, f"{output_name(emitter, operator)}/{kind.lower()}")
        emitter.write_plain(operator.outputs[0], result, layout, "bool")

    return convert


def _bitwise_xor(emitter: Emitter, operands: Sequence[str], name: str, dtype: str) -> str:
    return emitter.emit("Xor" if dtype == "bool" else "BitwiseXor", operands, f"{name}/xor")


def _select(emitter: Emitter, operator: Operator) -> None:
    """Choose by element; a condition of one axis chooses whole rows (SELECT)."""
    condition, left, right = (emitter.tensor(index) for index in operator.inputs[:3])
    rank = len(emitter.graph.tensors[operator.outputs[0]].shape)
    name = output_name(emitter, operator)
    rows = operator.name == "SELECT" and len(condition.shape) == 1 and len(left.shape) > 1
    layout: Layout = "last" if rows else emitter.common_layout(operator, rank)
    chosen = emitter.value(condition.index, layout)
    if rows:
        chosen = reshape_to(emitter, chosen, (-1, *[1] * (len(left.shape) - 1)), f"{name}/rows")
    if value_type(left) != value_type(right):
        raise refuse(emitter, operator, f"chooses between {value_type(left)} and {value_type(right)}")
    operands = [chosen, emitter.value(left.index, layout), emitter.value(right.index, layout)]
    result = choose(emitter, operands, value_type(left), f"{name}/where")
    if is_real(left):
        same = left.quantisation is not None and left.quantisation.same_as(right.quantisation)
        emitter.write(operator.outputs[0], result, layout, unchanged_from=left.index if same else None)
    else:
        emitter.write_plain(operator.outputs[0], result, layout, left.dtype)


def _cast(emitter: Emitter, operator: Operator) -> None:
    """Convert stored numbers; what is quantised is taken as its integers."""
    source, output = emitter.tensor(operator.inputs[0]), emitter.graph.tensors[operator.outputs[0]]
    layout: Layout = "last"
    if source.quantisation is None:
        layout = emitter.common_layout(operator, len(output.shape))
        values = emitter.value(source.index, layout)
    else:
        values = emitter.stored(source.index)
    if is_real(output) and output.quantisation is not None:
        raise refuse(emitter, operator, "casts to a quantised tensor; use QUANTIZE")
    if output.dtype in ("float16", "complex64", "resource"):
        raise refuse(emitter, operator, f"casts to {output.dtype}, in which nothing can be computed")
    result = cast(emitter, values, output.dtype, f"{output.name}/cast")
    if is_real(output):
        emitter.write(output.index, result, layout)
    else:
        emitter.write_plain(output.index, result, layout, output.dtype)


def _quantize(emitter: Emitter, operator: Operator) -> None:
    source = operator.inputs[0]
    layout = emitter.common_layout(operator, len(emitter.tensor(source).shape))
    emitter.write(operator.outputs[0], emitter.real(source, layout), layout, unchanged_from=source)


def _same_numbers(emitter: Emitter, operator: Operator) -> None:
    emitter.alias(operator.outputs[0], operator.inputs[0])


CONVERTERS: dict[str, Converter] = {
    "ABS": _unary(_node("Abs"), integers=_SIGNED),
    "ADD": _binary(_plain("Add")),
    "ADD_N": _add_n,
    "ATAN2": _binary(_atan2, integers=()),
    "BITWISE_XOR": _binary(_bitwise_xor, integers=_EVERYTHING),
    "CAST": _cast,
    "CEIL": _unary(_node("Ceil")),
    "COS": _unary(_node("Cos")),
    "DENSIFY": _same_numbers,
    "DEQUANTIZE": _same_numbers,
    "DIV": _binary(_plain("Div")),
    "ELU": _unary(_node("Elu", alpha=1.0)),
    "EQUAL": _binary(_plain("Equal"), integers=_EVERYTHING, result="bool"),
    "EXP": _unary(_node("Exp")),
    "FAKE_QUANT": _unary(_fake_quant),
    "FLOOR": _unary(_node("Floor")),
    "FLOOR_DIV": _binary(_floor_div),
    "FLOOR_MOD": _binary(_floor_mod),
    "GELU": _unary(_gelu),
    "GREATER": _binary(_plain("Greater"), result="bool"),
    "GREATER_EQUAL": _binary(_plain("GreaterOrEqual"), result="bool"),
    "HARD_SWISH": _unary(_hard_swish),
    "IDENTITY": _same_numbers,
    "LEAKY_RELU": _unary(_leaky_relu),
    "LESS": _binary(_plain("Less"), result="bool"),
    "LESS_EQUAL": _binary(_plain("LessOrEqual"), result="bool"),
    "LOG": _unary(_node("Log")),
    "LOGICAL_AND": _logical("And"),
    "LOGICAL_NOT": _logical("Not"),
    "LOGICAL_OR": _logical("Or"),
    "LOGISTIC": _unary(_node("Sigmoid")),
    "MAXIMUM": _binary(_chosen("Greater")),
    "MINIMUM": _binary(_chosen("Less")),
    "MUL": _binary(_plain("Mul")),
    "NEG": _unary(_node("Neg"), integers=_SIGNED),
    "NOT_EQUAL": _binary(_negated("Equal"), integers=_EVERYTHING, result="bool"),
    "POW": _binary(_pow),
    "PRELU": _prelu,
    "QUANTIZE": _quantize,
    "RELU": _activation("RELU"),
    "RELU6": _activation("RELU6"),
    "RELU_0_TO_1": _activation("RELU_0_TO_1"),
    "RELU_N1_TO_1": _activation("RELU_N1_TO_1"),
    "ROUND": _unary(_node("Round")),
    "RSQRT": _unary(_rsqrt),
    "SELECT": _select,
    "SELECT_V2": _select,
    "SIGN": _unary(_node("Sign"), integers=_SIGNED),
    "SIN": _unary(_node("Sin")),
    "SQRT": _unary(_node("Sqrt")),
    "SQUARE": _unary(_square),
    "SQUARED_DIFFERENCE": _binary(_squared_difference),
    "SUB": _binary(_plain("Sub")),
    "TANH": _unary(_node("Tanh")),
}
