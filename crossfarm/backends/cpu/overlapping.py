"""Tiles that do not divide their axis: instead of guarding every element of the last one, it is moved back.

A guard would stand inside the innermost loops. The moved tile computes some elements a second time, with the same
result, and stores them a second time; a function never reads what it writes for that.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import s_tir, tirx


def without_guards(function: Any) -> Any:
    """Return a scheduled PrimFunc in which blocks of the form `where(base + i < n)` stand at `min(base, n - m) + i`.

    A block qualifies when the guarded expression is one of its axes and i the variable of a loop of m trips, m at most
    n. Other guards stay.
    """
    trips: dict[Any, int] = {}

    def note(loop: Any) -> None:
        if isinstance(loop.extent, tirx.IntImm):
            trips[loop.loop_var] = int(loop.extent)

    def move(realize: Any) -> Any:
        guard = realize.predicate
        if not isinstance(guard, tirx.LT) or not isinstance(guard.b, tirx.IntImm):
            return realize
        moved = _moved(guard.a, int(guard.b), trips)
        values = list(realize.iter_values)
        place = next((place for place, value in enumerate(values) if tvm_ffi.structural_equal(value, guard.a)), None)
        if moved is None or place is None:
            return realize
        values[place] = moved
        return s_tir.SBlockRealize(values, True, realize.block)

    tvm_ffi.structural_walk(function.body, (tirx.For, note))
    return function.with_body(tvm_ffi.structural_map(function.body, (s_tir.SBlockRealize, move)))


def _moved(guarded: Any, bound: int, trips: dict[Any, int]) -> Any | None:
    if not isinstance(guarded, tirx.Add) or not isinstance(guarded.b, tirx.Var):
        return None
    length = trips.get(guarded.b)
    if length is None or length > bound:
        return None
    limit = tirx.IntImm(str(guarded.b.ty.dtype), bound - length)
    return tirx.min(guarded.a, limit) + guarded.b
