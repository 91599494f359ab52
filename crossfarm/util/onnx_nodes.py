"""Nodes and values of an ONNX graph: how a message names a node, whose standard it is, what is known of a shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

STANDARD_DOMAINS = ("", "ai.onnx")
"""How models name the domain of ONNX's own operators."""
RANDOM_OPERATORS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators of ONNX that give something else each time, also where all they read is constant."""
_LONGEST = 200


def full_name(node: onnx.NodeProto) -> str:
    """Return the name of a node's operator, that of another domain than ONNX's with the domain before it."""
    return f"{node.domain}.{node.op_type}" if node.domain not in STANDARD_DOMAINS else node.op_type


def describe_node(node: onnx.NodeProto, number: int | None = None) -> str:
    """Return a text that finds a node: `operator TopK (node 'select', number 17)`.

    Args:
        node: of a graph; names are shown as far as a line has place for them.
        number: its place in the graph, from 0; None where the graph is not the user's any more.
    """
    given = next(iter(node.output), "")[:_LONGEST]
    name = f"node {node.name[:_LONGEST]!r}" if node.name else f"the node that gives {given!r}"
    place = "" if number is None else f", number {number}"
    return f"operator {full_name(node)[:_LONGEST]} ({name}{place})"


def opset_of(model: onnx.ModelProto, default: int = 0) -> int:
    """Return the version of ONNX's own operators that a model uses; `default` when it names none."""
    return max(
        (int(entry.version) for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=default
    )


def static_shape(value: onnx.ValueInfoProto | None) -> tuple[int, ...] | None:
    """Return the shape of an input, an output or a value in between; None when it is not known before the run."""
    if value is None or not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    extents = value.type.tensor_type.shape.dim
    if not all(extent.HasField("dim_value") and extent.dim_value >= 0 for extent in extents):
        return None
    return tuple(extent.dim_value for extent in extents)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node holds: branches, and bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
