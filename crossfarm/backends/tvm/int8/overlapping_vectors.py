"""Channels that wide vectors do not divide: the last vector is moved back over some of the one before it.

Narrower vectors would divide more, but what stands behind every sum costs nearly as much for a narrow vector as for a
wide one. So sums are computed for places, of which whole vectors have more than there are channels; some channels are
computed at two places, with the same result. A function never reads what it writes, so that it may write it twice.
(overlapping.py moves tiles of a schedule that stands; an instruction for a whole vector wants it done before.)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import s_tir, te, tirx

from crossfarm.backends.tvm.passes.relax_utils import Array
from crossfarm.backends.tvm.schedules.primitives import blocks, function_of, inline_spatial, schedule_of

LANES = "crossfarm.overlapping"
"""Annotation of the sums: lanes of the vectors whose places they stand in."""


def places_of(channels: int, lanes: int) -> int:
    """Return how many sums whole vectors have together."""
    return -(-channels // lanes) * lanes


def channels_of(channels: int, lanes: int) -> Array:
    """Return which channel each place computes; there are at least as many channels as lanes."""
    places = np.arange(places_of(channels, lanes))
    return np.asarray(np.minimum(places // lanes * lanes, channels - lanes) + places % lanes)


def channel_of(place: Any, channels: int, lanes: int) -> Any:
    """Return the expression of the channel that a place computes."""
    if channels % lanes == 0:
        return place
    dtype = str(place.ty.dtype)
    start = tirx.min(
        tirx.floordiv(place, tirx.const(lanes, dtype)) * tirx.const(lanes, dtype),
        tirx.const(channels - lanes, dtype),
    )
    return start + tirx.floormod(place, tirx.const(lanes, dtype))


def by_channel(sums: Any, channels: int, lanes: int) -> Any:
    """Return the te.Tensor of sums in the order of channels from one in the order of places."""
    places = int(sums.shape[-1])
    if places == channels:
        return sums

    def element(*index: Any) -> Any:
        *outer, c = index
        return sums[(*outer, _place(c, channels, lanes))]

    return te.compute((*sums.shape[:-1], channels), element, name="crossfarm_by_channel")


def _place(channel: Any, channels: int, lanes: int) -> Any:
    """Return the expression of the last place that computes a channel."""
    dtype = str(channel.ty.dtype)
    moved = tirx.const(places_of(channels, lanes) - channels, dtype)
    return tirx.Select(tirx.const(channels - lanes, dtype) <= channel, channel + moved, channel)


def over_places(schedule: Any, *, sums: str, keep: Collection[str]) -> Any:
    """Return a schedule after `inline_spatial`, in which the results of all places are stored.

    Where it is not one block alone that takes the sums and stores the results, all stays as it is: the sums are then
    put in the order of channels, which takes time.

    Args:
        schedule: of a PrimFunc.
        sums: name of the block that computes the sums.
        keep: see `inline_spatial`.
    """
    inline_spatial(schedule, keep=keep)
    block = schedule.get_sblock(sums)
    behind = schedule.get_consumers(block)
    lanes = schedule.get(block).annotations.get(LANES)
    if (
        lanes is None
        or len(behind) != 1
        or not schedule.get_sref(behind[0]).same_as(schedule.get_sref(blocks(schedule)[-1]))
    ):
        return schedule
    buffer = schedule.get(block).writes[0].source
    taken = schedule.get(behind[0])
    channels = int(taken.iter_vars[-1].dom.extent)
    if not _takes(taken, buffer, channels, int(lanes)):
        return schedule
    places = int(buffer.ty.shape[-1])
    last = schedule.get(schedule.get_loops(behind[0])[-1])

    def realize(statement: Any) -> Any:
        is_taken = str(statement.block.name_hint) == str(taken.name_hint)
        return _realized(statement, buffer, channels, int(lanes)) if is_taken else statement

    def loop(statement: Any) -> Any:
        if not statement.loop_var.same_as(last.loop_var):
            return statement
        extent = tirx.const(places, str(statement.loop_var.ty.dtype))
        return tirx.For(statement.loop_var, statement.min, extent, statement.kind, statement.body)

    function = function_of(schedule)
    body = tvm_ffi.structural_map(function.body, (s_tir.SBlockRealize, realize))
    return schedule_of(function.with_body(tvm_ffi.structural_map(body, (tirx.For, loop))))


def _takes(block: Any, sums: Any, channels: int, lanes: int) -> bool:
    """Say whether a block reads the sums of all channels in order, at the places that `by_channel` told."""
    last = block.iter_vars[-1].var
    found: list[Any] = []
    tvm_ffi.structural_walk(
        block.body, (tvm.ir.TensorLoad, lambda load: found.append(load) if load.source.same_as(sums) else None)
    )
    wanted = _place(last, channels, lanes)
    return bool(found) and all(tvm_ffi.structural_equal(load.indices[-1], wanted) for load in found)


def _realized(statement: Any, sums: Any, channels: int, lanes: int) -> Any:
    """Return a block with an axis of places instead of its last one, which reads the sums there."""
    block = statement.block
    *axes, last = block.iter_vars
    dtype = str(last.var.ty.dtype)
    place = tirx.Var("place", dtype)
    channel = channel_of(place, channels, lanes)

    def renamed(expression: Any) -> Any:
        return tvm_ffi.structural_map(expression, (tirx.Var, lambda var: channel if var.same_as(last.var) else var))

    def load(found: Any) -> Any:
        is_sum = found.source.same_as(sums)
        return tirx.BufferLoad(found.source, [*found.indices[:-1], place]) if is_sum else found

    def region(found: Any) -> Any:
        ranges = [tvm.ir.Range.from_min_extent(renamed(each.min), each.extent) for each in found.region]
        if found.source.same_as(sums):
            ranges[-1] = tvm.ir.Range.from_min_extent(place, tirx.const(1, dtype))
        return tvm.ir.TensorRegion(found.source, ranges, found.ty)

    extent = tirx.const(places_of(channels, lanes), dtype)
    axis = tirx.IterVar(tvm.ir.Range.from_min_extent(tirx.const(0, dtype), extent), place, int(last.iter_type))
    made = s_tir.SBlock(
        [*axes, axis],
        [region(each) for each in block.reads],
        [region(each) for each in block.writes],
        str(block.name_hint),
        tvm_ffi.structural_map(renamed(block.body), (tvm.ir.TensorLoad, load)),
        annotations=dict(block.annotations),
    )
    return s_tir.SBlockRealize(statement.iter_values, statement.predicate, made)
