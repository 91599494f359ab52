"""Converters of operators that look along axes: means, softmax, normalisation, places of extremes, running sums.

Semantics: tensorflow/lite/kernels/internal/reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossfarm.stages.prepare.tflite.common import (
    Converter,
    cast,
    choose,
    constant_input,
    extents,
    finish,
    integers,
    number,
    output_name,
    refuse,
    reshape_to,
    value_type,
)
from crossfarm.stages.prepare.tflite.emitter import IMAGE_RANK, TO_FIRST, Emitter, Layout, is_real
from crossfarm.stages.prepare.tflite.reader import Operator

_SUMMED = ("int32", "int64")
_CHANNELS = 3


def _layout_of(emitter: Emitter, operator: Operator, axes: Sequence[int], rank: int) -> tuple[Layout, list[int]]:
    """Return in which layout axes are reduced, and the axes in it.

    Channels first is taken for a mean over height and width, and where it is at hand; without the reduced axes both
    layouts must be the same order.
    """
    left = [axis for axis in range(rank) if axis not in axes]
    same = operator.options.keep_dims or _CHANNELS not in left or not {1, 2}.intersection(left)
    at_hand = emitter.common_layout(operator, rank) == "first" or list(axes) == [1, 2]
    if rank == IMAGE_RANK and same and at_hand:
        return "first", [TO_FIRST.index(axis) for axis in axes]
    return "last", list(axes)


def _reduction(kind: str) -> Converter:
    def convert(emitter: Emitter, operator: Operator) -> None:
        source = emitter.tensor(operator.inputs[0])
        rank, name = len(source.shape), output_name(emitter, operator)
        axes = sorted({axis % rank for axis in integers(constant_input(emitter, operator, 1))}) if rank else []
        logical = kind in ("all", "any")
        wanted = ("bool",) if logical else _SUMMED
        if source.dtype not in wanted and (logical or not is_real(source)):
            raise refuse(emitter, operator, f"is over {source.dtype}, for which it cannot be converted")
        layout, axes = _layout_of(emitter, operator, axes, rank)
        values = emitter.value(source.index, layout)
        if not axes:
            result = values
        elif logical:
            counted = cast(emitter, values, "int32", f"{name}/counted")
            reduced = _reduced(emitter, operator, "ReduceMin" if kind == "all" else "ReduceMax", counted, axes)
            result = cast(emitter, reduced, "bool", f"{name}/{kind}")
        else:
            result = _reduced(emitter, operator, kind, values, axes)
        # Without the reduced axes, channels first and last are the same order.
        written: Layout = layout if operator.options.keep_dims or not axes else "last"
        if not is_real(source):
            emitter.write_plain(operator.outputs[0], result, written, source.dtype)
            return
        moved = source.index if kind in ("ReduceMax", "ReduceMin") else None
        finish(emitter, operator, result, written, unchanged_from=moved)

    return convert


def _reduced(emitter: Emitter, operator: Operator, kind: str, values: str, axes: Sequence[int]) -> str:
    name = output_name(emitter, operator)
    named = extents(emitter, axes, f"{name}/axes")
    return emitter.emit(kind, [values, named], f"{name}/{kind.lower()}", keepdims=int(operator.options.keep_dims))


def _place_of(kind: str) -> Converter:
    """Return the converter of ArgMax or ArgMin; the first of equal ones is named."""

    def convert(emitter: Emitter, operator: Operator) -> None:
        source, output = emitter.tensor(operator.inputs[0]), emitter.graph.tensors[operator.outputs[0]]
        rank = len(source.shape)
        (axis,) = integers(constant_input(emitter, operator, 1))
        places = emitter.emit(
            kind, [emitter.value(source.index)], f"{output.name}/{kind.lower()}", axis=axis % rank, keepdims=0
        )
        if output.dtype != "int64":
            places = cast(emitter, places, output.dtype, f"{output.name}/cast")
        emitter.write_plain(output.index, places, "last", output.dtype)

    return convert


def _softmax(emitter: Emitter, operator: Operator) -> None:
    name = output_name(emitter, operator)
    scores = emitter.real(operator.inputs[0])
    if operator.options.beta != 1.0:
        scores = emitter.emit("Mul", [scores, number(emitter, operator.options.beta, f"{name}/beta")], f"{name}/scores")
    finish(emitter, operator, emitter.emit("Softmax", [scores], f"{name}/softmax", axis=-1), "last")


def _log_softmax(emitter: Emitter, operator: Operator) -> None:
    name = output_name(emitter, operator)
    result = emitter.emit("LogSoftmax", [emitter.real(operator.inputs[0])], f"{name}/log_softmax", axis=-1)
    finish(emitter, operator, result, "last")


def _l2_normalization(emitter: Emitter, operator: Operator) -> None:
    """Divide by the length along the last axis, which is at least 1e-6."""
    name = output_name(emitter, operator)
    values = emitter.real(operator.inputs[0])
    squares = emitter.emit("Mul", [values, values], f"{name}/squares")
    total = emitter.emit("ReduceSum", [squares, extents(emitter, [-1], f"{name}/axes")], f"{name}/sum", keepdims=1)
    root = emitter.emit("Sqrt", [total], f"{name}/root")
    bounds = [number(emitter, bound, f"{name}/bound") for bound in (1e-6, float(np.finfo(np.float32).max))]
    length = emitter.emit("Clip", [root, *bounds], f"{name}/length")
    finish(emitter, operator, emitter.emit("Div", [values, length], f"{name}/normalised"), "last")


def _cumsum(emitter: Emitter, operator: Operator) -> None:
    source = emitter.tensor(operator.inputs[0])
    (axis,) = integers(constant_input(emitter, operator, 1))
    name, options = output_name(emitter, operator), operator.options
    along = emitter.constant(np.array(axis % len(source.shape), np.int64), f"{name}/axis")
    result = emitter.emit(
        "CumSum",
        [emitter.value(source.index), along],
        f"{name}/cumsum",
        exclusive=int(options.exclusive),
        reverse=int(options.reverse),
    )
    if is_real(source):
        finish(emitter, operator, result, "last")
    else:
        emitter.write_plain(operator.outputs[0], result, "last", source.dtype)


def _topk(emitter: Emitter, operator: Operator) -> None:
    source = emitter.tensor(operator.inputs[0])
    (count,) = integers(constant_input(emitter, operator, 1))
    values, places = (emitter.graph.tensors[index] for index in operator.outputs[:2])
    found = emitter.emit_all(
        "TopK",
        [emitter.value(source.index), extents(emitter, [count], f"{values.name}/k")],
        [f"{values.name}/topk", f"{places.name}/topk"],
        axis=-1,
    )
    emitter.write_moved(values.index, found[0], "last", source.index)
    emitter.write_plain(
        places.index, cast(emitter, found[1], places.dtype, f"{places.name}/cast"), "last", places.dtype
    )


def _one_hot(emitter: Emitter, operator: Operator) -> None:
    """Compare indices with the numbers below the depth: an index outside has no place, as in TensorFlow."""
    indices, output = emitter.tensor(operator.inputs[0]), emitter.graph.tensors[operator.outputs[0]]
    (depth,) = integers(constant_input(emitter, operator, 1))
    on, off = (emitter.tensor(index) for index in operator.inputs[2:4])
    rank = len(indices.shape) + 1
    axis = operator.options.axis % rank
    if not 0 <= depth <= 1 << 20:
        raise refuse(emitter, operator, f"has the depth {depth}")
    spread = reshape_to(
        emitter,
        emitter.value(indices.index),
        (*indices.shape[:axis], 1, *indices.shape[axis:]),
        f"{output.name}/spread",
    )
    numbers = np.arange(depth).astype(indices.dtype).reshape(-1, *[1] * (rank - 1 - axis))
    hot = emitter.emit("Equal", [spread, emitter.constant(numbers, f"{output.name}/numbers")], f"{output.name}/hot")
    choices = [hot, emitter.value(on.index), emitter.value(off.index)]
    result = choose(emitter, choices, value_type(on), f"{output.name}/one_hot")
    emitter.write_moved(output.index, result, "last", on.index)


def _bucketize(emitter: Emitter, operator: Operator) -> None:
    """Count the boundaries that a number is not below."""
    source, output = emitter.tensor(operator.inputs[0]), emitter.graph.tensors[operator.outputs[0]]
    boundaries = np.array(operator.options.boundaries, np.float32)
    values = emitter.value(source.index)
    if not is_real(source):
        values = cast(emitter, values, "float32", f"{output.name}/numbers")
    spread = reshape_to(emitter, values, (*source.shape, 1), f"{output.name}/spread")
    limits = emitter.constant(boundaries, f"{output.name}/boundaries")
    reached = emitter.emit("GreaterOrEqual", [spread, limits], f"{output.name}/reached")
    counted = cast(emitter, reached, "int32", f"{output.name}/counted")
    along = extents(emitter, [-1], f"{output.name}/axes")
    emitter.write_plain(
        output.index, emitter.emit("ReduceSum", [counted, along], f"{output.name}/bucket", keepdims=0), "last", "int32"
    )


CONVERTERS: dict[str, Converter] = {
    "ARG_MAX": _place_of("ArgMax"),
    "ARG_MIN": _place_of("ArgMin"),
    "BUCKETIZE": _bucketize,
    "CUMSUM": _cumsum,
    "L2_NORMALIZATION": _l2_normalization,
    "LOG_SOFTMAX": _log_softmax,
    "MEAN": _reduction("ReduceMean"),
    "ONE_HOT": _one_hot,
    "REDUCE_ALL": _reduction("all"),
    "REDUCE_ANY": _reduction("any"),
    "REDUCE_MAX": _reduction("ReduceMax"),
    "REDUCE_MIN": _reduction("ReduceMin"),
    "REDUCE_PROD": _reduction("ReduceProd"),
    "SOFTMAX": _softmax,
    "SUM": _reduction("ReduceSum"),
    "TOPK_V2": _topk,
}
