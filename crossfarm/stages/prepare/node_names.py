"""The node that a message of ONNX Runtime is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crossfarm.util.onnx_nodes import describe_node

if TYPE_CHECKING:
    import onnx

_OPERATORS = (
    re.compile(r"(?:implementation|kernel) for (?:[\w.]{1,80}\.)?(\w{1,80})\(\d+\)"),
    re.compile(r"\bOp(?:type)? \((\w{1,80})\)"),
    re.compile(r'In Node, \("[^"]{0,200}", (\w{1,80})'),
    re.compile(r"(?:[\w.]{1,80}:)?\b(\w{1,80})\(-?\d+\) is not a registered"),
    re.compile(r"\(op_type:(\w{1,80})"),
    re.compile(r"While executing (\w{1,80}) node"),
)
"""How ONNX Runtime and ONNX name the operator that they refuse."""


def blamed(model: onnx.ModelProto, said: str) -> str:
    """Return a text that finds the first node of the operator that a message names; empty when it names none."""
    operator = next((found[1] for pattern in _OPERATORS if (found := pattern.search(said))), None)
    for number, node in enumerate(model.graph.node):
        if node.op_type == operator:
            return describe_node(node, number)
    return ""
