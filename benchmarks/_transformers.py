"""Transformers with seeded weights, as exports write them: an encoder of texts, a vision transformer and a decoder.

They are made as PyTorch's exporter makes them at opset 17, with LayerNormalization, Erf and the transposes that split
and join heads. No rule was chosen on any other form of them.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
_OPSET = 17


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a transformer.

    Attributes:
        layers: how many.
        width: of a token.
        heads: of attention.
        tokens: of a sequence; of an image, the tokens of a side.
        is_image: the input is an image of patches of 16 by 16.
        is_causal: tokens attend to earlier ones alone, and the result is that of the vocabulary.
    """

    layers: int
    width: int
    heads: int
    tokens: int
    is_image: bool = False
    is_causal: bool = False


SHAPES = {
    "encoder": Shape(layers=4, width=256, heads=4, tokens=128),
    "vit": Shape(layers=12, width=192, heads=3, tokens=14, is_image=True),
    "decoder": Shape(layers=4, width=256, heads=4, tokens=128, is_causal=True),
}
"""Name -> shape; the sizes of a small BERT, of ViT-Tiny and of a small GPT."""
_PATCH, _VOCABULARY = 16, 512


class _Graph:
    """Nodes and weights of a model that is being made."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its output's name."""
        output = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, array: Array) -> str:
        """Add a constant and return its name."""
        name = f"constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, value: float) -> str:
        """Add a float32 constant without axes."""
        return self.constant(np.array(value, np.float32))

    def drawn(self, *shape: int, scale: float) -> str:
        """Add weights around 0."""
        return self.constant((self._random.standard_normal(shape) * scale).astype(np.float32))

    def reshape(self, value: str, *shape: int) -> str:
        """Add a Reshape."""
        return self.add("Reshape", value, self.constant(np.array(shape, np.int64)))

    def dense(self, value: str, depth: int, columns: int) -> str:
        """Add a product with weights, and a bias."""
        product = self.add("MatMul", value, self.drawn(depth, columns, scale=1 / math.sqrt(depth)))
        return self.add("Add", product, self.drawn(columns, scale=0.1))

    def normal(self, value: str, width: int) -> str:
        """Add a LayerNormalization."""
        scale = self.constant(np.abs(1 + 0.1 * self._random.standard_normal(width)).astype(np.float32))
        return self.add("LayerNormalization", value, scale, self.drawn(width, scale=0.1), axis=-1, epsilon=1e-5)

    def gelu(self, value: str) -> str:
        """Add a Gelu as x * (1 + erf(x / sqrt 2)) / 2."""
        inner = self.add("Erf", self.add("Div", value, self.number(math.sqrt(2))))
        product = self.add("Mul", value, self.add("Add", inner, self.number(1.0)))
        return self.add("Mul", product, self.number(0.5))


def model(shape: Shape, *, seed: int = 0) -> onnx.ModelProto:
    """Return a transformer as an ONNX model of the input `x` and the output `y`, with its shapes."""
    graph = _Graph(seed)
    value, tokens, extents = _tokens(graph, shape)
    for _ in range(shape.layers):
        value = _layer(graph, shape, value, tokens)
    value = graph.normal(value, shape.width)
    if shape.is_causal:
        value = graph.add("MatMul", value, graph.drawn(shape.width, _VOCABULARY, scale=1 / math.sqrt(shape.width)))
    graph.nodes[-1].output[0] = "y"
    made = helper.make_graph(
        graph.nodes,
        "transformer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, extents)],
        [onnx.ValueInfoProto(name="y")],
        graph.weights,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    return onnx.shape_inference.infer_shapes(helper.make_model(made, opset_imports=opsets, ir_version=8))


def _tokens(graph: _Graph, shape: Shape) -> tuple[str, int, list[int]]:
    """Add what makes tokens of the input, and return them, their number and the shape of the input."""
    if not shape.is_image:
        return "x", shape.tokens, [1, shape.tokens, shape.width]
    side, width = shape.tokens * _PATCH, shape.width
    kernel = graph.drawn(width, 3, _PATCH, _PATCH, scale=1 / (_PATCH * math.sqrt(3)))
    patches = graph.add("Conv", "x", kernel, graph.drawn(width, scale=0.1), strides=[_PATCH, _PATCH])
    row = graph.add("Transpose", graph.reshape(patches, 1, width, shape.tokens**2), perm=[0, 2, 1])
    joined = graph.add("Concat", graph.drawn(1, 1, width, scale=1.0), row, axis=1)
    tokens = shape.tokens**2 + 1
    return graph.add("Add", joined, graph.drawn(1, tokens, width, scale=0.1)), tokens, [1, 3, side, side]


def _layer(graph: _Graph, shape: Shape, value: str, tokens: int) -> str:
    normal = graph.normal(value, shape.width)
    value = graph.add("Add", value, _attention(graph, shape, normal, tokens))
    inner = graph.gelu(graph.dense(graph.normal(value, shape.width), shape.width, 4 * shape.width))
    return graph.add("Add", value, graph.dense(inner, 4 * shape.width, shape.width))


def _attention(graph: _Graph, shape: Shape, value: str, tokens: int) -> str:
    size = shape.width // shape.heads
    sides = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        split = graph.reshape(graph.dense(value, shape.width, shape.width), 1, tokens, shape.heads, size)
        sides.append(graph.add("Transpose", split, perm=order))
    scores = graph.add("Div", graph.add("MatMul", *sides[:2]), graph.number(math.sqrt(size)))
    if shape.is_causal:
        mask = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
        scores = graph.add("Add", scores, graph.constant(mask[None, None]))
    result = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), sides[2])
    joined = graph.reshape(graph.add("Transpose", result, perm=[0, 2, 1, 3]), 1, tokens, shape.width)
    return graph.dense(joined, shape.width, shape.width)


def write_models(folder: Path) -> Path:
    """Write the models and a models.yaml that lists them, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["defaults: {format: onnx, licence: Apache-2.0, random_cases: 1, checks: {tolerance: 1.0e-4}}", "models:"]
    for name, shape in SHAPES.items():
        made = model(shape)
        onnx.save(made, folder / f"{name}.onnx")
        extents = [extent.dim_value for extent in made.graph.input[0].type.tensor_type.shape.dim]
        lines.append(f"  - {{name: {name}, source: {{file: {name}.onnx}}, inputs: [{{name: x, shape: {extents}}}]}}")
    path = folder / "models.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
