"""Which tensors of a float32 graph are stored in 8 bits: the results of groups of nodes that are computed at once."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from crossfarm.stages.quantize.nodes import PRODUCTS

MOVING = ("DepthToSpace", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Their results are values of their first input, and keep its scale."""
_COMPUTED = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu")
_ACTIVATIONS = ("Relu", "ReduceMean", "Resize", "Sigmoid", "Tanh")
_OF_SEVERAL = ("Add", "Concat", "Mul")
_FUSING = (*PRODUCTS, "ConvTranspose", "Add")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Nodes whose result is rounded once: a node, and an activation that is applied to its sums.

    Attributes:
        node: the first.
        activation: Relu or Clip behind it; None without.
        inputs: the tensors that it reads, constants left out.
        keeps_scale: its results are values of its first input.
    """

    node: NodeProto
    activation: NodeProto | None
    inputs: tuple[str, ...]
    keeps_scale: bool = False

    @property
    def last(self) -> NodeProto:
        """Return the node that gives the result."""
        return self.activation or self.node

    @property
    def result(self) -> str:
        """Return the name of the result."""
        return str(self.last.output[0])


def find_groups(graph: GraphProto) -> list[Group]:
    """Return the groups whose tensors are stored in 8 bits, in the order of the graph.

    Products over constant weights, and what follows them of pooling, activations, and sums, products and concatenations
    of computed tensors. What stands before the first product stays in float32, and so does every other operator.
    """
    constants = {tensor.name for tensor in graph.initializer}
    values = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    users = {name: node for node in graph.node for name in node.input}
    ends = {output.name for output in graph.output}
    behind: set[str] = set()
    taken: set[int] = set()
    groups = []
    for node in graph.node:
        if id(node) in taken:
            continue
        is_product = is_product_over_constants(node, constants)
        if is_product or any(name in behind for name in node.input):
            behind.update(node.output)
        if not is_product and not _is_taken(node, constants, behind):
            continue
        activation = None
        follower = users.get(node.output[0])
        is_alone = uses[node.output[0]] == 1 and node.output[0] not in ends
        if node.op_type in _FUSING and is_alone and follower is not None and is_cut(follower, values):
            activation = follower
            behind.update(follower.output)
            taken.add(id(follower))
        groups.append(
            Group(
                node=node,
                activation=activation,
                inputs=tuple(name for name in _tensors(node) if name not in constants),
                keeps_scale=node.op_type in MOVING,
            )
        )
    return groups


def is_product_over_constants(node: NodeProto, constants: Collection[str]) -> bool:
    """Say whether a node multiplies a tensor with constant weights, and adds constants at most."""
    is_plain = node.op_type in (*PRODUCTS, "ConvTranspose") and node.input[1] in constants
    factors = [attribute.f for attribute in node.attribute if attribute.name in ("alpha", "beta")]
    added = node.input[2] if len(node.input) > 2 else ""
    return is_plain and all(factor == 1.0 for factor in factors) and (not added or added in constants)


def is_cut(node: NodeProto, values: Mapping[str, TensorProto]) -> bool:
    """Say whether a node cuts off below zero, and perhaps above a constant: Relu, ReLU6."""
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip":
        return False
    bounds = [values[name] for name in node.input[1:] if name in values]
    if not bounds or len(bounds) < len(node.input) - 1:
        return False
    return float(numpy_helper.to_array(bounds[0]).reshape(())) == 0.0


def _tensors(node: NodeProto) -> Sequence[str]:
    """Return the inputs of a node that are tensors of numbers, not shapes or bounds."""
    return tuple(node.input) if node.op_type in _OF_SEVERAL else tuple(node.input[:1])


def _is_taken(node: NodeProto, constants: set[str], behind: set[str]) -> bool:
    if node.op_type == "Clip" or node.op_type in (*MOVING, *_COMPUTED, *_ACTIVATIONS):
        rest = [name for name in node.input[1:] if name]
        return node.input[0] in behind and all(name in constants for name in rest) and len(node.output) == 1
    if node.op_type not in _OF_SEVERAL:
        return False
    return any(name in behind for name in node.input) and not any(name in constants for name in node.input)


def fold(graph: GraphProto) -> None:
    """Fold BatchNormalization into the convolution before it, and the bias behind a flat MatMul into a Gemm, in place.

    Args:
        graph: its shapes are inferred.
    """
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.input)}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    makers = {name: node for node in graph.node for name in node.output}
    gone = []
    for node in list(graph.node):
        before = makers.get(node.input[0]) if node.input else None
        if before is None or uses[node.input[0]] != 1:
            continue
        if node.op_type == "BatchNormalization" and before.op_type == "Conv" and before.input[1] in values:
            _fold_normalisation(graph, before, node, values)
        elif node.op_type == "Add" and _is_bias(before, node, values) and ranks.get(before.input[0]) == 2:
            before.op_type = "Gemm"
            before.input.append(node.input[1])
        else:
            continue
        before.output[0] = node.output[0]
        makers[node.output[0]] = before
        gone.append(node)
    for node in gone:
        graph.node.remove(node)


def _is_bias(product: NodeProto, add: NodeProto, values: Mapping[str, np.ndarray]) -> bool:
    if product.op_type != "MatMul" or add.input[1] not in values or product.input[1] not in values:
        return False
    weights, bias = values[product.input[1]], values[add.input[1]]
    return weights.ndim == 2 and bias.shape == weights.shape[1:]


def _fold_normalisation(
    graph: GraphProto, convolution: NodeProto, node: NodeProto, values: dict[str, np.ndarray]
) -> None:
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias becomes part of weights and bias of the convolution."""
    scale, bias, mean, variance = (values[name].astype(np.float64) for name in node.input[1:5])
    epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
    factor = scale / np.sqrt(variance + epsilon)
    weights = values[convolution.input[1]].astype(np.float64)
    old = values[convolution.input[2]].astype(np.float64) if len(convolution.input) > 2 else 0.0
    made = {
        f"{convolution.output[0]}_weights": weights * factor.reshape(-1, *[1] * (weights.ndim - 1)),
        f"{convolution.output[0]}_bias": (old - mean) * factor + bias,
    }
    for name, array in made.items():
        values[name] = array.astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values[name], name))
    kept = convolution.input[0]
    del convolution.input[:]
    convolution.input.extend([kept, *made])
