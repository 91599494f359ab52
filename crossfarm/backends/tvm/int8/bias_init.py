"""Accumulators begin with the bias, instead of being cleared first and having it added last.

Whether a register is set to 0 or loaded costs the same; the addition behind every accumulator is saved. Integers can be
added in any order.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from crossfarm.backends.tvm.types import Buffer, BufferLoad, PrimExpr, PrimFunc, SBlock, Stmt, TensorRegion


def with_initial(function: PrimFunc, accumulators: str) -> PrimFunc:
    """Return a scheduled PrimFunc whose int32 accumulators begin with the bias of their channels.

    Args:
        function: in which the block has been split from its start, and one block reads the accumulators.
        accumulators: name of the block.
    """
    while True:
        found = _addition(function, accumulators)
        if found is None:
            return function
        reader, buffer, load, addend = found
        function = _moved(
            function, start=f"{accumulators}_init", reader=reader, buffer=buffer, load=load, addend=addend
        )


def _addition(function: PrimFunc, accumulators: str) -> tuple[str, Buffer, BufferLoad, BufferLoad] | None:
    """Return the reader of the accumulators, their buffer, one such load, and the bias it always adds; or None."""
    blocks: list[SBlock] = []
    tvm_ffi.structural_walk(function.body, (s_tir.SBlock, blocks.append))
    starts = [block for block in blocks if str(block.name_hint) == f"{accumulators}_init"]
    if len(starts) != 1 or not isinstance(starts[0].body, tirx.BufferStore):
        return None
    buffer = starts[0].body.buffer
    readers = [block for block in blocks if any(read.source.same_as(buffer) for read in block.reads)]
    readers = [block for block in readers if not any(write.source.same_as(buffer) for write in block.writes)]
    if str(buffer.dtype) != "int32" or len(readers) != 1:
        return None
    loads: list[BufferLoad] = []
    additions: list[PrimExpr] = []
    tvm_ffi.structural_walk(
        readers[0].body,
        (
            (tvm.ir.TensorLoad, lambda load: loads.append(load) if load.source.same_as(buffer) else None),
            (tirx.Add, lambda sum_: additions.append(sum_) if _is_sum(sum_, buffer) else None),
        ),
    )
    if not additions or len(additions) != len(loads):
        return None
    first = additions[0]
    if not all(tvm_ffi.structural_equal(first, other) for other in additions[1:]):
        return None
    axes = [axis.var for axis in readers[0].iter_vars]
    plain = all(any(index.same_as(axis) for axis in axes) for index in first.a.indices)
    return (str(readers[0].name_hint), buffer, first.a, first.b) if plain else None


def _is_sum(expression: PrimExpr, buffer: Buffer) -> bool:
    """Say whether an expression adds something that is loaded to an accumulator."""
    left, right = expression.a, expression.b
    return (
        isinstance(left, tvm.ir.TensorLoad)
        and left.source.same_as(buffer)
        and isinstance(right, tvm.ir.TensorLoad)
        and not right.source.same_as(buffer)
    )


def _moved(
    function: PrimFunc, *, start: str, reader: str, buffer: Buffer, load: BufferLoad, addend: BufferLoad
) -> PrimFunc:
    """Return a function whose block `start` stores `addend`, which the block `reader` adds no more."""

    def without(sum_: PrimExpr) -> PrimExpr:
        # What is added to this sum again looks the same as soon as the sum is gone.
        is_meant = _is_sum(sum_, buffer) and tvm_ffi.structural_equal(sum_.b, addend)
        return sum_.a if is_meant else sum_

    def change(block: SBlock) -> SBlock:
        if str(block.name_hint) == start:
            places = list(zip(load.indices, block.body.indices, strict=True))
            added = tvm_ffi.structural_map(
                addend, (tirx.Var, lambda var: next((place for axis, place in places if axis.same_as(var)), var))
            )
            value = block.body.value
            is_zero = isinstance(value, tirx.IntImm) and int(value) == 0
            body = tirx.BufferStore(buffer, added if is_zero else value + added, block.body.indices)
            region = tvm.ir.TensorRegion(
                addend.source, [tvm.ir.Range.from_min_extent(index, 1) for index in added.indices], addend.source.ty
            )
            return _like(block, body, [*block.reads, region])
        if str(block.name_hint) == reader:
            return _like(block, tvm_ffi.structural_map(block.body, (tirx.Add, without)), list(block.reads))
        return block

    return function.with_body(tvm_ffi.structural_map(function.body, (s_tir.SBlock, change)))


def _like(block: SBlock, body: Stmt, reads: list[TensorRegion]) -> SBlock:
    return s_tir.SBlock(
        block.iter_vars,
        reads,
        block.writes,
        str(block.name_hint),
        body,
        block.init,
        block.alloc_buffers,
        block.match_buffers,
        block.annotations,
    )
