"""Converters of operators that only move elements: shapes, orders of axes, cuts, joins, padding.

Semantics: tensorflow/lite/kernels/internal/reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.common import (
    Converter,
    check_elements,
    constant_input,
    extents,
    finish,
    given,
    integers,
    output_name,
    place,
    real_scalar,
    refuse,
    reshape_to,
    value_type,
)
from crossfarm.stages.prepare.tflite.emitter import IMAGE_RANK, TO_FIRST, TO_LAST, Emitter, Layout, is_real
from crossfarm.stages.prepare.tflite.reader import Operator


def _reshape(emitter: Emitter, operator: Operator) -> None:
    """Reshape to the shape that the file states for the output, so that a computed shape need not be converted."""
    source, output = emitter.tensor(operator.inputs[0]), emitter.graph.tensors[operator.outputs[0]]
    if math.prod(source.shape) != math.prod(output.shape):
        raise ModelError(
            f"{place(emitter, operator)} turns {list(source.shape)} into {list(output.shape)}; "
            "export the model with fixed shapes"
        )
    result = reshape_to(emitter, emitter.value(source.index), output.shape, f"{output.name}/reshape")
    emitter.write_moved(output.index, result, "last", source.index, rounded=False)


def _transpose(emitter: Emitter, operator: Operator) -> None:
    """Change the order of axes; a change between channels first and last is often there already."""
    source, output = emitter.tensor(operator.inputs[0]), operator.outputs[0]
    rank = len(source.shape)
    order = tuple(axis % rank for axis in integers(constant_input(emitter, operator, 1)))
    if order == TO_FIRST and emitter.has_first(source.index):
        emitter.write_moved(output, emitter.value(source.index, "first"), "last", source.index, rounded=False)
    elif order == TO_LAST:
        emitter.write_moved(output, emitter.value(source.index), "first", source.index, rounded=False)
    else:
        name = f"{output_name(emitter, operator)}/transpose"
        result = emitter.emit("Transpose", [emitter.value(source.index)], name, perm=order)
        emitter.write_moved(output, result, "last", source.index, rounded=False)


def _cut(  # noqa: PLR0917
    emitter: Emitter, values: str, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int], name: str
) -> str:
    """Cut along all axes that are not whole; the layout is the caller's matter."""
    vectors = [extents(emitter, vector, f"{name}/{what}") for vector, what in ((starts, "starts"), (ends, "ends"))]
    axes = extents(emitter, list(range(len(starts))), f"{name}/axes")
    return emitter.emit("Slice", [values, *vectors, axes, extents(emitter, steps, f"{name}/steps")], name)


def _taken(emitter: Emitter, values: str, axis: int, places: Sequence[int], name: str) -> str:
    """Take elements along one axis by constant places."""
    return emitter.emit("Gather", [values, extents(emitter, places, f"{name}/places")], name, axis=axis)


def _slice(emitter: Emitter, operator: Operator) -> None:
    source = emitter.tensor(operator.inputs[0])
    rank, name = len(source.shape), f"{output_name(emitter, operator)}/slice"
    sizes = integers(constant_input(emitter, operator, 2))
    if emitter.tensor(operator.inputs[1]).data is None:
        _slice_from_computed(emitter, operator, sizes)
        return
    begins = integers(constant_input(emitter, operator, 1))
    layout = emitter.common_layout(operator, rank)
    ends = [
        extent if size == -1 else begin + size for begin, size, extent in zip(begins, sizes, source.shape, strict=True)
    ]
    if layout == "first":
        begins, ends = ([vector[axis] for axis in TO_FIRST] for vector in (begins, ends))
    result = _cut(emitter, emitter.value(source.index, layout), begins, ends, [1] * rank, name)
    emitter.write_moved(operator.outputs[0], result, layout, source.index)


def _slice_from_computed(emitter: Emitter, operator: Operator, sizes: Sequence[int]) -> None:
    """Take a cut of known size from where a computed vector says."""
    source, begins = (emitter.tensor(index) for index in operator.inputs[:2])
    name = output_name(emitter, operator)
    result = emitter.value(source.index)
    for axis, (size, extent) in enumerate(zip(sizes, source.shape, strict=True)):
        if size < 0:
            raise refuse(emitter, operator, f"has a size that depends on data along axis {axis}; export fixed sizes")
        check_elements(emitter, operator, (size,))
        if size != extent:
            begin = _cut(emitter, emitter.value(begins.index), [axis], [axis + 1], [1], f"{name}/begin")
            steps = emitter.constant(np.arange(size).astype(begins.dtype), f"{name}/steps")
            places = emitter.emit("Add", [begin, steps], f"{name}/places")
            result = emitter.emit("Gather", [result, places], f"{name}/taken", axis=axis)
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


def _indices_of(
    operator: Operator, shape: tuple[int, ...], bounds: Sequence[Sequence[int]]
) -> list[slice | int | None]:
    """Return a STRIDED_SLICE as NumPy's indices: slices, numbers where the axis goes, None where one comes in."""
    options = operator.options
    begins, ends, strides = bounds
    fresh = [at for at in range(len(begins)) if options.new_axis_mask >> at & 1]
    dots = next((at for at in range(len(begins)) if options.ellipsis_mask >> at & 1), len(begins))
    skipped = len(shape) - (len(begins) - len(fresh) - (dots < len(begins)))
    indices: list[slice | int | None] = []
    for at, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        if at == dots:
            indices += [slice(None)] * skipped
        elif at in fresh:
            indices.append(None)
        elif options.shrink_axis_mask >> at & 1:
            indices.append(begin)
        else:
            last = begin + end if options.end_is_offset else end
            first = None if options.begin_mask >> at & 1 else begin
            indices.append(slice(first, None if options.end_mask >> at & 1 else last, stride))
    if dots == len(begins):
        indices += [slice(None)] * skipped
    return indices


def _strided_slice(emitter: Emitter, operator: Operator) -> None:
    """Cut as NumPy's basic indexing does; axes that are walked backwards are taken by their places."""
    source = emitter.tensor(operator.inputs[0])
    bounds = [integers(constant_input(emitter, operator, at)) for at in (1, 2, 3)]
    indices = _indices_of(operator, source.shape, bounds)
    starts, ends, steps, backwards = [], [], [], []
    shape: list[int] = []
    axis = 0
    for index in indices:
        if index is None:
            shape.append(1)
            continue
        extent = source.shape[axis]
        if isinstance(index, int):
            walked = range(index % extent, index % extent + 1)
        else:
            walked = range(*index.indices(extent))
            shape.append(len(walked))
        if walked.step < 0:
            check_elements(emitter, operator, (len(walked),))
            backwards.append((axis, list(walked)))
            walked = range(extent)
        starts.append(walked.start)
        ends.append(max(walked.stop, walked.start))
        steps.append(walked.step)
        axis += 1
    kept = len(shape) == len(source.shape) and None not in indices
    layout: Layout = emitter.common_layout(operator, len(source.shape)) if kept and not backwards else "last"
    if layout == "first":
        starts, ends, steps = ([vector[at] for at in TO_FIRST] for vector in (starts, ends, steps))
    name = output_name(emitter, operator)
    result = _cut(emitter, emitter.value(source.index, layout), starts, ends, steps, f"{name}/slice")
    for at, places in backwards:
        result = _taken(emitter, result, at, places, f"{name}/backwards")
    if not kept:
        result = reshape_to(emitter, result, shape, f"{name}/reshape")
    emitter.write_moved(operator.outputs[0], result, layout, source.index)


def _split(emitter: Emitter, operator: Operator) -> None:
    """SPLIT has the axis first and equal parts, SPLIT_V the data, the sizes and the axis."""
    even = operator.name == "SPLIT"
    source = emitter.tensor(operator.inputs[1 if even else 0])
    rank, count = len(source.shape), len(operator.outputs)
    axis = integers(constant_input(emitter, operator, 0 if even else 2))[0] % rank
    if even:
        sizes = [source.shape[axis] // count] * count
    else:
        sizes = integers(constant_input(emitter, operator, 1))
        rest = source.shape[axis] - sum(size for size in sizes if size >= 0)
        sizes = [rest if size < 0 else size for size in sizes]
    if sum(sizes) != source.shape[axis] or len(sizes) != count or min(sizes) < 0:
        raise refuse(emitter, operator, f"splits {source.shape[axis]} into {sizes[:10]} for {count} outputs")
    layout = _layout_of_data(emitter, source.index, rank)
    names = [f"{emitter.graph.tensors[index].name}/split" for index in operator.outputs]
    along = TO_FIRST.index(axis) if layout == "first" else axis
    if count == 1:
        parts = [emitter.value(source.index, layout)]
    else:
        inputs = [emitter.value(source.index, layout), extents(emitter, sizes, f"{names[0]}/sizes")]
        parts = emitter.emit_all("Split", inputs, names, axis=along)
    for index, part in zip(operator.outputs, parts, strict=True):
        emitter.write_moved(index, part, layout, source.index)


def _layout_of_data(emitter: Emitter, index: int, rank: int) -> Layout:
    return "first" if rank == IMAGE_RANK and emitter.has_first(index) else "last"


def _pack(emitter: Emitter, operator: Operator) -> None:
    """Join tensors along an axis that they do not have yet."""
    name, first = output_name(emitter, operator), emitter.tensor(operator.inputs[0])
    axis = operator.options.axis % (len(first.shape) + 1)
    shape = (*first.shape[:axis], 1, *first.shape[axis:])
    parts = [reshape_to(emitter, emitter.value(index), shape, f"{name}/part") for index in operator.inputs]
    result = parts[0] if len(parts) == 1 else emitter.emit("Concat", parts, f"{name}/pack", axis=axis)
    _write_joined(emitter, operator, result, "last")


def _write_joined(emitter: Emitter, operator: Operator, result: str, layout: Layout) -> None:
    """Write what is joined of all inputs; each part is rounded to the steps of the result."""
    first = emitter.tensor(operator.inputs[0])
    if is_real(first):
        finish(emitter, operator, result, layout)
    else:
        emitter.write_plain(operator.outputs[0], result, layout, first.dtype)


def _unpack(emitter: Emitter, operator: Operator) -> None:
    """Cut along an axis into parts that lack it."""
    source, count = emitter.tensor(operator.inputs[0]), len(operator.outputs)
    rank = len(source.shape)
    axis = operator.options.axis % rank
    shape = source.shape[:axis] + source.shape[axis + 1 :]
    parts = [emitter.value(source.index)]
    if count > 1:
        names = [f"{emitter.graph.tensors[index].name}/part" for index in operator.outputs]
        sizes = extents(emitter, [1] * count, f"{names[0]}/sizes")
        parts = emitter.emit_all("Split", [parts[0], sizes], names, axis=axis)
    for index, part in zip(operator.outputs, parts, strict=True):
        result = reshape_to(emitter, part, shape, f"{emitter.graph.tensors[index].name}/unpack")
        emitter.write_moved(index, result, "last", source.index)


def _concatenation(emitter: Emitter, operator: Operator) -> None:
    output = emitter.graph.tensors[operator.outputs[0]]
    rank = len(emitter.tensor(operator.inputs[0]).shape)
    layout = emitter.common_layout(operator, rank)
    axis = operator.options.axis % rank
    if layout == "first":
        axis = TO_FIRST.index(axis)
    joined = [emitter.value(index, layout) for index in operator.inputs]
    result = emitter.emit("Concat", joined, f"{output.name}/concat", axis=axis)
    _write_joined(emitter, operator, result, layout)


def _pad(emitter: Emitter, operator: Operator) -> None:
    source = emitter.tensor(operator.inputs[0])
    pairs = constant_input(emitter, operator, 1).reshape(-1, 2).astype(np.int64)
    check_elements(
        emitter, operator, [extent + int(sum(pair)) for extent, pair in zip(source.shape, pairs, strict=True)]
    )
    dtype = np.dtype(value_type(source))
    # The third operand of PADV2 is the padding's value; PAD pads with the number 0.
    value = np.zeros((), dtype)
    if operator.name == "PADV2" and given(operator, 2):
        scalar = emitter.tensor(operator.inputs[2])
        value = real_scalar(emitter, scalar.index) if is_real(scalar) else constant_input(emitter, operator, 2)
    layout = emitter.common_layout(operator, len(pairs))
    if layout == "first":
        pairs = pairs[list(TO_FIRST)]
    name = output_name(emitter, operator)
    pads = emitter.constant(pairs.T.reshape(-1), f"{name}/pads")
    fill = emitter.constant(value.astype(dtype).reshape(()), f"{name}/value")
    result = emitter.emit("Pad", [emitter.value(source.index, layout), pads, fill], f"{name}/pad")
    # A padding becomes part of the convolution behind it, if nothing stands between them.
    emitter.write_moved(operator.outputs[0], result, layout, source.index, rounded=False)


def _mirror_pad(emitter: Emitter, operator: Operator) -> None:
    """Take elements by their mirrored places; SYMMETRIC repeats the edge, REFLECT does not."""
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    pairs = constant_input(emitter, operator, 1).reshape(-1, 2)
    check_elements(
        emitter, operator, [extent + int(sum(pair)) for extent, pair in zip(source.shape, pairs, strict=True)]
    )
    layout = emitter.common_layout(operator, len(pairs))
    result = emitter.value(source.index, layout)
    mode = "symmetric" if operator.options.symmetric else "reflect"
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            places = np.pad(np.arange(source.shape[axis]), (int(before), int(after)), mode=mode)  # type: ignore[call-overload]
            along = TO_FIRST.index(axis) if layout == "first" else axis
            result = _taken(emitter, result, along, integers(places), f"{name}/mirrored")
    emitter.write_moved(operator.outputs[0], result, layout, source.index)


def _reverse(emitter: Emitter, operator: Operator) -> None:
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    check_elements(emitter, operator, source.shape)
    result = emitter.value(source.index)
    for axis in integers(constant_input(emitter, operator, 1)):
        along = axis % len(source.shape)
        result = _taken(emitter, result, along, range(source.shape[along])[::-1], f"{name}/reversed")
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


def _tile(emitter: Emitter, operator: Operator) -> None:
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    times = integers(constant_input(emitter, operator, 1))
    check_elements(emitter, operator, [extent * count for extent, count in zip(source.shape, times, strict=True)])
    result = emitter.emit(
        "Tile", [emitter.value(source.index), extents(emitter, times, f"{name}/times")], f"{name}/tile"
    )
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


def _broadcast_to(emitter: Emitter, operator: Operator) -> None:
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    shape = integers(constant_input(emitter, operator, 1))
    check_elements(emitter, operator, shape)
    result = emitter.emit(
        "Expand", [emitter.value(source.index), extents(emitter, shape, f"{name}/shape")], f"{name}/to"
    )
    emitter.write_moved(operator.outputs[0], result, "last", source.index)


def _fill(emitter: Emitter, operator: Operator) -> None:
    shape = integers(constant_input(emitter, operator, 0))
    check_elements(emitter, operator, shape)
    source, name = operator.inputs[1], output_name(emitter, operator)
    result = emitter.emit("Expand", [emitter.value(source), extents(emitter, shape, f"{name}/shape")], f"{name}/fill")
    emitter.write_moved(operator.outputs[0], result, "last", source)


def _zeros_like(emitter: Emitter, operator: Operator) -> None:
    source, output = emitter.tensor(operator.inputs[0]), emitter.graph.tensors[operator.outputs[0]]
    check_elements(emitter, operator, source.shape)
    zeros = emitter.constant(np.zeros(source.shape, value_type(output)), f"{output.name}/zeros")
    if is_real(output):
        emitter.write(output.index, zeros, "last")
    else:
        emitter.write_plain(output.index, zeros, "last", output.dtype)


def _range(emitter: Emitter, operator: Operator) -> None:
    output = emitter.graph.tensors[operator.outputs[0]]
    start, limit, step = (constant_input(emitter, operator, at).reshape(()).item() for at in range(3))
    if not step:
        raise refuse(emitter, operator, "has the step 0")
    check_elements(emitter, operator, [max(0, math.ceil((float(limit) - float(start)) / float(step)))])
    values = np.arange(start, limit, step).astype(output.dtype)
    made = emitter.constant(values, f"{output.name}/range")
    if is_real(output):
        emitter.write(output.index, made, "last")
    else:
        emitter.write_plain(output.index, made, "last", output.dtype)


CONVERTERS: dict[str, Converter] = {
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _concatenation,
    "EXPAND_DIMS": _reshape,
    "FILL": _fill,
    "MIRROR_PAD": _mirror_pad,
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "RANGE": _range,
    "RESHAPE": _reshape,
    "REVERSE_V2": _reverse,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
    "ZEROS_LIKE": _zeros_like,
}
