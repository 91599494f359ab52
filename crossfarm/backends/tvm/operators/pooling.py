"""Pooling with every way of padding, and the places of maxima.

Windows are laid as the standard's reference has them: TVM's own operators get explicit padding, with which rounding
down gives the number of windows that the standard asks for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm, constant, is_float
from crossfarm.backends.tvm.types import PrimExpr, RelaxExpr


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows of one spatial axis.

    Attributes:
        extent: of the input.
        kernel: elements of a window.
        stride: between windows.
        dilation: between the elements of a window.
        before: padding before the input.
        after: padding behind it, of the standard.
        count: of windows.
    """

    extent: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    count: int

    @property
    def reach(self) -> int:
        """Padding behind the input that the last window needs; may be less than `after`, even negative."""
        return (self.count - 1) * self.stride + (self.kernel - 1) * self.dilation + 1 - self.extent - self.before

    def elements(self, *, with_padding: bool) -> list[int]:
        """Return how many elements of each window count: of a large kernel none is looked at by itself."""
        low = -self.before if with_padding else 0
        high = self.extent + (self.after if with_padding else 0)
        starts = np.arange(self.count) * self.stride - self.before
        first = np.maximum(-((starts - low) // self.dilation), 0)
        last = np.minimum((high - 1 - starts) // self.dilation, self.kernel - 1)
        return [int(count) for count in np.maximum(last - first + 1, 0)]


def windows(node: Node) -> list[Windows]:
    """Return the windows of each spatial axis.

    Raises:
        UnsupportedForm: there are none.
    """
    extents = node.shape(0)[2:]
    kernel = node.integers("kernel_shape", ())
    count = len(extents)
    if len(kernel) != count or not 1 <= count <= 3:
        raise UnsupportedForm(f"a kernel of {len(kernel)} axes over a tensor of {len(node.shape(0))}")
    strides = node.integers("strides", [1] * count)
    dilations = node.integers("dilations", [1] * count)
    pads = node.integers("pads", [0] * 2 * count)
    auto, ceil = node.attributes.get("auto_pad", "NOTSET"), bool(node.attributes.get("ceil_mode", 0))
    return [
        _axis(
            auto,
            ceil,
            extent=extents[k],
            kernel=kernel[k],
            stride=strides[k],
            dilation=dilations[k],
            before=pads[k],
            after=pads[count + k],
        )
        for k in range(count)
    ]


def _axis(
    auto: str, ceil: bool, *, extent: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> Windows:
    span = (kernel - 1) * dilation + 1
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        count = -(-extent // stride)
        total = max(0, (count - 1) * stride + span - extent)
        before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        after = total - before
    else:
        if auto == "VALID":
            before = after = 0
        free = extent + before + after - span
        count = (math.ceil(free / stride) if ceil else free // stride) + 1
        if ceil and (count - 1) * stride >= extent + before:
            count -= 1  # no window begins behind the input
    if count < 1:
        raise UnsupportedForm(f"a window of {span} over {extent} elements")
    return Windows(
        extent=extent, kernel=kernel, stride=stride, dilation=dilation, before=before, after=after, count=count
    )


def _is_plain(node: Node) -> bool:
    """Say whether TVM's importer pads as the standard does."""
    return node.attributes.get("auto_pad", "NOTSET") == "NOTSET" and not node.attributes.get("ceil_mode", 0)


def _padded(node: Node, value: RelaxExpr, axes: Sequence[Windows], filler: float) -> tuple[RelaxExpr, list[int]]:
    """Return a value and the padding of TVM's operator; where a window reaches farther than its own, it is padded."""
    befores, afters = [one.before for one in axes], [max(0, one.reach) for one in axes]
    limits = [(one.kernel - 1) * one.dilation + 1 for one in axes]
    if all(amount < limit for amount, limit in zip(befores + afters, limits * 2, strict=True)):
        return value, befores + afters
    width = [0, 0, 0, 0]
    for before, after in zip(befores, afters, strict=True):
        width += [before, after]
    return node.emit(relax.op.nn.pad(value, width, "constant", filler)), [0] * 2 * len(axes)


def _pool(name: str, count: int) -> object:
    return getattr(relax.op.nn, f"{name}_pool{count}d")


def _max(node: Node) -> RelaxExpr | Sequence[RelaxExpr] | None:
    if len(node.outputs) > 1 and node.outputs[1]:
        return _max_with_places(node)
    if _is_plain(node) and node.dtype(0) == "float32":
        return None
    axes, dtype = windows(node), node.dtype(0)
    filler = -math.inf if is_float(dtype) else float(np.iinfo(dtype).min)
    value, padding = _padded(node, node.input(0), axes, filler)
    return _pool("max", len(axes))(  # type: ignore[operator]
        value, [one.kernel for one in axes], [one.stride for one in axes], padding, [one.dilation for one in axes]
    )


def _max_with_places(node: Node) -> Sequence[RelaxExpr]:
    """Return maxima and where they lie in the whole input, the first of several that are as large."""
    axes, shape, dtype = windows(node), node.shape(0), node.dtype(0)
    lowest = tirx.min_value(dtype) if not is_float(dtype) else tirx.const(-math.inf, dtype)
    column_major = bool(node.attributes.get("storage_order", 0))

    def larger(left: Sequence[PrimExpr], right: Sequence[PrimExpr]) -> tuple[PrimExpr, PrimExpr]:
        first = tirx.any(left[1] > right[1], tirx.all(left[1] == right[1], left[0] <= right[0]))
        return tirx.Select(first, left[0], right[0]), tirx.Select(first, left[1], right[1])

    reducer = te.comm_reducer(
        larger, lambda place, value: (tirx.const(np.iinfo("int64").max, place), lowest), name="first_maximum"
    )

    def compute(value: te.Tensor) -> list[te.Tensor]:
        taps = [te.reduce_axis((0, one.kernel), name=f"tap{k}") for k, one in enumerate(axes)]

        def element(*place: te.Var) -> tuple[PrimExpr, PrimExpr]:
            here = [
                at * one.stride + tap * one.dilation - one.before
                for at, tap, one in zip(place[2:], taps, axes, strict=True)
            ]
            inside = tirx.all(*[tirx.all(at >= 0, at < one.extent) for at, one in zip(here, axes, strict=True)])
            order = list(zip(here, axes, strict=True))
            flat: PrimExpr = tirx.const(0, "int64")
            for at, one in reversed(order) if column_major else order:
                flat = flat * one.extent + tirx.Cast("int64", at)
            plane = math.prod(one.extent for one in axes)
            flat = flat + (tirx.Cast("int64", place[0]) * shape[1] + tirx.Cast("int64", place[1])) * plane
            number = tirx.if_then_else(inside, value(place[0], place[1], *here), lowest)
            return tirx.if_then_else(inside, flat, tirx.const(np.iinfo("int64").max, "int64")), number

        counts = [shape[0], shape[1], *(one.count for one in axes)]
        return list(te.compute(counts, lambda *place: reducer(element(*place), axis=taps), name="max_pool_places"))

    found = node.compute(compute, node.input(0), name="max_pool_places")
    return [relax.TupleGetItem(found, 1), relax.TupleGetItem(found, 0)]


def _average(node: Node) -> RelaxExpr | None:
    """Return averages: sums of padded windows by the number of elements that count in each."""
    if _is_plain(node) and node.dtype(0) == "float32" and set(node.integers("dilations", [1])) == {1}:
        return None
    axes, dtype = windows(node), node.dtype(0)
    value, padding = _padded(node, node.input(0), axes, 0.0)
    pooled = _pool("avg", len(axes))(  # type: ignore[operator]
        value,
        [one.kernel for one in axes],
        [one.stride for one in axes],
        padding,
        [one.dilation for one in axes],
        False,
        True,
    )
    with_padding = bool(node.attributes.get("count_include_pad", 0))
    for place, one in enumerate(axes):
        counts = np.asarray(one.elements(with_padding=with_padding))
        if np.any(counts != one.kernel):
            # One factor for each window of an axis: one for each element of the result would be as large as that.
            shape = [-1 if axis == place + 2 else 1 for axis in range(len(axes) + 2)]
            factors = (one.kernel / np.maximum(counts, 1)).reshape(shape)
            pooled = relax.op.multiply(node.emit(pooled), constant(factors, dtype))
    return pooled


CONVERTERS: dict[str, Converter] = {"AveragePool": _average, "MaxPool": _max}
"""Operator -> its converter."""
