"""Finds the node that ONNX Runtime refuses, where its message names none: each is offered alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from crossfarm.stages.prepare.onnx_session import open_session
from crossfarm.util.onnx_nodes import describe_node

if TYPE_CHECKING:
    import onnx

_SECONDS = 10.0
"""So long is looked for it; what comes first is looked at first."""
_MOST_BYTES = 1 << 20
"""Constants of more are left as inputs: a node is refused for its form, hardly ever for its weights."""


def refused_alone(model: onnx.ModelProto) -> str:
    """Return a text that finds the first node that ONNX Runtime refuses alone; empty when there is none.

    Args:
        model: that was refused, its functions inside.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    end = time.monotonic() + _SECONDS
    for number, alone in _alone(model):
        if time.monotonic() > end:
            break
        try:
            open_session(alone.SerializeToString(), options)
        except Exception:  # its errors share no base class
            return describe_node(model.graph.node[number], number)
    return ""


def _alone(model: onnx.ModelProto) -> Iterator[tuple[int, onnx.ModelProto]]:
    """Yield number and model of each node whose inputs have known types."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # its errors share no base class; what it knows before is little
        graph = model.graph
    types = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for tensor in graph.initializer:
        if tensor.ByteSize() > _MOST_BYTES:
            types[tensor.name] = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            del constants[tensor.name]
    for number, node in enumerate(graph.node):
        given = [name for name in dict.fromkeys(node.input) if name]
        if any(name not in types and name not in constants for name in given):
            continue
        if any(item.HasField("g") or item.graphs for item in node.attribute):
            continue  # a subgraph reads what stands around it
        alone = onnx.ModelProto(ir_version=model.ir_version)
        alone.opset_import.extend(model.opset_import)
        alone.functions.extend(model.functions)
        alone.graph.name = "alone"
        alone.graph.node.append(node)
        alone.graph.input.extend(types[name] for name in given if name not in constants)
        alone.graph.initializer.extend(constants[name] for name in given if name in constants)
        alone.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
        yield number, alone
