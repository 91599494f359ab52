"""Channels that wide vectors do not divide: the last vector is moved back over some of the one before it.

Narrower vectors would divide more, but the epilogue of an accumulator costs nearly as much for a narrow vector as for a
wide one. So accumulators are computed for slots, of which whole vectors have more than there are channels; some
channels are computed in two slots, with the same result. With 11 channels and vectors of 4 lanes:

    slots      0  1  2  3 | 4  5  6  7 | 8  9 10 11
    channels   0  1  2  3 | 4  5  6  7 | 7  8  9 10      channel 7 is computed, and stored, twice
                                        ^ the last vector begins at 11 - 4

A function never reads what it writes, so that it may write it twice. (schedules/overlapping_tiles.py moves tiles of a
schedule that stands; an instruction for a whole vector wants it done before.)
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import tvm
import tvm_ffi
from tvm import s_tir, te, tirx

from crossfarm.backends.tvm.schedules.primitives import blocks, function_of, inline_spatial, schedule_of
from crossfarm.backends.tvm.types import (
    Array,
    Buffer,
    BufferLoad,
    For,
    PrimExpr,
    PrimFunc,
    SBlock,
    SBlockRealize,
    Schedule,
    Tensor,
    TensorRegion,
    Var,
)

LANES = "crossfarm.overlapping"
"""Annotation of the accumulators: lanes of the vectors in whose slots they stand."""


def slot_count(channels: int, lanes: int) -> int:
    """Return how many lanes whole vectors have together."""
    return -(-channels // lanes) * lanes


def slot_channels(channels: int, lanes: int) -> Array:
    """Return which channel each slot computes, [slots]; there are at least as many channels as lanes."""
    slots = np.arange(slot_count(channels, lanes))
    return np.asarray(np.minimum(slots // lanes * lanes, channels - lanes) + slots % lanes)


def channel_of_slot(slot: PrimExpr, channels: int, lanes: int) -> PrimExpr:
    """Return the channel that a slot computes."""
    if channels % lanes == 0:
        return slot
    dtype = str(slot.ty.dtype)
    start = tirx.min(
        tirx.floordiv(slot, tirx.const(lanes, dtype)) * tirx.const(lanes, dtype),
        tirx.const(channels - lanes, dtype),
    )
    return start + tirx.floormod(slot, tirx.const(lanes, dtype))


def by_channel(accumulators: Tensor, channels: int, lanes: int) -> Tensor:
    """Return accumulators [..., slots] in the order of channels, [..., C]."""
    slots = int(accumulators.shape[-1])
    if slots == channels:
        return accumulators

    def element(*index: Var) -> PrimExpr:
        *outer, c = index
        return accumulators[(*outer, _slot_of_channel(c, channels, lanes))]

    return te.compute((*accumulators.shape[:-1], channels), element, name="crossfarm_by_channel")


def _slot_of_channel(channel: Var, channels: int, lanes: int) -> PrimExpr:
    """Return the last slot that computes a channel."""
    dtype = str(channel.ty.dtype)
    moved = tirx.const(slot_count(channels, lanes) - channels, dtype)
    return tirx.Select(tirx.const(channels - lanes, dtype) <= channel, channel + moved, channel)


def store_all_slots(schedule: Schedule, *, accumulators: str, keep: Collection[str]) -> Schedule:
    """Return a schedule after `inline_spatial`, in which the results of all slots are stored.

    Where it is not one block alone that reads the accumulators and stores the results, all stays as it is: the
    accumulators are then put in the order of channels, which takes time.

    Args:
        schedule: of a PrimFunc.
        accumulators: name of the block that computes them.
        keep: see `inline_spatial`.
    """
    inline_spatial(schedule, keep=keep)
    block = schedule.get_sblock(accumulators)
    consumers = schedule.get_consumers(block)
    lanes = schedule.get(block).annotations.get(LANES)
    if (
        lanes is None
        or len(consumers) != 1
        or not schedule.get_sref(consumers[0]).same_as(schedule.get_sref(blocks(schedule)[-1]))
    ):
        return schedule
    buffer = schedule.get(block).writes[0].source
    reader = schedule.get(consumers[0])
    channels = int(reader.iter_vars[-1].dom.extent)
    if not _reads_all(reader, buffer, channels, int(lanes)):
        return schedule
    slots = int(buffer.ty.shape[-1])
    last = schedule.get(schedule.get_loops(consumers[0])[-1])

    def realize(statement: SBlockRealize) -> SBlockRealize:
        is_reader = str(statement.block.name_hint) == str(reader.name_hint)
        return _over_slots(statement, buffer, channels, int(lanes)) if is_reader else statement

    def loop(statement: For) -> For:
        if not statement.loop_var.same_as(last.loop_var):
            return statement
        extent = tirx.const(slots, str(statement.loop_var.ty.dtype))
        return tirx.For(statement.loop_var, statement.min, extent, statement.kind, statement.body)

    function = function_of(schedule)
    body = tvm_ffi.structural_map(function.body, (s_tir.SBlockRealize, realize))
    return schedule_of(_with_names_once(function.with_body(tvm_ffi.structural_map(body, (tirx.For, loop)))))


def _with_names_once(function: PrimFunc) -> PrimFunc:
    """Give each `Let` a variable of its own: a function that was inlined at two places has its variables twice.

    A new schedule refuses such a function, which the schedule that inlined it takes.
    """
    module = tvm.IRModule({"main": function})
    return tirx.transform.ConvertSSA()(module)["main"]


def _reads_all(block: SBlock, accumulators: Buffer, channels: int, lanes: int) -> bool:
    """Say whether a block reads the accumulators of all channels in order, in the slots that `by_channel` told."""
    last = block.iter_vars[-1].var
    found: list[BufferLoad] = []
    tvm_ffi.structural_walk(
        block.body, (tvm.ir.TensorLoad, lambda load: found.append(load) if load.source.same_as(accumulators) else None)
    )
    wanted = _slot_of_channel(last, channels, lanes)
    return bool(found) and all(tvm_ffi.structural_equal(load.indices[-1], wanted) for load in found)


def _over_slots(statement: SBlockRealize, accumulators: Buffer, channels: int, lanes: int) -> SBlockRealize:
    """Return a block with an axis of slots instead of its last one, which reads the accumulators there."""
    block = statement.block
    *axes, last = block.iter_vars
    dtype = str(last.var.ty.dtype)
    slot = tirx.Var("place", dtype)
    channel = channel_of_slot(slot, channels, lanes)

    def renamed(expression: PrimExpr) -> PrimExpr:
        return tvm_ffi.structural_map(expression, (tirx.Var, lambda var: channel if var.same_as(last.var) else var))

    def load(found: BufferLoad) -> BufferLoad:
        is_accumulator = found.source.same_as(accumulators)
        return tirx.BufferLoad(found.source, [*found.indices[:-1], slot]) if is_accumulator else found

    def region(found: TensorRegion) -> TensorRegion:
        ranges = [tvm.ir.Range.from_min_extent(renamed(each.min), each.extent) for each in found.region]
        if found.source.same_as(accumulators):
            ranges[-1] = tvm.ir.Range.from_min_extent(slot, tirx.const(1, dtype))
        return tvm.ir.TensorRegion(found.source, ranges, found.ty)

    extent = tirx.const(slot_count(channels, lanes), dtype)
    axis = tirx.IterVar(tvm.ir.Range.from_min_extent(tirx.const(0, dtype), extent), slot, int(last.iter_type))
    made = s_tir.SBlock(
        [*axes, axis],
        [region(each) for each in block.reads],
        [region(each) for each in block.writes],
        str(block.name_hint),
        tvm_ffi.structural_map(renamed(block.body), (tvm.ir.TensorLoad, load)),
        annotations=dict(block.annotations),
    )
    return s_tir.SBlockRealize(statement.iter_values, statement.predicate, made)
