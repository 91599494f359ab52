"""Infers the shapes of a model whose inputs are fixed and whose constants are folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.node_names import blamed
from crossfarm.stages.prepare.onnx_session import open_session
from crossfarm.util.onnx_nodes import static_shape
from crossfarm.util.text import one_line

if TYPE_CHECKING:
    import onnx


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with what is known of the shapes of all tensors.

    Args:
        model: folded. What it says of shapes inside is dropped, because ONNX Runtime writes names for extents that it
            does not know, which would hide what ONNX can infer.

    Raises:
        ModelError: the shapes contradict each other.
    """
    import onnx

    _drop_names_of_extents(model.graph)
    _describe_outputs(model.graph)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        said = one_line(str(error))
        node = blamed(model, said)
        where = f" at {node}" if node else ""
        raise ModelError(
            f"the shapes of the model contradict each other{where}: {said}; correct the shapes under inputs in "
            "models.yaml, or export the model again"
        ) from error
    return _completed(inferred)


def open_shape(value: onnx.ValueInfoProto | None) -> str | None:
    """Return the shape of a tensor as text when it is not static, else None."""
    if static_shape(value) is not None:
        return None
    if value is None or not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return "(unknown)"
    dims = value.type.tensor_type.shape.dim
    shown = ", ".join(str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)
    return f"[{shown}]"


def has_open_shapes(model: onnx.ModelProto) -> bool:
    """Say whether the shape of a value inside is not static."""
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    names = (name for node in model.graph.node for name in node.output if name)
    return any(open_shape(known.get(name)) is not None for name in names)


def _drop_names_of_extents(graph: onnx.GraphProto) -> None:
    for value in [value for value in graph.value_info if open_shape(value) is not None]:
        graph.value_info.remove(value)
    for value in graph.output:
        if value.type.HasField("tensor_type") and open_shape(value) is not None:
            value.type.tensor_type.ClearField("shape")


def _describe_outputs(graph: onnx.GraphProto) -> None:
    """Give outputs that are inputs or constants the types of those, which shape inference leaves open."""
    import onnx

    sources = {value.name: value for value in graph.input}
    for tensor in graph.initializer:
        sources[tensor.name] = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    for value in graph.output:
        if value.name in sources:
            value.CopyFrom(sources[value.name])


def _completed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the shapes that ONNX Runtime alone can infer: those of operators of other domains."""
    import onnx
    import onnxruntime

    graph = model.graph
    known = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name for tensor in graph.initializer}
    unknown = [
        name
        for node in graph.node
        for name in node.output
        if name and name not in constants and open_shape(known.get(name)) is not None
    ]
    if not unknown:
        return model
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        told = open_session(asked.SerializeToString(), options).get_outputs()
    except Exception:  # what is open stays open, and is told by its name
        return model
    for port in told:
        if all(isinstance(extent, int) for extent in port.shape) and port.type.startswith("tensor("):
            _note(model, port.name, port.type.removeprefix("tensor(").removesuffix(")"), port.shape)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


_ELEMENTS = {"float": "FLOAT", "double": "DOUBLE", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}


def _note(model: onnx.ModelProto, name: str, element: str, shape: list[int]) -> None:
    import onnx

    element_type = onnx.TensorProto.DataType.Value(_ELEMENTS.get(element, element.upper()))
    told = onnx.helper.make_tensor_value_info(name, element_type, shape)
    for value in (*model.graph.output, *model.graph.value_info):
        if value.name == name:
            value.CopyFrom(told)
            return
    model.graph.value_info.append(told)
