"""Models that no rule was chosen on: the architectures that the `onnx` wheel brings along, with seeded weights.

The wheel's files make their weights of zeros when they run. Here weights are drawn as He et al., "Delving Deep into
Rectifiers" (2015), so that values neither vanish nor explode on their way; scales are near 1, the rest is small.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

_FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = ("resnet50", "squeezenet", "shufflenet", "densenet121", "inception_v1", "inception_v2", "vgg19", "zfnet512")
_SCALES = {("BatchNormalization", 1), ("BatchNormalization", 4), ("Mul", 1)}
"""Operators and the numbers of their inputs that are factors or variances."""


def write_models(folder: Path) -> Path:
    """Write the models and a models.yaml that lists them, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["defaults: {format: onnx, licence: Apache-2.0, random_cases: 1, checks: {tolerance: 1.0e-4}}", "models:"]
    for name in NAMES:
        model = seeded(onnx.load(_FOLDER / f"light_{name}.onnx"), seed=zlib.crc32(name.encode()))
        onnx.save(model, folder / f"{name}.onnx")
        port = model.graph.input[0]
        shape = [extent.dim_value for extent in port.type.tensor_type.shape.dim]
        lines.append(
            f"  - {{name: {name}, source: {{file: {name}.onnx}}, inputs: [{{name: {port.name}, shape: {shape}}}]}}"
        )
    path = folder / "models.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def seeded(model: onnx.ModelProto, *, seed: int) -> onnx.ModelProto:
    """Return a model whose tensors of zeros are drawn, and whose only inputs are those that take data."""
    random = np.random.default_rng(seed)
    graph = model.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    drawn = []
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        shape = tuple(int(extent) for extent in shapes[node.input[0]])
        values = _values(_use(graph, node.output[0]), shape, random)
        drawn.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
        graph.node.remove(node)
    graph.initializer.extend(drawn)
    used = {name for node in graph.node for name in node.input}
    known = {tensor.name for tensor in graph.initializer}
    for port in [port for port in graph.input if port.name in known or port.name not in used]:
        graph.input.remove(port)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    # Since version 4 of the format, initialisers need not be inputs too.
    model.ir_version = 8
    return model


def _use(graph: onnx.GraphProto, name: str) -> tuple[str, int]:
    """Return the operator that a tensor is for, and the number of its input."""
    for node in graph.node:
        if name in node.input:
            return (
                _use(graph, node.output[0])
                if node.op_type == "Unsqueeze"
                else (node.op_type, [*node.input].index(name))
            )
    return "", 0


def _values(
    use: tuple[str, int], shape: tuple[int, ...], random: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if use in _SCALES:
        return random.uniform(0.8, 1.2, shape)
    if use in (("Conv", 1), ("Gemm", 1)):
        return random.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    return random.standard_normal(shape) * 0.05
