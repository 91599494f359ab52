"""Small nets that hold every kind of layer of the array."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tests.integration.backends.dpu.building import model

SHAPE = (1, 3, 20, 18)


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def digits() -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Two convolutions, a pool and two dense layers over 1 x 12 x 12."""
    constants = {
        "w0": _normal(0, 8, 1, 3, 3),
        "b0": _normal(1, 8),
        "w1": _normal(2, 24, 8, 3, 3),
        "b1": _normal(3, 24),
        "w2": _normal(4, 24 * 4 * 4, 32),
        "b2": _normal(5, 32),
        "w3": _normal(6, 10, 32),
        "b3": _normal(7, 10),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="c0"),
        helper.make_node("Relu", ["c0"], ["r0"], name="r0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="c1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="r1"),
        helper.make_node("MaxPool", ["r1"], ["m"], name="m", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"], name="f"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["g"], name="g"),
        helper.make_node("Relu", ["g"], ["h"], name="h"),
        helper.make_node("Gemm", ["h", "w3", "b3"], ["y"], name="y", transB=1),
    ]
    return model(nodes, constants, (1, 1, 12, 12)), (1, 1, 12, 12)


def everything(*, mean: bool = True) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Strides, dilations, padding, depthwise, sums, concatenations, pools, functions, and a mean."""
    constants = {
        "w0": _normal(0, 16, 3, 3, 3),
        "b0": _normal(1, 16),
        "w1": _normal(2, 16, 1, 3, 3),
        "w2": _normal(3, 32, 16, 1, 1),
        "b2": _normal(4, 32),
        "w3": _normal(5, 32, 32, 3, 3) / 4,
        "w4": _normal(6, 16, 32, 3, 1),
        "w5": _normal(7, 10, 48, 1, 1),
        "b5": _normal(8, 10),
        "six": np.float32(6.0),
        "none": np.float32(0.0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="c0", strides=[2, 1], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c0", "none", "six"], ["r0"], name="r0"),
        helper.make_node("Conv", ["r0", "w1"], ["d0"], name="d0", group=16, pads=[1, 1, 1, 1], strides=[1, 2]),
        helper.make_node("Relu", ["d0"], ["e0"], name="e0"),
        helper.make_node("Conv", ["e0", "w2", "b2"], ["c1"], name="c1"),
        helper.make_node("LeakyRelu", ["c1"], ["l"], name="l", alpha=0.1),
        helper.make_node("Conv", ["l", "w3"], ["c2"], name="c2", dilations=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("Add", ["c2", "l"], ["s"], name="s"),
        helper.make_node("Relu", ["s"], ["t"], name="t"),
        helper.make_node("Conv", ["t", "w4"], ["c3"], name="c3", pads=[1, 0, 1, 0]),
        helper.make_node("Concat", ["t", "c3"], ["k"], name="k", axis=1),
        helper.make_node("MaxPool", ["k"], ["m"], name="m", kernel_shape=[3, 2], strides=[1, 1], pads=[1, 0, 1, 1]),
        helper.make_node("Conv", ["m", "w5", "b5"], ["q"], name="q"),
    ]
    if mean:
        nodes.append(helper.make_node("GlobalAveragePool", ["q"], ["y"], name="y"))
    else:
        nodes.append(helper.make_node("AveragePool", ["q"], ["y"], name="y", kernel_shape=[2, 2], strides=[2, 2]))
    return model(nodes, constants, SHAPE), SHAPE
