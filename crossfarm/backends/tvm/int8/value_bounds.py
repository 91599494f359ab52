"""How large a number that is computed in float32 from quantised ones can be at most: interval arithmetic on a graph."""

from __future__ import annotations

import math

import numpy as np
from tvm import relax

from crossfarm.backends.tvm.int8.activations import Binding, Lookup
from crossfarm.backends.tvm.int8.values import Accumulators, Known, QuantisedValue
from crossfarm.backends.tvm.passes.relax_utils import constant_array, operator_name
from crossfarm.backends.tvm.types import RelaxExpr

_MOVES = ("relax.permute_dims", "relax.reshape")


def largest(expression: RelaxExpr, known: Lookup, binding: Binding) -> float:
    """Return a number that the magnitude of no element exceeds; infinity where nothing is known.

    Args:
        expression: float32.
        known: returns how a variable can be computed in integers.
        binding: returns what a variable is bound to.
    """
    constant = constant_array(expression)
    if constant is not None:
        return float(np.abs(constant).max(initial=0.0))
    if isinstance(expression, relax.Var):
        bound = _of_known(known(expression))
        made = binding(expression)
        return bound if bound is not None else (math.inf if made is None else largest(made, known, binding))
    name = operator_name(expression)
    if name == "relax.clip":
        return max(abs(float(getattr(bound, "value", math.inf))) for bound in expression.args[1:])
    if name in _MOVES:
        return largest(expression.args[0], known, binding)
    if name in ("relax.add", "relax.multiply"):
        left, right = (largest(argument, known, binding) for argument in expression.args)
        return left + right if name == "relax.add" else left * right
    return math.inf


def _of_known(value: Known | None) -> float | None:
    if isinstance(value, QuantisedValue):
        return 255 * value.params.scale
    if isinstance(value, Accumulators):
        return value.largest * float(value.scale.max(initial=0.0))
    return None
