"""Conditions that a whole tile shares: tested once around it, instead of once for every element in it.

A sum that leaves out what lies outside of an image reads `if_then_else(inside, product, 0)` for every element. Where
`inside` does not depend on the loops of a tile, the test belongs around them.
"""

from __future__ import annotations

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Call

from crossfarm.backends.tvm.types import For, LoopRV, PrimExpr, PrimFunc, SBlockRealize, Schedule, Stmt, Var

_MARK = "crossfarm.hoist"
_SUM, _COPY = 1, 2


def mark_sum(schedule: Schedule, loop: LoopRV) -> None:
    """Mark a loop around a sum that adds 0 where its condition fails: then nothing is done."""
    schedule.annotate(loop, _MARK, _SUM)


def mark_copy(schedule: Schedule, loop: LoopRV) -> None:
    """Mark a loop around a copy that writes one value where its condition holds, and another one where it fails."""
    schedule.annotate(loop, _MARK, _COPY)


def with_hoisted(function: PrimFunc) -> PrimFunc:
    """Return a scheduled PrimFunc whose marked loops test the condition of the block inside them first.

    What stands in a block as `if_then_else(condition, value, other)`, below a marked loop, becomes one of the values,
    and the loop's body runs under the condition. Where the condition needs the loops of the body, all stays as it is.
    """

    def hoist(loop: For) -> Stmt:
        if _MARK not in loop.annotations:
            return loop
        kind = int(loop.annotations[_MARK])
        rest = {key: value for key, value in loop.annotations.items() if key != _MARK}
        found, body = _condition(loop.body), loop.body
        if found is not None:
            inside, condition = found
            other = None if kind == _SUM else _chosen(body, inside, 2)
            body = tirx.IfThenElse(condition, _chosen(body, inside, 1), other)
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, rest)

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, hoist)))


def _condition(body: Stmt) -> tuple[PrimExpr, PrimExpr] | None:
    """Return the condition in a loop's body, as its block has it and in terms of loops; None when it has none."""
    inner: list[Var] = []
    found: list[tuple[SBlockRealize, PrimExpr]] = []

    def block(realize: SBlockRealize) -> None:
        tvm_ffi.structural_walk(
            realize.block.body, (Call, lambda call: found.append((realize, call)) if _is_choice(call) else None)
        )

    tvm_ffi.structural_walk(body, (tirx.For, lambda loop: inner.append(loop.loop_var)))
    tvm_ffi.structural_walk(body, (s_tir.SBlockRealize, block))
    if not found:
        return None
    realize, call = found[0]
    axes = [(axis.var, value) for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)]
    condition = _substituted(call.args[0], axes)
    used: list[Var] = []
    tvm_ffi.structural_walk(condition, (tirx.Var, used.append))
    needs_inner = any(variable.same_as(loop) for variable in used for loop in inner)
    return None if needs_inner else (call.args[0], condition)


def _substituted(expression: PrimExpr, values: list[tuple[Var, PrimExpr]]) -> PrimExpr:
    def value_of(variable: Var) -> PrimExpr:
        return next((value for known, value in values if known.same_as(variable)), variable)

    return tvm_ffi.structural_map(expression, (tirx.Var, value_of))


def _chosen(body: Stmt, condition: PrimExpr, argument: int) -> Stmt:
    """Return a loop's body with one of the values of each choice by a condition."""

    def choose(call: PrimExpr) -> PrimExpr:
        is_meant = _is_choice(call) and tvm_ffi.structural_equal(call.args[0], condition)
        return call.args[argument] if is_meant else call

    return tvm_ffi.structural_map(body, (Call, choose))


def _is_choice(call: PrimExpr) -> bool:
    return getattr(call.op, "name", None) == "prim.if_then_else"
