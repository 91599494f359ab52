"""What quantising does to a graph layer by layer: how far each is from float32, and how coarse the outputs are."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from crossfarm.errors import ModelError
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.prepare.onnx_session import open_session
from crossfarm.stages.quantize.artifact import LayerError

INPUTS = 4
"""Inputs on which layers are compared: what a layer loses hardly depends on which."""
_MOVING = ("Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators whose results are values of their first input."""


def layer_errors(
    real: onnx.ModelProto,
    quantised: onnx.ModelProto,
    results: Collection[str],
    inputs: Sequence[Mapping[str, Array]],
    *,
    model: str,
) -> tuple[LayerError, ...]:
    """Return how far the result of each layer that takes quantised tensors is from float32, in the order of the graph.

    With y the result in the quantised graph and r in the float32 graph, over all inputs, the error of a layer is
    |y - r| / |r|, Euclidean. What it adds of its own is sqrt(error^2 - before^2), with `before` the largest error among
    what it reads, as if errors of different layers were uncorrelated.

    Args:
        real: the float32 graph.
        quantised: what was made of it; results keep their names.
        results: of the layers that take quantised tensors.
        inputs: the first INPUTS of them are run.
        model: its name, for messages.

    Raises:
        ModelError: ONNX Runtime cannot run one of them.
    """
    made = {name for node in quantised.graph.node for name in node.output}
    names = [node.output[0] for node in real.graph.node if node.output[0] in results and node.output[0] in made]
    taken = inputs[:INPUTS]
    square: dict[str, float] = dict.fromkeys(names, 0.0)
    size: dict[str, float] = dict.fromkeys(names, 0.0)
    runs = zip(*(_results(graph, names, taken, model=model) for graph in (real, quantised)), strict=True)
    for right, found in runs:
        for name in names:
            r, y = right[name].astype(np.float64), found[name].astype(np.float64)
            square[name] += float(np.sum((y - r) ** 2))
            size[name] += float(np.sum(r**2))
    errors = {name: math.sqrt(square[name] / size[name]) if size[name] else 0.0 for name in names}
    return tuple(_rows(real.graph, errors))


def _rows(graph: onnx.GraphProto, errors: Mapping[str, float]) -> Iterator[LayerError]:
    level: dict[str, float] = {}
    for node in graph.node:
        before = max((level.get(name, 0.0) for name in node.input), default=0.0)
        own = errors.get(node.output[0])
        level.update(dict.fromkeys(node.output, before if own is None else own))
        if own is not None and math.isfinite(own):
            yield LayerError(name=node.name or node.output[0], operator=node.op_type, error=own, before=before)


def _results(
    graph: onnx.ModelProto, names: Sequence[str], inputs: Sequence[Mapping[str, Array]], *, model: str
) -> Iterator[dict[str, Array]]:
    """Yield the named tensors of a graph for each input."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = open_session(copy.SerializeToString(), options)
        for tensors in inputs:
            yield dict(zip(names, session.run(list(names), dict(tensors)), strict=True))
    except Exception as error:
        # ONNX Runtime raises errors of many types here, and what the user can do about them is the same.
        raise ModelError(
            f"model {model}: its layers cannot be compared in ONNX Runtime: {error}; leave int8 out of its variants"
        ) from error


def output_steps(graph: onnx.GraphProto) -> dict[str, float]:
    """Return output -> distance of its neighbouring values, for those that are stored in integers."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    found = {}
    for output in graph.output:
        node = makers.get(output.name)
        while node is not None and node.op_type in _MOVING:
            node = makers.get(node.input[0])
        if node is not None and node.op_type == "DequantizeLinear" and node.input[1] in constants:
            found[output.name] = float(np.max(numpy_helper.to_array(constants[node.input[1]])))
    return found
