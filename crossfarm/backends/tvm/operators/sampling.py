"""Operators that read images at computed places between pixels: GridSample, RoiAlign, DeformConv."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from tvm import relax, te, tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.emitting import reshaped
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.operators.serial import Row, local, ravel, run_loops, scalar
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr, Tensor, Var

_KEYS_ALPHA = -0.75
"""Of the cubic convolution of R. G. Keys, https://ieeexplore.ieee.org/document/1163711."""
_MODES = {"bilinear": "linear", "linear": "linear", "nearest": "nearest", "bicubic": "cubic", "cubic": "cubic"}


def _number(value: float, dtype: str) -> PrimExpr:
    return tirx.const(value, dtype)


def _place(value: PrimExpr, extent: int) -> PrimExpr:
    """Return a whole number of floating type as an index that exists, whatever it is."""
    whole = value.astype("int64")
    return tirx.max(tirx.min(whole, tirx.const(extent - 1, "int64")), tirx.const(0, "int64")).astype("int32")


def _reflected(value: PrimExpr, low: float, high: float, dtype: str) -> PrimExpr:
    """Return a coordinate that is mirrored at both borders until it lies between them."""
    span = high - low
    if span <= 0:
        return _number(low, dtype)
    below, above = _number(low, dtype) - value, value - _number(high, dtype)
    far = tirx.max(below, above)
    turns = tirx.trunc(far / _number(span, dtype))
    rest = far - turns * _number(span, dtype)
    is_even = tirx.trunc(turns / _number(2, dtype)) * _number(2, dtype) == turns
    from_low, from_high = _number(low, dtype) + rest, _number(high, dtype) - rest
    mirrored = tirx.Select(
        below > above, tirx.Select(is_even, from_low, from_high), tirx.Select(is_even, from_high, from_low)
    )
    return tirx.Select(tirx.any(value < _number(low, dtype), value > _number(high, dtype)), mirrored, value)


def _grid_sample(node: Node) -> RelaxExpr:
    shape, grid = node.shape(0), node.shape(1)
    spatial, dtype = shape[2:], node.dtype(0)
    mode = _MODES.get(node.attributes.get("mode", "linear"))
    padding = node.attributes.get("padding_mode", "zeros")
    corners = bool(node.attributes.get("align_corners", 0))
    if mode is None or padding not in ("zeros", "border", "reflection"):
        raise UnsupportedForm("its mode or padding_mode is not one of the standard's")
    if not dtype.startswith("float") or node.dtype(1) != dtype:
        raise UnsupportedForm(f"it samples {dtype} at places of {node.dtype(1)}; both must be the same floating type")
    borders = [(0.0, extent - 1.0) if corners else (-0.5, extent - 0.5) for extent in spatial]
    if grid[-1] != len(spatial) or grid[0] != shape[0]:
        raise UnsupportedForm(f"a grid of the shape {list(grid)} does not fit an image of the shape {list(shape)}")
    taps, first = {"nearest": (1, 0), "linear": (2, 0), "cubic": (4, -1)}[mode]
    positions, rank, size = math.prod(grid[1:-1]), len(spatial), math.prod(spatial)

    def coordinate(value: PrimExpr, axis: int) -> PrimExpr:
        extent, one, two = _number(spatial[axis], dtype), _number(1, dtype), _number(2, dtype)
        scaled = (value + one) / two * (extent - one) if corners else ((value + one) * extent - one) / two
        return tirx.nearbyint(scaled) if mode == "nearest" else scaled

    def brought_in(value: PrimExpr, axis: int) -> PrimExpr:
        low, high = borders[axis]
        if padding == "border":
            inner = tirx.max(tirx.min(value, _number(spatial[axis] - 1, dtype)), _number(0, dtype))
            outside = tirx.any(value < _number(low, dtype), value > _number(high, dtype))
            return tirx.Select(outside, inner, value)
        return _reflected(value, low, high, dtype) if padding == "reflection" else value

    def body(values: Row, places: Row, result: Row) -> None:
        with T.serial(0, shape[0] * positions) as number:
            found = [scalar(dtype) for _ in spatial]
            # Of each tap along each axis: the pixel, whether it exists, and its weight.
            pixels, exist = local(rank * taps, "int32"), local(rank * taps, "int32")
            weights, given = local(rank * taps, dtype), scalar(dtype)
            for axis in range(rank):
                # The last number of the grid is the place on the last axis of the image.
                given[0] = coordinate(places[number * rank + rank - 1 - axis], axis)
                found[axis][0] = brought_in(given[0], axis)
                for tap, weight in enumerate(_weights(found[axis][0] - tirx.floor(found[axis][0]), mode, dtype)):
                    weights[axis * taps + tap] = weight
                    given[0] = tirx.floor(found[axis][0]) + _number(first + tap, dtype)
                    last = _number(spatial[axis] - 1, dtype)
                    inside = tirx.all(given[0] >= _number(0, dtype), given[0] <= last)
                    exist[axis * taps + tap] = tirx.Select(inside, 1, 0) if padding == "zeros" else 1
                    moved = _reflected(given[0], *borders[axis], dtype) if padding == "reflection" else given[0]
                    pixels[axis * taps + tap] = _place(moved, spatial[axis])
            with T.serial(0, shape[1]) as channel:
                total = scalar(dtype)
                total[0] = _number(0, dtype)
                base = ((number // positions) * shape[1] + channel) * size
                for steps in itertools.product(range(taps), repeat=rank):
                    slots = [axis * taps + step for axis, step in enumerate(steps)]
                    value = values[base + ravel([pixels[slot] for slot in slots], spatial)]
                    if padding == "zeros":
                        value = tirx.Select(tirx.all(*(exist[slot] > 0 for slot in slots)), value, _number(0, dtype))
                    total[0] = (
                        total[0] + math.prod((weights[slot] for slot in slots[1:]), start=weights[slots[0]]) * value
                    )
                place = ((number // positions) * shape[1] + channel) * positions + number % positions
                result[place] = total[0]

    made = (*shape[:2], *grid[1:-1])
    return run_loops(node, body, inputs=[node.input(0), node.input(1)], outputs=[(made, dtype)])[0]


def _weights(fraction: PrimExpr, mode: str, dtype: str) -> list[PrimExpr]:
    """Return the weights of the neighbours of a place, which lies `fraction` behind the one before it."""
    one = _number(1, dtype)
    if mode == "nearest":
        return [one]
    if mode == "linear":
        return [one - fraction, fraction]
    a = _KEYS_ALPHA

    def far(x: PrimExpr) -> PrimExpr:
        return ((_number(a, dtype) * x - _number(5 * a, dtype)) * x + _number(8 * a, dtype)) * x - _number(4 * a, dtype)

    def near(x: PrimExpr) -> PrimExpr:
        return (_number(a + 2, dtype) * x - _number(a + 3, dtype)) * x * x + one

    return [far(fraction + one), near(fraction), near(one - fraction), far(_number(2, dtype) - fraction)]


def _bilinear(
    read: Callable[[PrimExpr, PrimExpr], PrimExpr], y: PrimExpr, x: PrimExpr, *, extents: Sequence[int], dtype: str
) -> PrimExpr:
    """Return an image between four pixels; what lies outside is 0. `read` takes row and column."""
    height, width = extents
    top, left = tirx.floor(y), tirx.floor(x)
    total: PrimExpr = _number(0, dtype)
    for down, right in itertools.product((0, 1), repeat=2):
        row, column = top + _number(down, dtype), left + _number(right, dtype)
        vertical = y - top if down else _number(1, dtype) - (y - top)
        horizontal = x - left if right else _number(1, dtype) - (x - left)
        inside = tirx.all(
            row >= _number(0, dtype),
            row <= _number(height - 1, dtype),
            column >= _number(0, dtype),
            column <= _number(width - 1, dtype),
        )
        value = read(_place(row, height), _place(column, width))
        total = total + tirx.Select(inside, vertical * horizontal * value, _number(0, dtype))
    return total


def _deform_conv(node: Node) -> RelaxExpr:
    """Gather the pixels under the kernel as columns, then multiply them with the weights."""
    batch, channels, *image = node.shape(0)
    outputs, _, *kernel = node.shape(1)
    attributes, dtype = node.attributes, node.dtype(0)
    if len(image) != 2:
        raise UnsupportedForm(f"it is over {len(image)} axes of space; two are known")
    groups, offset_groups = int(attributes.get("group", 1)), int(attributes.get("offset_group", 1))
    strides, dilations = node.integers("strides", (1, 1)), node.integers("dilations", (1, 1))
    pads = node.integers("pads", (0, 0, 0, 0))
    rows, columns = node.shape(2)[2:]
    taps = kernel[0] * kernel[1]
    has_mask = node.has(4)
    node.require(2, (batch, 2 * offset_groups * taps, rows, columns))
    if has_mask:
        node.require(4, (batch, offset_groups * taps, rows, columns))

    def compute(values: Tensor, offsets: Tensor, *masks: Tensor) -> Tensor:
        def element(n: Var, c: Var, tap: Var, row: Var, column: Var) -> PrimExpr:
            place = (c // (channels // offset_groups)) * taps + tap
            base = (row * strides[0] - pads[0] + (tap // kernel[1]) * dilations[0]).astype(dtype)
            side = (column * strides[1] - pads[1] + (tap % kernel[1]) * dilations[1]).astype(dtype)
            y = base + offsets[n, 2 * place, row, column]
            x = side + offsets[n, 2 * place + 1, row, column]
            value = _bilinear(lambda i, j: values[n, c, i, j], y, x, extents=image, dtype=dtype)
            return value * masks[0][n, place, row, column] if masks else value

        return te.compute((batch, channels, taps, rows, columns), element, name="columns")

    more = [node.input(4)] if has_mask else []
    gathered = node.compute(compute, node.input(0), node.input(2), *more, name="deformed_columns")
    depth = channels // groups * taps
    inputs = reshaped(node, gathered, [batch, groups, depth, rows * columns])
    weights = reshaped(node, node.input(1), [1, groups, outputs // groups, depth])
    product = reshaped(node, node.emit(relax.op.matmul(weights, inputs)), [batch, outputs, rows, columns])
    if not node.has(3):
        return product
    return node.emit(relax.op.add(product, reshaped(node, node.input(3), [1, outputs, 1, 1])))


def _roi_align(node: Node) -> RelaxExpr:
    """Pool each region; of `max` the products with the weights are compared, as ONNX and ONNX Runtime have it."""
    _, channels, height, width = node.shape(0)
    count, dtype, attributes = node.shape(1)[0], node.dtype(0), node.attributes
    default = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    shifts = attributes.get("coordinate_transformation_mode", default) == "half_pixel"
    mode = attributes.get("mode", "avg").lower()
    tall, wide = int(attributes.get("output_height", 1)), int(attributes.get("output_width", 1))
    ratio, scale = int(attributes.get("sampling_ratio", 0)), float(attributes.get("spatial_scale", 1.0))
    if mode not in ("avg", "max"):
        raise UnsupportedForm(f"its mode {mode!r} is not one of the standard's")

    def body(values: Row, rois: Row, batches: Row, result: Row) -> None:
        def edge(roi: PrimExpr, number: int) -> PrimExpr:
            return rois[roi * 4 + number] * _number(scale, dtype) - _number(0.5 if shifts else 0.0, dtype)

        def size(roi: PrimExpr, number: int) -> PrimExpr:
            extent = edge(roi, number + 2) - edge(roi, number)
            return extent if shifts else tirx.max(extent, _number(1, dtype))

        with T.serial(0, count) as roi:
            cell = [scalar(dtype), scalar(dtype)]
            grid, batch = [scalar("int32"), scalar("int32")], scalar("int32")
            batch[0] = tirx.max(tirx.min(batches[roi].astype("int32"), node.shape(0)[0] - 1), 0)
            for axis, (number, pooled) in enumerate(((1, tall), (0, wide))):
                cell[axis][0] = size(roi, number) / _number(pooled, dtype)
                steps = tirx.ceil(cell[axis][0]).astype("int32")
                grid[axis][0] = tirx.const(ratio, "int32") if ratio > 0 else steps
            with T.serial(0, channels * tall * wide) as number:
                total, is_first = scalar(dtype), scalar("int32")
                total[0] = _number(0, dtype)
                is_first[0] = tirx.const(1, "int32")
                base = (batch[0] * channels + number // (tall * wide)) * (height * width)
                row, column = (number // wide) % tall, number % wide
                with T.serial(0, grid[0][0]) as i, T.serial(0, grid[1][0]) as j:
                    half = _number(0.5, dtype)
                    y, x = scalar(dtype), scalar(dtype)
                    for target, start, place, step, axis in ((y, 1, row, i, 0), (x, 0, column, j, 1)):
                        inner = (step.astype(dtype) + half) * cell[axis][0] / grid[axis][0].astype(dtype)
                        target[0] = edge(roi, start) + place.astype(dtype) * cell[axis][0] + inner
                    parts = _corner_parts(values, base, y[0], x[0], extents=(height, width), dtype=dtype)
                    if mode == "avg":
                        total[0] = total[0] + (parts[0] + parts[1] + parts[2] + parts[3])
                    else:
                        largest = tirx.max(tirx.max(parts[0], parts[1]), tirx.max(parts[2], parts[3]))
                        total[0] = tirx.Select(is_first[0] > 0, largest, tirx.max(total[0], largest))
                        is_first[0] = tirx.const(0, "int32")
                taken = tirx.max(grid[0][0] * grid[1][0], 1).astype(dtype)
                result[roi * (channels * tall * wide) + number] = total[0] / taken if mode == "avg" else total[0]

    inputs = [node.input(place) for place in range(3)]
    return run_loops(node, body, inputs=inputs, outputs=[((count, channels, tall, wide), dtype)])[0]


def _corner_parts(
    values: Row, base: PrimExpr, y: PrimExpr, x: PrimExpr, *, extents: tuple[int, int], dtype: str
) -> list[PrimExpr]:
    """Return the four pixels around a place, each times its weight; zeros when it lies more than 1 outside."""
    height, width = extents
    places = []
    for given, extent in ((y, height), (x, width)):
        inner = tirx.max(given, _number(0, dtype))
        low = _place(tirx.floor(inner), extent)
        fraction = tirx.Select(low >= extent - 1, _number(0, dtype), inner - low.astype(dtype))
        places.append((low, tirx.min(low + 1, extent - 1), fraction))
    outside = tirx.any(
        y < _number(-1, dtype), y > _number(height, dtype), x < _number(-1, dtype), x > _number(width, dtype)
    )
    (top, bottom, down), (left, right, across) = places
    one = _number(1, dtype)
    corners = (
        ((one - down) * (one - across), top, left),
        ((one - down) * across, top, right),
        (down * (one - across), bottom, left),
        (down * across, bottom, right),
    )
    return [
        tirx.Select(outside, _number(0, dtype), weight * values[base + row * width + column])
        for weight, row, column in corners
    ]


CONVERTERS: dict[str, Converter] = {
    "DeformConv": _deform_conv,
    "GridSample": _grid_sample,
    "RoiAlign": _roi_align,
}
"""Operator -> its converter."""
