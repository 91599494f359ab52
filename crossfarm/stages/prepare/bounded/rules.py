"""What the rules of operators that follow have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from crossfarm.stages.prepare.bounded.walk import Unfit, Walk, attribute

if TYPE_CHECKING:
    import onnx

Rule = Callable[[Walk, "onnx.NodeProto"], "Sequence[dict[int, str]]"]
"""Adds a node, and what it needs before it, to a walk; returns for each output which of its axes count in part."""


def kept(walk: Walk, node: onnx.NodeProto, counts: dict[int, str]) -> list[dict[int, str]]:
    """Add a node and return the same counts for each of its outputs."""
    walk.keep(node)
    return [counts] * len(node.output)


def shape_of(walk: Walk, name: str) -> tuple[int, ...]:
    """Return the shape of a value.

    Raises:
        Unfit: it is open.
    """
    shape = walk.shape(name)
    if shape is None:
        raise Unfit(f"the shape of {name!r} is not known")
    return shape


def only(walk: Walk, node: onnx.NodeProto, *inputs: int) -> None:
    """Refuse other inputs than some to have places that do not count."""
    for number, name in enumerate(node.input):
        if number not in inputs and walk.counts_of(name):
            raise Unfit(f"not all places of its input {number} count")


def joined(one: dict[int, str], axis: int, count: str) -> None:
    """Note the count of an axis, which may be noted already, but as no other."""
    if one.setdefault(axis, count) != count:
        raise Unfit(f"along axis {axis} its inputs have different numbers of places that count")


def named_axes(walk: Walk, node: onnx.NodeProto, number: int = 1) -> list[int] | None:
    """Return the axes that a node names, as an input or an attribute; None when it names none."""
    if len(node.input) > number and node.input[number]:
        array = walk.array(node.input[number])
        if array is None:
            raise Unfit("its axes are computed when the model runs")
        return [int(axis) for axis in array.reshape(-1)]
    given = attribute(node, "axes", None)
    return None if given is None else list(given)
