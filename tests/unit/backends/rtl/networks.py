"""Small networks for the tests of the backend rtl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crossfarm.bundles.calibration import write_calibration

SHAPE = [1, 4, 6, 6]


def network(nodes: list[onnx.NodeProto], constants: dict[str, Any], shape: list[int] | None = None) -> onnx.ModelProto:
    """Return a model from `x` to `y`, with the shapes of all values."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def convolution(**attributes: Any) -> onnx.ModelProto:
    """Return one convolution with some attributes; `group` divides its channels."""
    weights = np.random.default_rng(0).normal(size=(4, 4 // attributes.get("group", 1), 3, 3))
    return network([helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **attributes)], {"w": weights})


def dense(*, turned: bool) -> onnx.ModelProto:
    """Return a dense layer over all pixels whose weights are stored one way or the other."""
    weights = np.random.default_rng(0).normal(size=(144, 5))
    attributes: dict[str, Any] = {"transB": 1} if turned else {}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], name="dense", **attributes),
    ]
    return network(nodes, {"w": weights.T if turned else weights, "b": np.arange(5)})


def residual() -> onnx.ModelProto:
    """Return two convolutions whose sum is taken with what went in between."""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["s"], name="sum"),
        helper.make_node("Relu", ["s"], ["y"], name="last"),
    ]
    return network(nodes, {name: generator.normal(size=(4, 4, 3, 3)) * 0.3 for name in ("v", "w")})


def calibrate(folder: Path, shape: list[int] | None = None, *, cases: int = 8) -> Path:
    """Write inputs to calibrate from, and return their folder."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(1)
    inputs = [{"x": generator.normal(size=shape or SHAPE).astype(np.float32)} for _ in range(cases)]
    write_calibration(folder, inputs)
    return folder
