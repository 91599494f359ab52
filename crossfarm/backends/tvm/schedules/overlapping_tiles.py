"""Tiles that do not divide their axis: instead of guarding every element of the last one, it is moved back.

    10 rows in tiles of 4     rows    0 1 2 3 4 5 6 7 8 9
    guarded                          [tile 0][tile 1][ti..]     a test for every element of the last tile
    overlapping                      [tile 0][tile 1]
                                                 [tile 2]       begins at min(2 * 4, 10 - 4) = 6

A guard would stand inside the innermost loops. The moved tile computes some elements a second time, with the same
result, and stores them a second time; a function never reads what it writes for that.
"""

from __future__ import annotations

import functools
import operator

import tvm_ffi
from tvm import s_tir, tirx

from crossfarm.backends.tvm.types import PrimExpr, PrimFunc, SBlockRealize


def without_guards(function: PrimFunc) -> PrimFunc:
    """Return a scheduled PrimFunc in which blocks of the form `where(t * m + i < n)` stand at `min(t * m, n - m) + i`.

    A block qualifies when the guarded expressions are axes of its own and t counts tiles of m elements, m at most n.
    Other guards stay. The whole tile is moved, not a part of it: parts that overlap would be summed twice.
    """

    def move(realize: SBlockRealize) -> SBlockRealize:
        values = list(realize.iter_values)
        for guard in _terms(realize.predicate, tirx.And):
            place = _guarded(guard, values)
            moved = None if place is None else _moved(values[place], int(guard.b))
            if place is None or moved is None:
                return realize
            values[place] = moved
        return s_tir.SBlockRealize(values, True, realize.block)

    return function.with_body(tvm_ffi.structural_map(function.body, (s_tir.SBlockRealize, move)))


def _terms(expression: PrimExpr, kind: type[PrimExpr]) -> list[PrimExpr]:
    """Return what a chain of one operator joins."""
    if isinstance(expression, kind):
        return [*_terms(expression.a, kind), *_terms(expression.b, kind)]
    return [expression]


def _guarded(guard: PrimExpr, values: list[PrimExpr]) -> int | None:
    """Return which of a block's axes a guard keeps below a constant."""
    if not isinstance(guard, tirx.LT) or not isinstance(guard.b, tirx.IntImm):
        return None
    return next((place for place, value in enumerate(values) if tvm_ffi.structural_equal(value, guard.a)), None)


def _moved(guarded: PrimExpr, bound: int) -> PrimExpr | None:
    """Return min(t * m, bound - m) + rest for t * m + rest; None when it has another form."""
    terms = _terms(guarded, tirx.Add)
    sizes = [_factor(term) for term in terms]
    size = max(sizes)
    if len(terms) < 2 or sizes.count(size) != 1 or not 1 < size <= bound:
        return None
    tile = terms.pop(sizes.index(size))
    limit = tirx.IntImm(str(tile.ty.dtype), bound - size)
    return functools.reduce(operator.add, terms, tirx.min(tile, limit))


def _factor(term: PrimExpr) -> int:
    return int(term.b) if isinstance(term, tirx.Mul) and isinstance(term.b, tirx.IntImm) else 1
