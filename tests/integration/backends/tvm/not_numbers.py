"""Graphs whose inputs hold NaN and infinities in every place of a vector and of what no vector fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

Array = np.ndarray[Any, Any]
Graph = tuple[Sequence[onnx.NodeProto], dict[str, Array]]
node = helper.make_node
VALUES = np.array([np.nan, np.inf, -np.inf, -np.nan, 1e30, -1e30, 100, -100, 0.5, -0.5, 3, -3, 7], np.float32)
LENGTHS = (5, 16, 37)
"""No vector; whole vectors; vectors and what they leave."""


def everywhere(length: int) -> Array:
    """Return float32 [13, length], in which every one of VALUES stands in every column."""
    return np.stack([np.resize(np.roll(VALUES, shift), length) for shift in range(len(VALUES))])


def one_each(rows: int, length: int, value: float) -> Array:
    """Return float32 [rows, length] of small numbers with `value` in one place of each row, a different one each."""
    values = np.random.default_rng(length).standard_normal((rows, length)).astype(np.float32)
    values[np.arange(rows), np.arange(rows) % length] = value
    return values


def scalar(number: float) -> Array:
    """Return a float32 tensor of no axes."""
    return np.float32(number).reshape(())


def _alone(operator: str, **attributes: Any) -> Graph:
    return [node(operator, ["x"], ["y"], **attributes)], {}


ELEMENTWISE: dict[str, Graph] = {
    name: _alone(name)
    for name in (
        "Relu", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Selu", "ThresholdedRelu", "Sigmoid", "Tanh", "Erf",
        "Exp", "Log", "Sqrt", "Softplus", "Softsign", "Sign", "Abs", "Neg", "Floor", "Ceil", "Round", "Reciprocal",
        "Sin", "Cos", "Atan", "IsNaN", "IsInf",
    )
} | {
    "Clip": ([node("Clip", ["x", "low", "high"], ["y"])], {"low": scalar(0), "high": scalar(6)}),
    "Clip with a bound that is NaN": (
        [node("Clip", ["x", "low", "high"], ["y"])],
        {"low": scalar(np.nan), "high": scalar(6)},
    ),
    "PRelu": ([node("PRelu", ["x", "slope"], ["y"])], {"slope": np.array([0.1], np.float32)}),
    "Where": (
        [node("IsNaN", ["x"], ["q"]), node("Where", ["q", "zero", "x"], ["y"])],
        {"zero": np.zeros(1, np.float32)},
    ),
    "Softmax over the last axis": _alone("Softmax", axis=-1),
    "Softmax over the first axis": _alone("Softmax", axis=0),
    "LogSoftmax": _alone("LogSoftmax", axis=-1),
}  # fmt: skip

ACTIVATIONS: dict[str, Graph] = {
    "Relu": ([node("Relu", ["c"], ["y"])], {}),
    "Clip": ([node("Clip", ["c", "low", "high"], ["y"])], {"low": scalar(0), "high": scalar(6)}),
    "HardSwish": ([node("HardSwish", ["c"], ["y"])], {}),
    "HardSigmoid": ([node("HardSigmoid", ["c"], ["y"])], {}),
}
"""From `c` to `y`, as they stand behind products."""
