"""Kernels that are written as loops, where one step over a row or a tile needs what the last one left in registers.

All tensors are seen as one row of float32 in C order; strides say where an element of an axis stands in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, s_tir, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.passes.relax_utils import static_shape
from crossfarm.backends.tvm.schedules.vector_math import exponential_of_negative
from crossfarm.backends.tvm.types import BlockBuilder, Buffer, PrimExpr, PrimFunc, RelaxExpr, RelaxVar, Stmt, Tensor

_PREFIX = "crossfarm_loops_"
Row = Any
"""A buffer of one axis, which is read and written by index."""
Body = Callable[..., None]
"""Writes the loops; takes a Row for each input and one for the result."""


def emit(
    builder: BlockBuilder, body: Body, inputs: Sequence[RelaxExpr], shape: Sequence[int], *, name: str
) -> RelaxVar:
    """Emit a call of a kernel, and return its result.

    Args:
        builder: of the function that is rewritten.
        body: writes the loops.
        inputs: float32 tensors of any static shape.
        shape: of the result, float32.
        name: for the function.
    """
    rows = [_flat(builder, each) for each in inputs]
    size = math.prod(shape)

    def write(ins: Sequence[Buffer], outs: Sequence[Buffer]) -> Stmt:
        with IRBuilder() as writer:
            with T.seq_scope():
                body(*(T.buffer_proxy(buffer) for buffer in (*ins, *outs)))
            return writer.get()

    def compute(*tensors: Tensor) -> Tensor:
        buffers = [tirx.decl_buffer(each.shape, each.dtype, f"in{k}", layout=None) for k, each in enumerate(tensors)]
        return te.extern(
            [[size]],
            list(tensors),
            write,
            dtype=["float32"],
            in_buffers=buffers,
            out_buffers=[tirx.decl_buffer((size,), "float32", "out", layout=None)],
            name=_PREFIX + name,
        )

    made = builder.emit(builder.call_te(compute, *rows, primfunc_name_hint=name))
    return builder.emit(relax.op.reshape(made, list(shape)))


def is_written(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a kernel of `emit`: its loops are written for the processor and not scheduled."""
    block = function.body.block if isinstance(function.body, s_tir.SBlockRealize) else None
    return block is not None and str(block.name_hint).startswith(_PREFIX)


def _flat(builder: BlockBuilder, value: RelaxExpr) -> RelaxExpr:
    size = math.prod(static_shape(value) or ())
    return value if static_shape(value) == (size,) else builder.emit(relax.op.reshape(value, [size]))


def in_registers(size: int) -> Row:
    """Return a small array of float32 of which LLVM makes registers."""
    return T.buffer_proxy(T.alloc_buffer((size,), "float32", scope="local"))


def in_memory(size: int) -> Row:
    """Return an array of float32 that lives as long as the trip of the loop around it."""
    return T.buffer_proxy(T.alloc_buffer((size,), "float32", scope="global"))


def number(value: float) -> PrimExpr:
    """Return a float32 constant."""
    return tirx.const(value, "float32")


def fill(row: Row, start: PrimExpr, count: int, lanes: int, value: float) -> None:
    """Write `count` numbers, in vectors as far as they go."""
    vectors = count // lanes
    if vectors:
        with T.serial(0, vectors) as vector, T.vectorized(0, lanes) as lane:
            row[start + vector * lanes + lane] = number(value)
    for place in range(vectors * lanes, count):
        row[start + place] = number(value)


def across(row: Row, lanes: int, combine: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> None:
    """Reduce the lanes of a vector to its first element, half by half; `lanes` is a power of two."""
    width = lanes // 2
    while width > 1:
        with T.vectorized(0, width) as lane:
            row[lane] = combine(row[lane], row[lane + width])
        width //= 2
    row[0] = combine(row[0], row[1])


def larger(left: PrimExpr, right: PrimExpr) -> PrimExpr:
    """Return the larger of two numbers; a tirx.Max would keep NaN (passes/maxima.py)."""
    return tirx.Select(left > right, left, right)


def total_of(left: PrimExpr, right: PrimExpr) -> PrimExpr:
    """Return a sum."""
    return left + right


def share(row: Row, start: PrimExpr, vectors: int, lanes: int, kept: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> None:
    """Make whole vectors of a row exp(x - max) / sum of them: a softmax.

    A row that holds NaN or infinity, or -infinity alone, becomes NaN, as a difference in it is. So the maximum may
    lose NaN, which is cheaper.

    Args:
        row: that holds the numbers and is to hold the shares.
        start: where they begin.
        vectors: of them.
        lanes: of a vector.
        kept: takes a share and its place behind `start`, and returns what is kept of it.
    """
    most, sums = in_registers(lanes), in_registers(lanes)
    with T.vectorized(0, lanes) as lane:
        most[lane] = row[start + lane]
    if vectors > 1:
        with T.serial(1, vectors) as vector, T.vectorized(0, lanes) as lane:
            most[lane] = larger(most[lane], row[start + vector * lanes + lane])
    across(most, lanes, larger)
    with T.vectorized(0, lanes) as lane:
        sums[lane] = number(0.0)
    with T.serial(0, vectors) as vector, T.vectorized(0, lanes) as lane:
        place, below = start + vector * lanes + lane, tirx.Var("below", "float32")
        row[place] = tirx.Let(below, row[place] - most[0], exponential_of_negative(below))
        sums[lane] = sums[lane] + row[place]
    across(sums, lanes, total_of)
    factor = in_registers(1)
    factor[0] = number(1.0) / sums[0]
    with T.serial(0, vectors) as vector, T.vectorized(0, lanes) as lane:
        place = start + vector * lanes + lane
        row[place] = kept(row[place] * factor[0], vector * lanes + lane)
