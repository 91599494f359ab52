"""Resize and Upsample in all modes, one axis after another: each output is a sum of weighted inputs of its axis.

Indices and weights follow onnx.reference.ops.op_resize, in float64, when the model is compiled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from tvm import relax, te

from crossfarm.backends.tvm.operators.node import (
    Converter,
    Node,
    UnsupportedForm,
    constant,
    is_float,
    positive_axes,
    shape_of,
)
from crossfarm.backends.tvm.types import Array, RelaxExpr


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How Resize maps outputs to inputs; the names are those of its attributes.

    Attributes:
        mode: `nearest`, `linear` or `cubic`.
        coordinates: `coordinate_transformation_mode`.
        nearest: `nearest_mode`; `simple` is what opset 10 means.
        cubic_a: `cubic_coeff_a`.
        exclude_outside: weights of what lies outside count 0.
        antialias: the filter grows when an axis shrinks.
        extrapolation: value outside, for `tf_crop_and_resize`.
    """

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class AxisTable:
    """What an axis is resized by.

    Attributes:
        indices: int64 [outputs, taps], inside the axis.
        weights: float64 [outputs, taps].
        outside: bool [outputs], where the value for outside stands.
    """

    indices: Array
    weights: Array
    outside: Array


def axis_table(
    sampling: Sampling, *, extent: int, size: int, scale: float, roi: tuple[float, float] = (0.0, 1.0)
) -> AxisTable:
    """Return indices and weights of one axis.

    Args:
        sampling: how.
        extent: of the input.
        size: of the output, at least 1.
        scale: as the model states it; size / extent when it states sizes.
        roi: start and end, for `tf_crop_and_resize`.
    """
    source, outside = _coordinates(sampling, extent=extent, size=size, scale=scale, roi=roi)
    floor = np.floor(source)
    ratios = np.where(source == floor, 1.0, source - floor)
    if sampling.mode == "nearest":
        indices = np.clip(_nearest(sampling.nearest, source, scale), 0, extent - 1).astype(np.int64)
        return AxisTable(indices=indices[:, None], weights=np.ones((size, 1)), outside=outside)
    weights = np.array([_weights(sampling, float(ratio), scale) for ratio in ratios])
    taps = weights.shape[1]
    # The nearest `taps` inputs; of two that are as near, the left one.
    fraction = source - floor
    if taps % 2 == 0:
        first = floor + np.where(fraction == 0, -(taps // 2), 1 - taps // 2)
    else:
        first = floor + np.where(fraction <= 0.5, 0, 1) - (taps - 1) // 2
    indices = first.astype(np.int64)[:, None] + np.arange(taps)
    if sampling.exclude_outside:
        weights = np.where((indices < 0) | (indices >= extent), 0.0, weights)
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    return AxisTable(indices=np.clip(indices, 0, extent - 1), weights=weights, outside=outside)


def _coordinates(
    sampling: Sampling, *, extent: int, size: int, scale: float, roi: tuple[float, float]
) -> tuple[Array, Array]:
    """Return where each output lies on the input's axis, and which lie outside."""
    place = np.arange(size, dtype=np.float64)
    scaled = scale * extent
    match sampling.coordinates:
        case "align_corners":
            source = np.zeros(size) if scaled == 1 else place * (extent - 1) / (scaled - 1)
        case "asymmetric":
            source = place / scale
        case "half_pixel":
            source = (place + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            source = np.full(size, -0.5) if scaled == 1 else (place + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            source = extent / 2 * (1 - size / scaled) + (place + 0.5) / scale - 0.5
        case "tf_crop_and_resize":
            step = (roi[1] - roi[0]) * (extent - 1)
            source = np.full(size, step / 2) if scaled == 1 else place * step / (scaled - 1)
            source = source + roi[0] * (extent - 1)
            return source, (source < 0) | (source > extent - 1)
        case other:
            raise UnsupportedForm(f"coordinate_transformation_mode {other!r}")
    return source, np.zeros(size, dtype=bool)


def _nearest(mode: str, source: Array, scale: float) -> Array:
    match mode:
        case "round_prefer_floor":
            return np.ceil(source - 0.5)
        case "round_prefer_ceil":
            return np.floor(source + 0.5)
        case "floor":
            return np.floor(source)
        case "ceil":
            return np.ceil(source)
        case "simple":
            return np.ceil(source) if scale < 1 else np.floor(source)
        case other:
            raise UnsupportedForm(f"nearest_mode {other!r}")


def _weights(sampling: Sampling, ratio: float, scale: float) -> Array:
    """Return the weights of the inputs around a coordinate that lies `ratio`, in (0, 1], behind the one before it."""
    if sampling.mode not in ("linear", "cubic"):
        raise UnsupportedForm(f"mode {sampling.mode!r}")
    reach = 1 if sampling.mode == "linear" else 2
    shrunk = min(scale, 1.0) if sampling.antialias else 1.0
    first = math.floor(-reach / shrunk) + 1
    distances = np.abs(np.arange(first, 2 - first) - ratio) * shrunk
    if reach == 1:
        weights = np.clip(1 - distances, 0, 1)
    else:
        a = sampling.cubic_a
        near = ((a + 2) * distances - (a + 3)) * distances * distances + 1
        far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
        weights = np.where(distances <= 1, near, np.where(distances < 2, far, 0.0))
    return np.asarray(weights / weights.sum() if sampling.antialias else weights)


def _resize(node: Node) -> RelaxExpr | None:
    attributes = node.attributes
    is_first = node.opset < 11
    sampling = Sampling(
        mode=attributes.get("mode", "nearest"),
        coordinates="asymmetric" if is_first else attributes.get("coordinate_transformation_mode", "half_pixel"),
        nearest="simple" if is_first else attributes.get("nearest_mode", "round_prefer_floor"),
        cubic_a=attributes.get("cubic_coeff_a", -0.75),
        exclude_outside=bool(attributes.get("exclude_outside", 0)),
        antialias=bool(attributes.get("antialias", 0)) and attributes.get("mode", "nearest") != "nearest",
        extrapolation=attributes.get("extrapolation_value", 0.0),
    )
    shape = node.shape(0)
    axes = positive_axes(node.integers("axes", range(len(shape))), len(shape))
    roi = _given(node, 1) if not is_first and sampling.coordinates == "tf_crop_and_resize" else None
    scales, sizes = (_given(node, 1), None) if is_first else (_given(node, 2), _given(node, 3))
    return _resized(
        node,
        sampling,
        wanted=_wanted(shape, axes, scales, sizes, attributes.get("keep_aspect_ratio_policy", "stretch")),
        rois={
            axis: (float(roi[place]), float(roi[len(axes) + place])) if roi is not None else (0.0, 1.0)
            for place, axis in enumerate(axes)
        },
    )


def _upsample(node: Node) -> RelaxExpr | None:
    """Return an Upsample, which samples at x / scale and takes the one before."""
    shape = node.shape(0)
    scales = np.asarray(node.attributes["scales"]) if "scales" in node.attributes else node.constant(1)
    mode = node.attributes.get("mode", "nearest")
    sampling = Sampling(mode="linear" if mode == "bilinear" else mode, coordinates="asymmetric", nearest="floor")
    axes = list(range(len(shape)))
    return _resized(node, sampling, wanted=_wanted(shape, axes, scales, None, "stretch"), rois={})


def _given(node: Node, number: int) -> Array | None:
    """Return the content of an input; None when it is left out or has no elements."""
    array = node.optional_constant(number)
    return array.reshape(-1) if array is not None and array.size else None


def _wanted(
    shape: tuple[int, ...], axes: Sequence[int], scales: Array | None, sizes: Array | None, policy: str
) -> dict[int, tuple[int, float]]:
    """Return axis -> size and scale."""
    if sizes is not None:
        ratios = [int(size) / shape[axis] for axis, size in zip(axes, sizes, strict=True)]
        if policy == "stretch":
            return {axis: (int(size), ratio) for axis, size, ratio in zip(axes, sizes, ratios, strict=True)}
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        return {axis: (int(scale * shape[axis] + 0.5), scale) for axis in axes}
    if scales is None:
        raise UnsupportedForm("neither scales nor sizes are given")
    # In float32, as the model states scales and as ONNX Runtime multiplies.
    return {
        axis: (int(np.float32(scale) * np.float32(shape[axis])), float(scale))
        for axis, scale in zip(axes, scales, strict=True)
    }


def _resized(
    node: Node,
    sampling: Sampling,
    *,
    wanted: dict[int, tuple[int, float]],
    rois: dict[int, tuple[float, float]],
) -> RelaxExpr | None:
    value, shape, dtype = node.input(0), node.shape(0), node.dtype(0)
    if _is_left_to_tvm(node, sampling, wanted):
        return None
    changed = {
        axis: one
        for axis, one in wanted.items()
        if one != (shape[axis], 1.0) or rois.get(axis, (0.0, 1.0)) != (0.0, 1.0)
    }
    if any(size == 0 for size, _ in changed.values()):
        final = [changed[axis][0] if axis in changed else extent for axis, extent in enumerate(shape)]
        return relax.op.zeros(final, dtype)
    weighted = sampling.mode != "nearest" or sampling.coordinates == "tf_crop_and_resize"
    if weighted and dtype not in ("float32", "float64"):
        value = node.emit(relax.op.astype(value, "float32"))
    for axis, (size, scale) in changed.items():
        table = axis_table(sampling, extent=shape[axis], size=size, scale=scale, roi=rois.get(axis, (0.0, 1.0)))
        value = _along(node, value, axis, table, sampling)
    if weighted and dtype not in ("float32", "float64"):
        value = relax.op.astype(value if is_float(dtype) else node.emit(_saturated(value, dtype)), dtype)
    return value


def _saturated(value: RelaxExpr, dtype: str) -> RelaxExpr:
    limits = np.iinfo(dtype)
    return relax.op.clip(relax.op.round(value), float(limits.min), float(limits.max))


def _is_left_to_tvm(node: Node, sampling: Sampling, wanted: dict[int, tuple[int, float]]) -> bool:
    """Say whether TVM's own operator of images computes the same; it is laid out with the convolutions around it."""
    shape = node.shape(0)
    if node.operator != "Resize" or node.dtype(0) != "float32" or len(shape) != 4 or node.opset < 11:
        return False
    plain_form = (
        not sampling.antialias
        and not sampling.exclude_outside
        and "axes" not in node.attributes
        and node.attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        and all(wanted[axis][0] == shape[axis] for axis in (0, 1))
        and all(size and math.isclose(scale * shape[axis], size) for axis, (size, scale) in wanted.items())
    )
    if not plain_form:
        return False
    if sampling.mode == "nearest":
        whole = all(wanted[axis][0] % shape[axis] == 0 for axis in (2, 3))
        plain = (sampling.coordinates, sampling.nearest)
        return whole and plain in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
    return sampling.mode == "linear" and sampling.coordinates in ("half_pixel", "asymmetric", "align_corners")


def _along(node: Node, value: RelaxExpr, axis: int, table: AxisTable, sampling: Sampling) -> RelaxExpr:
    """Return a value resized along one axis."""
    dtype = str(value.ty.dtype)
    if table.weights.shape[1] == 1:
        taken = relax.op.take(value, constant(table.indices[:, 0], "int32"), axis=axis, mode="fast")
    else:
        taken = _weighted(node, value, axis, table)
    if not table.outside.any():
        return node.emit(taken)
    rank = len(shape_of(value))
    mask = table.outside.reshape([-1 if place == axis else 1 for place in range(rank)])
    return node.emit(relax.op.where(constant(mask, "bool"), constant(sampling.extrapolation, dtype), node.emit(taken)))


def _weighted(node: Node, value: RelaxExpr, axis: int, table: AxisTable) -> RelaxExpr:
    dtype = str(value.ty.dtype)
    size, taps = table.indices.shape

    def compute(tensor: te.Tensor, indices: te.Tensor, weights: te.Tensor) -> te.Tensor:
        shape = [size if place == axis else extent for place, extent in enumerate(tensor.shape)]

        def element(place: Sequence[te.Var], tap: int | te.Var) -> te.Expr:
            here = list(place)
            here[axis] = indices[place[axis], tap]
            return tensor(*here) * weights[place[axis], tap]

        if taps <= 4:
            return te.compute(
                shape, lambda *place: sum((element(place, tap) for tap in range(1, taps)), element(place, 0))
            )
        tap = te.reduce_axis((0, taps), name="tap")
        return te.compute(shape, lambda *place: te.sum(element(place, tap), axis=tap))

    return node.compute(
        compute, value, constant(table.indices, "int32"), constant(table.weights, dtype), name="resize_axis"
    )


CONVERTERS: dict[str, Converter] = {"Resize": _resize, "Upsample": _upsample}
"""Operator -> its converter."""
