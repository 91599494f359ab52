"""Finds attention in a graph, whichever way it was exported, and puts the kernel of attention.py in its place.

    scores = MatMul(Q, K) times or over constants, plus masks or chosen by them
    shares = Softmax(scores), 0 where a row is masked or is NaN
    result = MatMul(shares, V)

Q, K and V are read where they are, through the transposes and reshapes that split heads; and the result is written as
the transpose that joins heads again would write it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from crossfarm.backends.tvm.passes.relax_utils import (
    bound,
    constant_array,
    constant_number,
    is_float32,
    operator_name,
    rewrite_functions,
    static_shape,
)
from crossfarm.backends.tvm.passes.views import View, constant_factor, reshaped, strides_of, view_of
from crossfarm.backends.tvm.schedules.attention import Form, Mask, kernel, tiles_of
from crossfarm.backends.tvm.schedules.loops import emit
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.types import IRModule, RelaxCall, RelaxExpr, RelaxVar

_MOST_MASKS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scores:
    """What goes into a softmax.

    Attributes:
        product: the call of relax.matmul.
        factor: times which it is.
        masks: what happens to it then.
        operands: of the masks.
    """

    product: RelaxCall
    factor: float = 1.0
    masks: tuple[Mask, ...] = ()
    operands: tuple[RelaxExpr, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Made:
    """A kernel that stands in the graph.

    Attributes:
        flat: its result as a row.
        form: what it computes.
        operands: its arguments.
    """

    flat: RelaxExpr
    form: Form
    operands: tuple[RelaxExpr, ...]


def fuse_attention(module: IRModule, processor: Processor) -> IRModule:
    """Return a module in which each attention that a kernel covers is a call of it.

    Args:
        module: of Relax functions, whose transposes have been moved together.
        processor: what for.
    """

    @mutator
    class Fuser(PyExprMutator):  # type: ignore[misc]
        """Asks about every product and every transpose."""

        def __init__(self, module: IRModule) -> None:
            super().__init__(module)
            self.made: list[_Made] = []

        def visit_call_(self, call: RelaxCall) -> RelaxExpr:
            """Rewrite one call, whose arguments have been rewritten."""
            call = self.visit_expr_post_order(call)
            name = operator_name(call)
            rewritten = None
            if name == "relax.matmul":
                rewritten = self._attention(call)
            elif name == "relax.permute_dims" and self.made:
                rewritten = self._turned(call)
            return call if rewritten is None else rewritten

        def _attention(self, call: RelaxCall) -> RelaxExpr | None:
            shares, guards = _shares(call.args[0], self.lookup_binding)
            if operator_name(shares) != "relax.nn.softmax" or not is_float32(call, *call.args):
                return None
            shape = static_shape(shares) or ()
            if int(shares.attrs.axis) not in (-1, len(shape) - 1):
                return None
            scores = _scores(shares.args[0], self.lookup_binding, _MOST_MASKS)
            if scores is None or static_shape(scores.product) != shape:
                return None
            views = [view_of(each, self.lookup_binding) for each in scores.product.args]
            views.append(view_of(call.args[1], self.lookup_binding, factors=False))
            form = _form(scores, guards, views, static_shape(call) or (), shape)
            if form is None or tiles_of(form, processor) is None:
                return None
            others = [*scores.operands, *guards.operands]
            operands = [*(view.source for view in views), *(self._as_numbers(each) for each in others)]
            return self._emit(form, tuple(operands), static_shape(call) or ())

        def _as_numbers(self, operand: RelaxExpr) -> RelaxExpr:
            """Return float32 numbers of an operand, which may be a bool."""
            if is_float32(operand):
                return operand
            array = constant_array(operand)
            if array is not None:
                return relax.const(array.astype(np.float32))
            return self.builder_.emit(relax.op.astype(operand, "float32"))

        def _emit(self, form: Form, operands: tuple[RelaxExpr, ...], shape: tuple[int, ...]) -> RelaxExpr | None:
            tiles = tiles_of(form, processor)
            if tiles is None:
                return None
            made = emit(self.builder_, kernel(form, tiles), operands, shape, name="attention")
            self.made.append(_Made(flat=self.lookup_binding(made).args[0], form=form, operands=operands))
            return made

        def _turned(self, call: RelaxCall) -> RelaxExpr | None:
            """Return a kernel that writes its result in the order that a transpose of it has."""
            view = view_of(call, self.lookup_binding, factors=False)
            made = next((each for each in self.made if each.flat.same_as(view.source)), None)
            shape = static_shape(call) or ()
            if made is None:
                return None
            turned = np.empty(shape, np.float32)
            order = sorted(range(len(shape)), key=lambda axis: (-view.strides[axis], axis))
            # What it is made of, [stack, queries, columns], in the memory of the transpose.
            result = reshaped(
                turned.transpose(order), (*made.form.stack, made.form.queries, made.form.columns)
            )  # fmt: skip
            if result is None:
                return None
            return self._emit(dataclasses.replace(made.form, result=strides_of(result)), made.operands, shape)

    return rewrite_functions(module, Fuser)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Guards:
    """What happens to the shares.

    Attributes:
        guard: of whole rows.
        operands: of the guard.
        zeroes_nan: those that are NaN become 0.
    """

    guard: Mask | None = None
    operands: tuple[RelaxExpr, ...] = ()
    zeroes_nan: bool = False


def _shares(expression: RelaxExpr, binding: Callable[[RelaxVar], RelaxExpr]) -> tuple[RelaxExpr, _Guards]:
    """Follow the left operand of the second product back to what should be a softmax."""
    made = bound(expression, binding)
    if operator_name(made) != "relax.where" or constant_number(made.args[1], beside=made.args[2]) != 0.0:
        return made, _Guards()
    condition, softmax = bound(made.args[0], binding), bound(made.args[2], binding)
    shape = static_shape(made)
    if shape is None or static_shape(softmax) != shape:
        return made, _Guards()
    if operator_name(condition) == "relax.isnan":
        is_own = condition.args[0].same_as(made.args[2])
        return (softmax if is_own else made), _Guards(zeroes_nan=True)
    strides = _spread(made.args[0], len(shape))
    if strides is None or strides[-1] != 0:
        return made, _Guards()
    return softmax, _Guards(guard=Mask(strides=strides, way="drop"), operands=(made.args[0],))


def _scores(expression: RelaxExpr, binding: Callable[[RelaxVar], RelaxExpr], most: int) -> _Scores | None:
    """Follow what goes into a softmax back to its product; at most so many masks may stand between."""
    made = bound(expression, binding)
    name = operator_name(made)
    if name == "relax.matmul":
        if not is_float32(made, *made.args) or constant_array(made.args[1]) is not None:
            return None
        return _Scores(product=made)
    for score, operand, way, other in _masked(made) if most else ():
        strides = _spread(operand, len(static_shape(made) or ()))
        if static_shape(score) != static_shape(made) or strides is None:
            continue
        found = _scores(score, binding, most - 1)
        if found is not None:
            mask = Mask(strides=strides, way=way, other=other)
            return dataclasses.replace(
                found, masks=(*found.masks, mask), operands=(*found.operands, operand)
            )  # fmt: skip
    scaled = constant_factor(made)
    if scaled is None:
        return None
    found = _scores(scaled[0], binding, most)
    if found is None or found.masks:
        return None
    return dataclasses.replace(found, factor=found.factor * scaled[1])


def _masked(call: RelaxExpr) -> Iterator[tuple[RelaxExpr, RelaxExpr, Literal["add", "keep", "drop"], float]]:
    """Yield the ways to see a call as a mask over scores: these, the operand, and what is done."""
    if operator_name(call) == "relax.add":
        for one, other in (call.args, reversed(call.args)):
            if is_float32(other):
                yield one, other, "add", 0.0
    if operator_name(call) == "relax.where":
        condition, one, other = call.args
        if (number := constant_number(other, beside=one)) is not None:
            yield one, condition, "keep", number
        if (number := constant_number(one, beside=other)) is not None:
            yield other, condition, "drop", number


def _spread(operand: RelaxExpr, rank: int) -> tuple[int, ...] | None:
    """Return the strides of an operand along the axes of what it is spread over; None when its shape is open."""
    shape = static_shape(operand)
    if shape is None or len(shape) > rank:
        return None
    return _of_rank(strides_of(np.empty(shape, np.float32)), rank)


def _form(
    scores: _Scores, guards: _Guards, views: list[View], shape: tuple[int, ...], score_shape: tuple[int, ...]
) -> Form | None:
    query, key, value = views
    *stack, queries, columns = shape
    if [*stack, queries] != [*score_shape[:-1]] or any(len(view.shape) < 2 for view in views) or 0 in shape:
        return None
    rank = len(shape)
    return Form(
        stack=tuple(stack),
        queries=queries,
        keys=score_shape[-1],
        depth=query.shape[-1],
        columns=columns,
        query=_of_rank(query.strides, rank),
        key=_of_rank(key.strides, rank),
        value=_of_rank(value.strides, rank),
        masks=scores.masks,
        guard=guards.guard,
        zeroes_nan=guards.zeroes_nan,
        result=strides_of(np.empty(shape, np.float32)),
        scale=scores.factor * query.factor * key.factor,
    )


def _of_rank(strides: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return strides with axes of one element in front."""
    return (0,) * (rank - len(strides)) + strides
