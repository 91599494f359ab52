"""One node of an ONNX graph as a converter sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax

from crossfarm.backends.tvm.passes.relax_utils import constant_array, dtype_of, static_shape
from crossfarm.backends.tvm.types import Array, RelaxExpr


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """A node whose inputs have been imported.

    Attributes:
        operator: its name; of another domain than ONNX's with that before it: `com.microsoft.Gelu`.
        inputs: None for one that is left out.
        outputs: names; empty for one that is left out.
        attributes: those that the node has, text as str.
        opset: of the model, for the domain of ONNX.
        builder: relax.BlockBuilder of the function that the model becomes.
    """

    operator: str
    inputs: Sequence[RelaxExpr | None]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]
    opset: int
    builder: Any

    def has(self, number: int) -> bool:
        """Say whether an input is given."""
        return number < len(self.inputs) and self.inputs[number] is not None

    def input(self, number: int) -> RelaxExpr:
        """Return an input.

        Raises:
            UnsupportedForm: it is left out.
        """
        if not self.has(number):
            raise UnsupportedForm(f"input {number} is left out")
        return self.inputs[number]

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of an input.

        Raises:
            UnsupportedForm: it is open, or the input is left out.
        """
        return shape_of(self.input(number))

    def require(self, number: int, shape: Sequence[int]) -> None:
        """See that an input has a shape, so that a kernel that counts on it reads nothing beside it.

        ONNX Runtime looks only when a model runs, so that a file may state another one.

        Raises:
            UnsupportedForm: it has another one.
        """
        if self.shape(number) != tuple(shape):
            raise UnsupportedForm(f"input {number} has the shape {list(self.shape(number))}, not {list(shape)}")

    def require_within(self, number: int, shape: Sequence[int], *, axis: int) -> None:
        """See that an input has as many axes as a shape, and is on each but one as long at most.

        Raises:
            UnsupportedForm: it is longer, or of another rank.
        """
        given = self.shape(number)
        fits = len(given) == len(shape) and all(
            one <= most for place, (one, most) in enumerate(zip(given, shape, strict=True)) if place != axis
        )
        if not fits:
            raise UnsupportedForm(f"input {number} has the shape {list(given)}, which does not fit {list(shape)}")

    def dtype(self, number: int) -> str:
        """Return the dtype of an input."""
        return dtype_of(self.input(number))

    def constant(self, number: int) -> Array:
        """Return the content of an input that has to be known.

        Raises:
            UnsupportedForm: it is left out, or computed when the model runs.
        """
        array = constant_array(self.input(number))
        if array is None:
            raise UnsupportedForm(f"input {number} is computed when the model runs, and has to be a constant here")
        return array

    def optional_constant(self, number: int) -> Array | None:
        """Return the content of an input that has to be known when it is given; None when it is left out."""
        return self.constant(number) if self.has(number) else None

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of integers."""
        return [int(value) for value in self.attributes.get(name, default)]

    def emit(self, expression: RelaxExpr) -> RelaxExpr:
        """Bind an expression to a variable, whose shape and dtype are known from then on."""
        return self.builder.emit(expression)

    def compute(self, function: Callable[..., object], *arguments: object, name: str) -> RelaxExpr:
        """Emit what a tensor expression computes.

        Args:
            function: takes a te.Tensor for each tensor among the arguments, and returns one or several.
            arguments: Relax expressions, and what else the function takes.
            name: of the PrimFunc.
        """
        return self.builder.emit_te(function, *arguments, primfunc_name_hint=name)


class UnsupportedForm(Exception):  # noqa: N818 - it says what is not supported
    """A node uses its operator in a way that cannot be compiled; the message says which, without the node."""


Converter = Callable[[Node], RelaxExpr | Sequence[RelaxExpr] | None]
"""Returns what a node computes, one expression for each output when there are several; None leaves it to TVM."""


def shape_of(expression: RelaxExpr) -> tuple[int, ...]:
    """Return the shape of a tensor.

    Raises:
        UnsupportedForm: it is open.
    """
    shape = static_shape(expression)
    if shape is None:
        raise UnsupportedForm("the shape of an input is known only when the model runs")
    return shape


def constant(value: npt.ArrayLike, dtype: str) -> RelaxExpr:
    """Return a constant tensor: a number, or an array of any shape."""
    return relax.const(np.ascontiguousarray(value).reshape(np.shape(value)).astype(_numpy_dtype(dtype)), dtype)


def _numpy_dtype(dtype: str) -> np.dtype[np.generic]:
    if dtype == "bfloat16":
        import ml_dtypes

        found: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(dtype)


def positive_axes(axes: Sequence[int], rank: int) -> list[int]:
    """Return axes counted from the first.

    Raises:
        UnsupportedForm: one is out of range.
    """
    for axis in axes:
        if not -rank <= axis < max(rank, 1):
            raise UnsupportedForm(f"axis {axis} of a tensor of {rank} dimensions")
    return [int(axis) % rank if rank else 0 for axis in axes]


def is_float(dtype: str) -> bool:
    """Say whether a dtype is one of floating point."""
    return dtype.startswith(("float", "bfloat"))
