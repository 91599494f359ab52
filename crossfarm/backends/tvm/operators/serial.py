"""Functions that are written as loops, for what no tensor expression describes: one step needs the result of another.

All tensors are seen as one row of elements in C order, so that an index is a number and not a tuple.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.emitting import reshaped
from crossfarm.backends.tvm.operators.node import Node, UnsupportedForm, shape_of
from crossfarm.backends.tvm.types import Buffer, PrimExpr, RelaxExpr, RelaxVar, Stmt, Tensor

Row = Any
"""A buffer of one axis, which is read and written by index."""
Body = Callable[..., None]
"""Writes the loops; takes a Row for each input, then one for each output."""


def run_loops(
    node: Node,
    body: Body,
    *,
    inputs: Sequence[RelaxExpr],
    outputs: Sequence[tuple[Sequence[int], str]],
    name: str = "",
) -> list[RelaxVar]:
    """Emit one function of loops.

    Args:
        node: that is imported.
        body: writes the loops.
        inputs: tensors of any shape.
        outputs: shape and dtype of each; a scratch buffer is an output that nobody reads.
        name: of the function in the compiled code; the operator's when it is empty.

    Returns:
        The outputs.
    """
    rows = [reshaped(node, each, [math.prod(shape_of(each))]) for each in inputs]
    sizes = [(max(1, math.prod(shape)),) for shape, _ in outputs]
    dtypes = [dtype for _, dtype in outputs]

    def write(ins: Sequence[Buffer], outs: Sequence[Buffer]) -> Stmt:
        with IRBuilder() as builder:
            with T.seq_scope():
                body(*(T.buffer_proxy(buffer) for buffer in (*ins, *outs)))
            return builder.get()

    def compute(*tensors: Tensor) -> Tensor:
        return te.extern(
            [list(size) for size in sizes],
            list(tensors),
            write,
            dtype=dtypes,
            in_buffers=[
                tirx.decl_buffer(each.shape, each.dtype, f"in{k}", layout=None) for k, each in enumerate(tensors)
            ],
            out_buffers=[
                tirx.decl_buffer(size, dtype, f"out{k}", layout=None)
                for k, (size, dtype) in enumerate(zip(sizes, dtypes, strict=True))
            ],
            name=name or node.operator.lower(),
        )

    made = node.compute(compute, *rows, name=name or node.operator.lower())
    parts = [made] if len(outputs) == 1 else [node.emit(_field(made, place)) for place in range(len(outputs))]
    return [reshaped(node, part, shape) for part, (shape, _) in zip(parts, outputs, strict=True)]


def _field(made: RelaxVar, place: int) -> RelaxExpr:
    return relax.TupleGetItem(made, place)


def scalar(dtype: str) -> Row:
    """Return a variable of the loops: read and written at index 0."""
    return T.buffer_proxy(T.alloc_buffer((1,), dtype, scope="local"))


def local(size: int, dtype: str) -> Row:
    """Return a small array on the stack."""
    return T.buffer_proxy(T.alloc_buffer((size,), dtype, scope="local"))


def inside(value: PrimExpr, extent: int) -> PrimExpr:
    """Return an index of the standard as int32: a negative one counts from the end; one beyond is moved to the edge.

    ONNX Runtime refuses an index beyond at run time; here it must at least not read foreign memory.

    Raises:
        UnsupportedForm: the axis has no elements, and so no place that an index could be moved to.
    """
    if extent < 1:
        raise UnsupportedForm("it looks for a place on an axis without elements")
    value = value.astype("int64")
    wrapped = tirx.Select(value < 0, value + extent, value)
    return tirx.max(tirx.min(wrapped, tirx.const(extent - 1, "int64")), tirx.const(0, "int64")).astype("int32")


def unravel(flat: PrimExpr, shape: Sequence[int]) -> list[PrimExpr]:
    """Return the index along each axis of an element of a row."""
    indices: list[PrimExpr] = []
    for extent in reversed(shape):
        indices.append(flat % extent)
        flat = flat // extent
    return indices[::-1]


def ravel(indices: Sequence[PrimExpr], shape: Sequence[int]) -> PrimExpr:
    """Return the place in a row of an element at an index along each axis."""
    flat: PrimExpr = tirx.const(0, "int32")
    for index, extent in zip(indices, shape, strict=True):
        flat = flat * extent + index
    return flat
