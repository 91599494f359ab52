"""Converters of operators that take or put elements by computed places.

Semantics: tensorflow/lite/kernels/internal/reference. Where several axes are indexed at once, the places are counted
over the flattened axes, so that one Gather along one axis is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crossfarm.stages.prepare.tflite.common import (
    Converter,
    cast,
    check_elements,
    choose,
    constant_input,
    extents,
    integers,
    output_name,
    refuse,
    reshape_to,
    value_type,
)
from crossfarm.stages.prepare.tflite.emitter import Emitter
from crossfarm.stages.prepare.tflite.reader import Operator, TfliteTensor


def _places(emitter: Emitter, tensor: TfliteTensor) -> tuple[str, str]:
    """Return indices as int32 or int64, and which of the two."""
    if tensor.dtype in ("int32", "int64"):
        return emitter.value(tensor.index), tensor.dtype
    return cast(emitter, emitter.value(tensor.index), "int32", f"{tensor.name}/places"), "int32"


def _taken_from_rows(emitter: Emitter, values: str, rows: Sequence[int], places: tuple[str, str], name: str) -> str:
    """Take from each row of values elements by the places of that row.

    Args:
        emitter: of the graph.
        values: of shape [rows, elements, width].
        rows: these three extents.
        places: name and type of the places, of shape [rows, count].
        name: under which nodes are named.

    Returns:
        Name of a tensor of shape [rows, count, width].
    """
    count, elements, width = rows
    flat = reshape_to(emitter, values, (count * elements, width), f"{name}/flat")
    begins = (np.arange(count) * elements).astype(places[1]).reshape(-1, 1)
    counted = emitter.emit("Add", [places[0], emitter.constant(begins, f"{name}/begins")], f"{name}/counted")
    return emitter.emit("Gather", [flat, counted], f"{name}/taken", axis=0)


def _gather(emitter: Emitter, operator: Operator) -> None:
    source, indices = (emitter.tensor(index) for index in operator.inputs[:2])
    name, rank = output_name(emitter, operator), len(source.shape)
    axis, batch = operator.options.axis % rank, operator.options.batch_dims % max(len(indices.shape), 1)
    places = _places(emitter, indices)
    if not batch:
        result = emitter.emit("Gather", [emitter.value(source.index), places[0]], f"{name}/gather", axis=axis)
        emitter.write_moved(operator.outputs[0], result, "last", source.index)
        return
    shape, chosen = source.shape, indices.shape[batch:]
    rows, before, after = (math.prod(part) for part in (shape[:batch], shape[batch:axis], shape[axis + 1 :]))
    check_elements(emitter, operator, (rows,))
    parts = reshape_to(emitter, emitter.value(source.index), (rows, before, shape[axis], after), f"{name}/parts")
    turned = emitter.emit("Transpose", [parts], f"{name}/turned", perm=(0, 2, 1, 3))
    listed = reshape_to(emitter, places[0], (rows, -1), f"{name}/listed")
    taken = _taken_from_rows(emitter, turned, (rows, shape[axis], before * after), (listed, places[1]), name)
    split = reshape_to(emitter, taken, (rows, math.prod(chosen), before, after), f"{name}/split")
    back = emitter.emit("Transpose", [split], f"{name}/back", perm=(0, 2, 1, 3))
    result = reshape_to(emitter, back, (*shape[:axis], *chosen, *shape[axis + 1 :]), f"{name}/gather")
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


def _gather_nd(emitter: Emitter, operator: Operator) -> None:
    source, indices = (emitter.tensor(index) for index in operator.inputs[:2])
    name, depth = output_name(emitter, operator), indices.shape[-1]
    shape = source.shape
    places, dtype = _places(emitter, indices)
    strides = [math.prod(shape[at + 1 : depth]) for at in range(depth)]
    weighted = emitter.emit(
        "Mul", [places, emitter.constant(np.array(strides, dtype), f"{name}/strides")], f"{name}/weighted"
    )
    along = extents(emitter, [-1], f"{name}/axes")
    counted = emitter.emit("ReduceSum", [weighted, along], f"{name}/counted", keepdims=0)
    flat = reshape_to(emitter, emitter.value(source.index), (math.prod(shape[:depth]), *shape[depth:]), f"{name}/flat")
    result = emitter.emit("Gather", [flat, counted], f"{name}/gather", axis=0)
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


def _embedding_lookup(emitter: Emitter, operator: Operator) -> None:
    indices, table = (emitter.tensor(index) for index in operator.inputs[:2])
    places, _ = _places(emitter, indices)
    name = f"{output_name(emitter, operator)}/gather"
    result = emitter.emit("Gather", [emitter.value(table.index), places], name, axis=0)
    emitter.write_moved(operator.outputs[0], result, "last", table.index)


def _scatter_nd(emitter: Emitter, operator: Operator) -> None:
    """Add updates into zeros."""
    indices, updates = (emitter.tensor(index) for index in operator.inputs[:2])
    shape = integers(constant_input(emitter, operator, 2))
    check_elements(emitter, operator, shape)
    name = output_name(emitter, operator)
    zeros = emitter.constant(np.zeros(shape, value_type(updates)), f"{name}/zeros")
    places = cast(emitter, emitter.value(indices.index), "int64", f"{name}/places")
    operands = [zeros, places, emitter.value(updates.index)]
    result = emitter.emit("ScatterND", operands, f"{name}/scatter", reduction="add")
    emitter.write_moved(operator.outputs[0], result, "last", updates.index)


def _sparse_to_dense(emitter: Emitter, operator: Operator) -> None:
    """Put values at places of a tensor that is filled with another one."""
    indices, _, values, filling = (emitter.tensor(index) for index in operator.inputs[:4])
    shape = integers(constant_input(emitter, operator, 1))
    check_elements(emitter, operator, shape)
    name, rank = output_name(emitter, operator), len(shape)
    count = indices.shape[0] if indices.shape else 1
    filled = emitter.emit(
        "Expand", [emitter.value(filling.index), extents(emitter, shape, f"{name}/shape")], f"{name}/filled"
    )
    places = cast(emitter, emitter.value(indices.index), "int64", f"{name}/indices")
    listed = reshape_to(emitter, places, (count, rank), f"{name}/places")
    number = extents(emitter, [count], f"{name}/count")
    spread = emitter.emit("Expand", [emitter.value(values.index), number], f"{name}/values")
    result = emitter.emit("ScatterND", [filled, listed, spread], f"{name}/scatter")
    emitter.write_moved(operator.outputs[0], result, "last", values.index)


def _dynamic_update_slice(emitter: Emitter, operator: Operator) -> None:
    """Lay a smaller tensor over a larger one from a computed place, which is moved so that all of it fits.

    Each axis that is not whole is stretched by a Gather; a mask says where the smaller tensor lies.
    """
    source, update, begins = (emitter.tensor(index) for index in operator.inputs[:3])
    check_elements(emitter, operator, source.shape)
    name, rank = output_name(emitter, operator), len(source.shape)
    places, dtype = _places(emitter, begins)
    laid, mask = emitter.value(update.index), ""
    for axis, (extent, size) in enumerate(zip(source.shape, update.shape, strict=True)):
        if extent == size:
            continue
        at = emitter.emit("Gather", [places, extents(emitter, [axis], f"{name}/axis")], f"{name}/begin", axis=0)
        fitted = _clamped(emitter, at, (0, extent - size), dtype, name)
        numbers = emitter.constant(np.arange(extent).astype(dtype), f"{name}/numbers")
        offsets = emitter.emit("Sub", [numbers, fitted], f"{name}/offsets")
        inside = _clamped(emitter, offsets, (0, size - 1), dtype, name)
        laid = emitter.emit("Gather", [laid, inside], f"{name}/stretched", axis=axis)
        here = emitter.emit("Equal", [offsets, inside], f"{name}/here")
        here = reshape_to(emitter, here, [extent if at_axis == axis else 1 for at_axis in range(rank)], f"{name}/mask")
        mask = emitter.emit("And", [mask, here], f"{name}/both") if mask else here
    result = (
        choose(emitter, [mask, laid, emitter.value(source.index)], value_type(source), f"{name}/laid") if mask else laid
    )
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


def _clamped(emitter: Emitter, values: str, bounds: tuple[int, int], dtype: str, name: str) -> str:
    """Bring integers between two bounds."""
    for kind, bound in zip(("Less", "Greater"), bounds, strict=True):
        limit = emitter.constant(np.array(bound, dtype), f"{name}/bound")
        beyond = emitter.emit(kind, [values, limit], f"{name}/beyond")
        values = emitter.emit("Where", [beyond, limit, values], f"{name}/clamped")
    return values


def _reverse_sequence(emitter: Emitter, operator: Operator) -> None:
    """Reverse the first `length` steps of each row; the others stay."""
    source, lengths = (emitter.tensor(index) for index in operator.inputs[:2])
    check_elements(emitter, operator, source.shape)
    name, rank = output_name(emitter, operator), len(source.shape)
    along, rows = operator.options.seq_dim % rank, operator.options.batch_dim % rank
    order = [rows, along, *(axis for axis in range(rank) if axis not in (rows, along))]
    values = emitter.emit("Transpose", [emitter.value(source.index)], f"{name}/rows", perm=order)
    steps = emitter.constant(np.arange(source.shape[along]).astype(lengths.dtype).reshape(1, -1), f"{name}/steps")
    ends = reshape_to(emitter, emitter.value(lengths.index), (-1, 1), f"{name}/ends")
    one = emitter.constant(np.ones((), lengths.dtype), f"{name}/one")
    lasts = emitter.emit("Sub", [ends, one], f"{name}/lasts")
    backwards = emitter.emit("Sub", [lasts, steps], f"{name}/backwards")
    inside = emitter.emit("Less", [steps, ends], f"{name}/inside")
    places = emitter.emit("Where", [inside, backwards, steps], f"{name}/places")
    shape = [source.shape[axis] for axis in order]
    taken = _taken_from_rows(emitter, values, (shape[0], shape[1], math.prod(shape[2:])), (places, lengths.dtype), name)
    result = reshape_to(emitter, taken, shape, f"{name}/split")
    back = emitter.emit("Transpose", [result], f"{name}/reversed", perm=[order.index(axis) for axis in range(rank)])
    emitter.write_moved(operator.outputs[0], back, "last", source.index)


def _matrix_diag(emitter: Emitter, operator: Operator) -> None:
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    size = source.shape[-1]
    check_elements(emitter, operator, (*source.shape, size))
    eye = emitter.constant(np.eye(size, dtype=bool), f"{name}/eye")
    spread = reshape_to(emitter, emitter.value(source.index), (*source.shape, 1), f"{name}/spread")
    zero = emitter.constant(np.zeros((), value_type(source)), f"{name}/zero")
    result = choose(emitter, [eye, spread, zero], value_type(source), f"{name}/diagonal")
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


def _matrix_set_diag(emitter: Emitter, operator: Operator) -> None:
    source, diagonal = (emitter.tensor(index) for index in operator.inputs[:2])
    name = output_name(emitter, operator)
    height, width = source.shape[-2:]
    if diagonal.shape != (*source.shape[:-2], min(height, width)):
        raise refuse(emitter, operator, f"puts a diagonal of shape {list(diagonal.shape)} into {list(source.shape)}")
    check_elements(emitter, operator, (height, width))
    eye = emitter.constant(np.eye(height, width, dtype=bool), f"{name}/eye")
    shape = (*diagonal.shape, 1) if height <= width else (*diagonal.shape[:-1], 1, width)
    spread = reshape_to(emitter, emitter.value(diagonal.index), shape, f"{name}/spread")
    result = choose(emitter, [eye, spread, emitter.value(source.index)], value_type(source), f"{name}/diagonal")
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


CONVERTERS: dict[str, Converter] = {
    "DYNAMIC_UPDATE_SLICE": _dynamic_update_slice,
    "EMBEDDING_LOOKUP": _embedding_lookup,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "MATRIX_DIAG": _matrix_diag,
    "MATRIX_SET_DIAG": _matrix_set_diag,
    "REVERSE_SEQUENCE": _reverse_sequence,
    "SCATTER_ND": _scatter_nd,
    "SPARSE_TO_DENSE": _sparse_to_dense,
}
