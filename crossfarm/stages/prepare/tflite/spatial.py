"""Converters of operators that resize images, or move pixels into channels or batches and back.

Semantics: tensorflow/lite/kernels/internal/reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossfarm.stages.prepare.tflite.common import (
    Converter,
    check_elements,
    constant_input,
    extents,
    integers,
    output_name,
    refuse,
    reshape_to,
    value_type,
)
from crossfarm.stages.prepare.tflite.emitter import Emitter, Layout
from crossfarm.stages.prepare.tflite.options import OperatorOptions
from crossfarm.stages.prepare.tflite.reader import Operator


def _size(emitter: Emitter, operator: Operator) -> list[int]:
    size = integers(constant_input(emitter, operator, 1))
    if len(size) != 2 or min(size) < 1:
        raise refuse(emitter, operator, f"resizes to {size}")
    image = emitter.tensor(operator.inputs[0])
    check_elements(emitter, operator, [image.shape[0], *size, image.shape[3]])
    return size


def _resized(emitter: Emitter, operator: Operator, values: str, size: Sequence[int], **how: str) -> str:
    """Add a Resize of an image with the channels first."""
    name, shape = output_name(emitter, operator), emitter.tensor(operator.inputs[0]).shape
    sizes = extents(emitter, [shape[0], shape[3], *size], f"{name}/sizes")
    return emitter.emit("Resize", [values, "", "", sizes], f"{name}/resize", **how)


def _resize_bilinear(emitter: Emitter, operator: Operator) -> None:
    options, source = operator.options, operator.inputs[0]
    size = _size(emitter, operator)
    values = emitter.real(source, "first")
    if size != list(emitter.tensor(source).shape[1:3]):
        where = "asymmetric"
        if options.align_corners:
            where = "align_corners"
        elif options.half_pixel_centers:
            where = "half_pixel"
        values = _resized(emitter, operator, values, size, mode="linear", coordinate_transformation_mode=where)
    emitter.write(operator.outputs[0], values, "first")


def nearest_places(extent: int, size: int, options: OperatorOptions) -> list[int]:
    """Return which of `extent` pixels each of `size` ones is taken from.

    Formula: GetNearestNeighbor in tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h, in float32.
    """
    numbers = np.arange(size, dtype=np.float32)
    aligned = options.align_corners and size > 1
    scale = np.float32((extent - 1) / np.float32(size - 1) if aligned else extent / np.float32(size))
    scaled = (numbers + np.float32(0.5 if options.half_pixel_centers else 0.0)) * scale
    # Halves are rounded up here: no place is negative.
    places = np.floor(scaled + np.float32(0.5)) if options.align_corners else np.floor(scaled)
    return integers(np.clip(places, 0, extent - 1).astype(np.int64))


def _resize_nearest(emitter: Emitter, operator: Operator) -> None:
    """Repeat pixels; where that is no whole number of times, take them by their places."""
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    size = _size(emitter, operator)
    values = emitter.value(source.index, "first")
    places = [nearest_places(source.shape[1 + at], size[at], operator.options) for at in range(2)]
    factors = [size[at] // source.shape[1 + at] for at in range(2)]
    repeated = [[number // max(factors[at], 1) for number in range(size[at])] for at in range(2)]
    if places == repeated and min(factors) >= 1:
        if max(factors) > 1:
            how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
            values = _resized(emitter, operator, values, size, **how)
    else:
        for at in range(2):
            taken = extents(emitter, places[at], f"{name}/places")
            values = emitter.emit("Gather", [values, taken], f"{name}/nearest", axis=2 + at)
    emitter.write_moved(operator.outputs[0], values, "first", source.index)


def _depth_to_space(emitter: Emitter, operator: Operator) -> None:
    """Spread channels over blocks of pixels; the place in the block is the slower part of a channel's number."""
    source, block = emitter.tensor(operator.inputs[0]), operator.options.block_size
    batch, height, width, channels = source.shape
    deep = channels // (block * block)
    shapes = (batch, block, block, deep, height, width), (batch, deep, height * block, width * block)
    _rearranged(emitter, operator, shapes, (0, 3, 4, 1, 5, 2))


def _space_to_depth(emitter: Emitter, operator: Operator) -> None:
    """Undo what `_depth_to_space` does."""
    source, block = emitter.tensor(operator.inputs[0]), operator.options.block_size
    batch, height, width, channels = source.shape
    low, narrow = height // block, width // block
    shapes = (batch, channels, low, block, narrow, block), (batch, channels * block * block, low, narrow)
    _rearranged(emitter, operator, shapes, (0, 3, 5, 1, 2, 4))


def _rearranged(
    emitter: Emitter, operator: Operator, shapes: tuple[Sequence[int], Sequence[int]], order: Sequence[int]
) -> None:
    """Split the axes of an image with the channels first, put them into another order, and join them."""
    source, name = operator.inputs[0], output_name(emitter, operator)
    split = reshape_to(emitter, emitter.value(source, "first"), shapes[0], f"{name}/split")
    turned = emitter.emit("Transpose", [split], f"{name}/turned", perm=order)
    joined = reshape_to(emitter, turned, shapes[1], f"{name}/joined")
    emitter.write_moved(operator.outputs[0], joined, "first", source, rounded=False)


def _space_to_batch(emitter: Emitter, operator: Operator) -> None:
    """Pad, cut the spatial axes into blocks, and put the place inside its block in front of the batch."""
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    block = integers(constant_input(emitter, operator, 1))
    pairs = constant_input(emitter, operator, 2).reshape(-1, 2).astype(np.int64)
    count, rank = len(block), len(source.shape)
    padded = [source.shape[1 + at] + int(sum(pairs[at])) for at in range(count)]
    check_elements(emitter, operator, [source.shape[0], *padded, *source.shape[1 + count :]])
    around = np.zeros((rank, 2), np.int64)
    around[1 : 1 + count] = pairs
    values = emitter.value(source.index)
    if pairs.any():
        zero = emitter.constant(np.zeros((), value_type(source)), f"{name}/zero")
        values = emitter.emit(
            "Pad", [values, emitter.constant(around.T.reshape(-1), f"{name}/pads"), zero], f"{name}/pad"
        )
    cut = [part for at in range(count) for part in (padded[at] // block[at], block[at])]
    rest = source.shape[1 + count :]
    blocks = reshape_to(emitter, values, (source.shape[0], *cut, *rest), f"{name}/blocks")
    inside, outside = [2 + 2 * at for at in range(count)], [1 + 2 * at for at in range(count)]
    order = (*inside, 0, *outside, *range(1 + 2 * count, 1 + 2 * count + len(rest)))
    turned = emitter.emit("Transpose", [blocks], f"{name}/turned", perm=order)
    shape = (source.shape[0] * int(np.prod(block)), *(padded[at] // block[at] for at in range(count)), *rest)
    emitter.write_moved(operator.outputs[0], reshape_to(emitter, turned, shape, f"{name}/batch"), "last", source.index)


def _batch_to_space(emitter: Emitter, operator: Operator) -> None:
    """Undo what `_space_to_batch` does, and crop."""
    source, name = emitter.tensor(operator.inputs[0]), output_name(emitter, operator)
    block = integers(constant_input(emitter, operator, 1))
    crops = constant_input(emitter, operator, 2).reshape(-1, 2)
    count, rest = len(block), source.shape[1 + len(block) :]
    batch = source.shape[0] // int(np.prod(block))
    spatial = source.shape[1 : 1 + count]
    blocks = reshape_to(emitter, emitter.value(source.index), (*block, batch, *spatial, *rest), f"{name}/blocks")
    mixed = [axis for at in range(count) for axis in (count + 1 + at, at)]
    order = (count, *mixed, *range(2 * count + 1, 2 * count + 1 + len(rest)))
    turned = emitter.emit("Transpose", [blocks], f"{name}/turned", perm=order)
    full = [spatial[at] * block[at] for at in range(count)]
    result = reshape_to(emitter, turned, (batch, *full, *rest), f"{name}/space")
    if crops.any():
        names = ("starts", "ends", "axes")
        vectors = (crops[:, 0], np.array(full) - crops[:, 1], np.arange(1, 1 + count))
        bounds = [
            extents(emitter, integers(vector), f"{name}/{what}") for vector, what in zip(vectors, names, strict=True)
        ]
        result = emitter.emit("Slice", [result, *bounds], f"{name}/crop")
    layout: Layout = "last"
    emitter.write_moved(operator.outputs[0], result, layout, source.index)


CONVERTERS: dict[str, Converter] = {
    "BATCH_TO_SPACE_ND": _batch_to_space,
    "DEPTH_TO_SPACE": _depth_to_space,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "SPACE_TO_DEPTH": _space_to_depth,
}
