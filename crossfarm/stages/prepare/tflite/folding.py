"""Computes operators whose inputs are all constants while the model is converted.

Exporters compute shapes, indices and masks with operators; converters want them as constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.emitter import Emitter
from crossfarm.stages.prepare.tflite.operators import SHAPE_ONLY, STATEFUL
from crossfarm.stages.prepare.tflite.reader import Operator
from crossfarm.util.text import one_line

ELEMENTS_LIMIT = 1 << 16
"""The most elements of a tensor that is computed here; larger ones are computed when the ONNX file is made static."""
_ALIASES = ("DENSIFY", "DEQUANTIZE", "IDENTITY")


def fold(emitter: Emitter, operator: Operator, convert: Callable[[Emitter, Operator], None], opset: int) -> bool:
    """Make the outputs of an operator constants, if they can be; return whether they are.

    Args:
        emitter: of the graph.
        operator: to compute.
        convert: converts one operator.
        opset: of the nodes that it writes.
    """
    if operator.name in SHAPE_ONLY:
        shape = emitter.tensor(operator.inputs[0]).shape
        values = np.array(shape if operator.name == "SHAPE" else len(shape))
        emitter.set_constant(operator.outputs[0], values)
        return True
    if operator.name in (*STATEFUL, *_ALIASES):
        return False
    read = [emitter.tensor(index) for index in operator.inputs if index >= 0]
    written = [emitter.tensor(index) for index in operator.outputs]
    constant = all(tensor.data is not None and not tensor.variable for tensor in read)
    small = all(0 <= math.prod(tensor.shape) <= ELEMENTS_LIMIT for tensor in (*read, *written))
    if not read or not constant or not small:
        return False
    for index, values in zip(operator.outputs, _computed(emitter, operator, convert, opset), strict=True):
        emitter.set_constant(index, values)
    return True


def _computed(
    emitter: Emitter, operator: Operator, convert: Callable[[Emitter, Operator], None], opset: int
) -> list[NDArray[Any]]:
    """Return what an operator over constants gives, as the file would store it."""
    from crossfarm.stages.prepare.onnx_session import open_session

    alone = emitter.fresh()
    convert(alone, operator)
    names = [alone.stored(index) for index in operator.outputs]
    outputs = []
    for number, name in enumerate(names):
        alone.nodes.append(onnx.helper.make_node("Identity", [name], [f"folded_{number}"]))
        outputs.append(onnx.ValueInfoProto(name=f"folded_{number}"))
    graph = onnx.helper.make_graph(alone.nodes, "folded", [], outputs, initializer=alone.initialisers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    try:
        values = open_session(model.SerializeToString(), _options()).run(None, {})
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ModelError(
            f"operator {operator.index} ({operator.name}) cannot be computed: {one_line(str(error))}"
        ) from error
    return [np.asarray(value) for value in values]


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return options
