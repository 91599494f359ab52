"""Weights on their way into the cache before they are needed.

A layer with few pixels reads each weight a few times only, and the first time from far: prefetchers of processors stop
at the end of a page, which such a layer passes every few hundred cycles.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir.expr import TensorLoad

PREFETCHED = "crossfarm.prefetched"
"""Annotation of the loop over the depth: how many steps of the sum each of its trips does."""
AHEAD_BYTES = 4096
LINE_FLOATS = 16
"""Of 64 bytes, the cache line of x86 and of most ARM cores."""
_READ, _KEEP, _DATA = 0, 3, 1
"""Arguments of llvm.prefetch."""


def with_prefetches(function: Any, *, weights: Any) -> Any:
    """Return a scheduled PrimFunc whose annotated loops begin each trip with prefetches of the weights.

    Args:
        function: with blocks that read packed weights, [..., depth, columns of a block].
        weights: the buffer that holds them.
    """

    def visit(loop: Any) -> Any:
        steps = loop.annotations.get(PREFETCHED)
        if steps is None:
            return loop
        rest = {key: value for key, value in loop.annotations.items() if key != PREFETCHED}
        body = tirx.SeqStmt([*_prefetches(loop, weights, int(steps)), loop.body])
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, rest)

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, visit)))


def _prefetches(loop: Any, source: Any, steps: int) -> list[Any]:
    """Return prefetches for the lines that the steps of one trip will read a page later."""
    place = _first_read(loop.body, source)
    columns = int(source.ty.shape[-1])
    ahead = AHEAD_BYTES // (4 * columns)
    made = []
    for step in range(steps):
        for line in range(0, columns, LINE_FLOATS):
            index = [*place[:-2], place[-2] + (step + ahead), place[-1] + line]
            address = tirx.address_of(tirx.BufferLoad(source, index))
            constants = [tirx.const(value, "int32") for value in (_READ, _KEEP, _DATA)]
            made.append(tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch.p0", address, *constants)))
    return made


def _first_read(body: Any, source: Any) -> list[Any]:
    """Return where the first step of a trip reads the weights, in variables of the loops around it."""
    realizes: list[Any] = []
    loads: list[Any] = []
    inner: list[Any] = []
    tvm_ffi.structural_walk(body, (s_tir.SBlockRealize, realizes.append))
    tvm_ffi.structural_walk(body, (tirx.For, lambda loop: inner.append(loop.loop_var)))
    tvm_ffi.structural_walk(realizes[0].block.body, (TensorLoad, loads.append))
    values = dict(zip((axis.var for axis in realizes[0].block.iter_vars), realizes[0].iter_values, strict=True))
    starts = {variable: tirx.const(0, str(variable.ty.dtype)) for variable in inner}
    read = next(load for load in loads if load.source.same_as(source))
    return [_replaced(_replaced(index, values), starts) for index in read.indices]


def _replaced(expression: Any, values: dict[Any, Any]) -> Any:
    def value_of(variable: Any) -> Any:
        return next((value for key, value in values.items() if key.same_as(variable)), variable)

    return tvm_ffi.structural_map(expression, (tirx.Var, value_of))
