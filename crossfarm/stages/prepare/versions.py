"""Brings a model to versions of ONNX that ONNX Runtime reads: old operator sets up, and the newest file format down."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crossfarm.errors import ModelError
from crossfarm.util.onnx_nodes import STANDARD_DOMAINS, describe_node, opset_of

if TYPE_CHECKING:
    import onnx

_LOG = logging.getLogger(__name__)
_MOST = 1_000_000
"""No operator set will have that number; ONNX's own functions take 32 bits of it."""

NEWEST_OPSET = 26
"""The newest operator set that ONNX Runtime reads."""
NEWEST_IR = 13
"""The newest version of the file format that ONNX Runtime reads. What later ones add it refuses by itself."""
SEPARATE_WEIGHTS_IR = 4
"""From this version on, weights need not stand among the inputs."""
OLDEST_OPSET = 7
"""ONNX Runtime has no operators of older sets, which broadcast by attributes, for instance."""
INLINED = ("CausalConvWithState", "LinearAttention", "SwiGLU", "Swish")
"""Operators of the standard that no compiler here knows, and whose bodies it does."""
CONVERTED_OPSET = 13
"""What older sets are converted to."""


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in versions that ONNX Runtime reads; what needs no other version stays as it is.

    Raises:
        ModelError: an operator is newer than ONNX Runtime.

    Where ONNX cannot convert an operator set, the model is returned in its own, and what is wrong with it is told when
    it is read.
    """
    from onnx import version_converter

    lower_format(model)
    lower_operators(model)
    opset = opset_of(model, OLDEST_OPSET)
    if opset >= OLDEST_OPSET:
        return model
    _spread_slopes(model)
    try:
        newer = version_converter.convert_version(model, CONVERTED_OPSET)
    except Exception as error:  # it raises what its C++ code throws
        _LOG.info("operator set %d stays as it is: %s", opset, error)
        return model
    newer.ir_version = max(newer.ir_version, SEPARATE_WEIGHTS_IR)
    return newer


def _spread_slopes(model: onnx.ModelProto) -> None:
    """Give the slopes of a PRelu, one for each channel in old operator sets, the axes behind that of the channels."""
    import onnx

    nodes = [node for node in model.graph.node if node.op_type == "PRelu" and node.domain in STANDARD_DOMAINS]
    if not nodes:
        return
    typed = onnx.shape_inference.infer_shapes(model)
    values = (*typed.graph.input, *typed.graph.value_info, *typed.graph.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    slopes = {node.input[1]: ranks.get(node.input[0], 0) for node in nodes if len(node.input) > 1}
    for tensor in model.graph.initializer:
        if tensor.name in slopes and len(tensor.dims) == 1 and tensor.dims[0] > 1:
            tensor.dims.extend([1] * (slopes[tensor.name] - 2))
            for port in model.graph.input:
                if port.name == tensor.name:
                    port.CopyFrom(onnx.helper.make_tensor_value_info(port.name, tensor.data_type, tensor.dims))


def without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the bodies of some operators that are functions of the standard in place of their calls.

    ONNX Runtime has kernels of its own for them, and so would leave them as they are.
    """
    import onnx.inliner

    graphs = [model.graph, *model.functions]
    if not any(node.op_type in INLINED and node.domain in STANDARD_DOMAINS for graph in graphs for node in graph.node):
        return model
    chosen = [("", name) for name in INLINED]
    try:
        typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
        known = {value.name for value in (*typed.graph.input, *typed.graph.value_info)}
        for tensor in typed.graph.initializer:
            if tensor.name not in known:
                # The inliner asks for the types of what a body depends on, and looks for them here alone.
                typed.graph.value_info.append(
                    onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
        return onnx.inliner.inline_selected_functions(typed, chosen, exclude=False, inline_schema_functions=True)
    except Exception as error:  # it raises what its C++ code throws
        _LOG.info("operators stay as they are: %s", error)
        return model


def lower_format(model: onnx.ModelProto) -> None:
    """Give a model the newest version of the file format that ONNX Runtime reads, where its own is newer."""
    model.ir_version = min(model.ir_version, NEWEST_IR)


def lower_operators(model: onnx.ModelProto) -> None:
    """Give a model the newest operator set that ONNX Runtime reads, where its operators have been the same since then.

    Raises:
        ModelError: one has changed, or the set is none.
    """
    import onnx

    sets = [entry for entry in model.opset_import if entry.domain in STANDARD_DOMAINS]
    newer = [entry for entry in sets if entry.version > NEWEST_OPSET]
    for entry in newer:
        if entry.version > _MOST:
            raise ModelError(f"there is no operator set {entry.version} of ONNX; export the model again")
        for number, node in enumerate(model.graph.node):
            if node.domain not in STANDARD_DOMAINS:
                continue
            try:
                since = onnx.defs.get_schema(node.op_type, entry.version).since_version
            except onnx.defs.SchemaError:
                continue  # what is unknown is told when the model is read
            if since > NEWEST_OPSET:
                raise ModelError(
                    f"{describe_node(node, number)} is of operator set {since}, and {NEWEST_OPSET} is the newest that "
                    f"ONNX Runtime reads; export the model with operator set {NEWEST_OPSET} or older"
                )
        entry.version = NEWEST_OPSET
