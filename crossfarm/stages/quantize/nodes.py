"""Which nodes of a float32 graph take quantised tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from onnx import GraphProto, ModelProto, NodeProto

PRODUCTS = ("Conv", "Gemm", "MatMul")
"""Operators whose weights are quantised. Their results are not: what follows (bias, activation) is computed on the
sums, and what reads the result next rounds it once."""
_ALWAYS = ("AveragePool", "GlobalAveragePool", "MaxPool", "Reshape", "Transpose")
_OF_TWO = ("Add", "Mul")
_POINTWISE = ("Add", "Clip", "Div", "HardSigmoid", "HardSwish", "Mul", "Relu", "Sigmoid", "Sub", "Tanh")
_DEEPEST = 8
"""Nodes that an activation has at most."""


def is_quantised(model: ModelProto) -> bool:
    """Say whether a graph holds quantised tensors."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def chosen_nodes(graph: GraphProto) -> list[str]:
    """Return the names of the nodes that are to take quantised tensors.

    Products over constant weights, pooling of their results, and sums and products of two computed tensors; not those
    of an activation, such as x * HardSigmoid(x), which stays in float32 behind the product that it follows. What
    stands before the first product stays in float32.

    Args:
        graph: whose nodes have names.
    """
    constants = {tensor.name for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    behind: set[str] = set()
    chosen = []
    for node in graph.node:
        is_product = node.op_type in PRODUCTS and node.input[1] in constants
        if is_product or any(name in behind for name in node.input):
            behind.update(node.output)
        if is_product or (node.output[0] in behind and _is_taken(node, constants, makers)):
            chosen.append(node.name)
    return chosen


def _is_taken(node: NodeProto, constants: set[str], makers: Mapping[str, NodeProto]) -> bool:
    if node.op_type in _ALWAYS:
        return True
    if node.op_type not in _OF_TWO or any(name in constants for name in node.input):
        return False
    left, right = node.input
    return left != right and not (_follows(left, right, makers, constants) or _follows(right, left, makers, constants))


def _follows(value: str, source: str, makers: Mapping[str, NodeProto], constants: set[str]) -> bool:
    """Say whether a value is computed from `source` element by element."""
    for _ in range(_DEEPEST):
        if value == source:
            return True
        node = makers.get(value)
        if node is None or node.op_type not in _POINTWISE:
            return False
        computed = [name for name in node.input if name and name not in constants]
        if len(computed) != 1:
            return False
        value = computed[0]
    return False


def quantised_operators(graph: GraphProto) -> dict[str, int]:
    """Return operator -> number of its nodes whose first input was quantised."""
    real = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    found = Counter(node.op_type for node in graph.node if node.input and node.input[0] in real)
    return dict(sorted((name, count) for name, count in found.items() if name != "QuantizeLinear"))
