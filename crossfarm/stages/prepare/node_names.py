"""Texts that find a node of a graph, and the node that a message of ONNX Runtime is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")
_LONGEST = 200
_OPERATORS = (
    re.compile(r"(?:implementation|kernel) for (?:[\w.]{1,80}\.)?(\w{1,80})\(\d+\)"),
    re.compile(r"\bOp(?:type)? \((\w{1,80})\)"),
    re.compile(r'In Node, \("[^"]{0,200}", (\w{1,80})'),
    re.compile(r"(?:[\w.]{1,80}:)?\b(\w{1,80})\(-?\d+\) is not a registered"),
    re.compile(r"\(op_type:(\w{1,80})"),
    re.compile(r"While executing (\w{1,80}) node"),
)
"""How ONNX Runtime and ONNX name the operator that they refuse."""


def describe(node: onnx.NodeProto, number: int) -> str:
    """Return a text that finds a node: `operator TopK (node 'select', number 17)`."""
    domain = f"{node.domain}." if node.domain not in _STANDARD else ""
    given = next(iter(node.output), "")[:_LONGEST]
    name = f"node {node.name[:_LONGEST]!r}" if node.name else f"the node that gives {given!r}"
    return f"operator {domain}{node.op_type[:_LONGEST]} ({name}, number {number})"


def blamed(model: onnx.ModelProto, said: str) -> str:
    """Return a text that finds the first node of the operator that a message names; empty when it names none."""
    operator = next((found[1] for pattern in _OPERATORS if (found := pattern.search(said))), None)
    for number, node in enumerate(model.graph.node):
        if node.op_type == operator:
            return describe(node, number)
    return ""
