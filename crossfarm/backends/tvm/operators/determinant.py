"""The determinant of matrices."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.operators.serial import Row, run_loops, scalar
from crossfarm.backends.tvm.types import RelaxExpr


def _det(node: Node) -> RelaxExpr:
    """Eliminate below the largest element of each column, and multiply the diagonal."""
    *lead, size, width = node.shape(0)
    dtype, count = node.dtype(0), math.prod(lead)
    if size != width or size < 1 or not dtype.startswith("float"):
        raise UnsupportedForm(f"it is of {size} x {width} elements of {dtype}")

    def body(values: Row, result: Row, left: Row) -> None:
        with T.serial(0, count * size * size) as place:
            left[place] = values[place]
        with T.serial(0, count) as number:
            base = number * size * size
            product, factor, best = scalar(dtype), scalar(dtype), scalar("int32")
            product[0] = tirx.const(1, dtype)
            with T.serial(0, size) as column:
                best[0] = column
                with T.serial(0, size) as row:
                    larger = tirx.abs(left[base + row * size + column]) > tirx.abs(left[base + best[0] * size + column])
                    with T.If(tirx.all(row > column, larger)), T.Then():
                        best[0] = row
                with T.If(best[0] != column), T.Then():
                    product[0] = -product[0]
                    with T.serial(0, size) as k:
                        factor[0] = left[base + column * size + k]
                        left[base + column * size + k] = left[base + best[0] * size + k]
                        left[base + best[0] * size + k] = factor[0]
                product[0] = product[0] * left[base + column * size + column]
                is_regular = left[base + column * size + column] != tirx.const(0, dtype)
                with T.serial(0, size) as row, T.If(tirx.all(row > column, is_regular)), T.Then():
                    factor[0] = left[base + row * size + column] / left[base + column * size + column]
                    with T.serial(0, size) as k:
                        there = base + row * size + k
                        left[there] = left[there] - factor[0] * left[base + column * size + k]
            result[number] = product[0]

    outputs = [(tuple(lead), dtype), ((count * size * size,), dtype)]
    return run_loops(node, body, inputs=[node.input(0)], outputs=outputs)[0]


CONVERTERS: dict[str, Converter] = {"Det": _det}
"""Operator -> its converter."""
