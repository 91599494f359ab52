"""The activations that LSTM, GRU and RNN of the standard may name, for one number inside a loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import tirx

from crossfarm.backends.tvm.operators.node import UnsupportedForm
from crossfarm.backends.tvm.types import PrimExpr

Activation = Callable[[PrimExpr], PrimExpr]

_ALPHA = {"affine": 0.0, "leakyrelu": 0.01, "thresholdedrelu": 0.0, "scaledtanh": 0.0, "hardsigmoid": 0.2, "elu": 1.0}
_BETA = {"affine": 0.0, "scaledtanh": 0.0, "hardsigmoid": 0.5}
"""The functions that take alpha or beta, with what it is where the node does not say: ONNX Runtime's."""


def chosen_activations(
    attributes: Mapping[str, Any], *, default: Sequence[str], directions: int
) -> tuple[tuple[Activation, ...], ...]:
    """Return the activations of each direction.

    Args:
        attributes: of the node; alphas and betas are given out to the functions that take one, in their order.
        default: names for one direction.
        directions: one or two.

    Raises:
        UnsupportedForm: a name is unknown, or there are too few.
    """
    names = [_text(name).lower() for name in attributes.get("activations") or list(default) * directions]
    if len(names) != len(default) * directions:
        raise UnsupportedForm(f"it names {len(names)} activations; {len(default) * directions} are needed")
    alphas, betas = list(attributes.get("activation_alpha") or ()), list(attributes.get("activation_beta") or ())
    made = []
    for name in names:
        if name not in _FUNCTIONS:
            raise UnsupportedForm(f"its activation {name!r} is not one of the standard's")
        alpha = _next(alphas, _ALPHA, name)
        beta = _next(betas, _BETA, name)
        made.append(_bound(name, alpha, beta))
    count = len(default)
    return tuple(tuple(made[place : place + count]) for place in range(0, len(made), count))


def _dtype(value: PrimExpr) -> str:
    return str(value.ty.dtype)


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _next(given: list[float], defaults: Mapping[str, float], name: str) -> float:
    if name not in defaults:
        return 0.0
    return float(given.pop(0)) if given else defaults[name]


def _bound(name: str, alpha: float, beta: float) -> Activation:
    function = _FUNCTIONS[name]

    def apply(value: PrimExpr) -> PrimExpr:
        dtype = _dtype(value)
        return function(value, tirx.const(alpha, dtype), tirx.const(beta, dtype))

    return apply


def sigmoid(value: PrimExpr) -> PrimExpr:
    """Return 1 / (1 + e^-x)."""
    one = tirx.const(1, _dtype(value))
    return one / (one + tirx.exp(-value))


def _softplus(value: PrimExpr) -> PrimExpr:
    """Return log(1 + e^x), written so that e^x cannot overflow."""
    one, zero = tirx.const(1, _dtype(value)), tirx.const(0, _dtype(value))
    return tirx.max(value, zero) + tirx.log(one + tirx.exp(-tirx.abs(value)))


def _zero(value: PrimExpr) -> PrimExpr:
    return tirx.const(0, _dtype(value))


_FUNCTIONS: dict[str, Callable[[PrimExpr, PrimExpr, PrimExpr], PrimExpr]] = {
    "sigmoid": lambda x, alpha, beta: sigmoid(x),
    "tanh": lambda x, alpha, beta: tirx.tanh(x),
    "relu": lambda x, alpha, beta: tirx.max(x, _zero(x)),
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "leakyrelu": lambda x, alpha, beta: tirx.Select(x < 0, alpha * x, x),
    "thresholdedrelu": lambda x, alpha, beta: tirx.Select(x > alpha, x, _zero(x)),
    "scaledtanh": lambda x, alpha, beta: alpha * tirx.tanh(beta * x),
    "hardsigmoid": lambda x, alpha, beta: tirx.max(tirx.min(alpha * x + beta, tirx.const(1, _dtype(x))), _zero(x)),
    "elu": lambda x, alpha, beta: tirx.Select(x < 0, alpha * (tirx.exp(x) - 1), x),
    "softsign": lambda x, alpha, beta: x / (tirx.abs(x) + 1),
    "softplus": lambda x, alpha, beta: _softplus(x),
}
"""Name in small letters -> function of x, alpha and beta."""
