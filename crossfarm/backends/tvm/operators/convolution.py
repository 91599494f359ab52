"""Transposed convolutions whose output's shape is stated."""

from __future__ import annotations

from tvm import relax

from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.types import RelaxExpr

_LAYOUTS = {1: ("NCW", "IOW"), 2: ("NCHW", "IOHW"), 3: ("NCDHW", "IODHW")}


def _transposed(node: Node) -> RelaxExpr | None:
    """Return a ConvTranspose with `output_shape`; None for any other.

    The padding follows from the shape, as the standard has it; where it would be negative, zeros are added behind.
    """
    if "output_shape" not in node.attributes:
        return None
    extents = node.shape(0)[2:]
    count = len(extents)
    if count not in _LAYOUTS:
        raise UnsupportedForm(f"{count} spatial axes; 1 to 3 can be compiled")
    kernel = node.shape(1)[2:]
    strides = node.integers("strides", [1] * count)
    dilations = node.integers("dilations", [1] * count)
    extra = node.integers("output_padding", [0] * count)
    wanted = node.integers("output_shape", ())[-count:]
    befores, afters, missing = [], [], []
    for k in range(count):
        full = strides[k] * (extents[k] - 1) + extra[k] + (kernel[k] - 1) * dilations[k] + 1
        total = full - wanted[k]
        upper = node.attributes.get("auto_pad", "NOTSET") == "SAME_UPPER"
        before = max(0, total // 2 if upper else total - total // 2)
        befores.append(before)
        afters.append(max(0, total - before))
        missing.append(max(0, -total))
    operator = getattr(relax.op.nn, f"conv{count}d_transpose")
    layout, kernel_layout = _LAYOUTS[count]
    result = node.emit(
        operator(
            data=node.input(0),
            weight=node.input(1),
            strides=strides,
            padding=befores + afters,
            output_padding=extra,
            dilation=dilations,
            groups=node.attributes.get("group", 1),
            data_layout=layout,
            kernel_layout=kernel_layout,
        )
    )
    if any(missing):
        width = [0, 0, 0, 0]
        for amount in missing:
            width += [0, amount]
        result = node.emit(relax.op.nn.pad(result, width, "constant", 0.0))
    if node.has(2):
        bias = node.emit(relax.op.reshape(node.input(2), [1, -1] + [1] * count))
        result = relax.op.add(result, bias)
    return result


CONVERTERS: dict[str, Converter] = {"ConvTranspose": _transposed}
"""Operator -> its converter."""
