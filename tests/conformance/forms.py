"""The two forms in which a case is tried, and what of it is in scope."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.conformance.suite import Array, Case

AS_IS, BAKED = "as it is", "baked"
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_TRAINING = "ai.onnx.preview.training"
_DATA_DEPENDENT = frozenset({"Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"})
"""Operators whose output's shape depends on the values of their inputs, whatever they are."""
_OF_SIZES = frozenset({"BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow", "MelWeightMatrix", "Range"})
"""Operators whose first input is a size; when it is known, they are constants."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """A case as it is, or with all inputs but the first as constants.

    Attributes:
        case: of the suite.
        name: of the form.
        model: to compile.
        data: inputs by name, and expected outputs in the model's order.
    """

    case: Case
    name: str
    model: onnx.ModelProto
    data: Sequence[tuple[dict[str, Array], Sequence[Array]]]

    @property
    def id(self) -> str:
        """Name that a baseline lists."""
        return f"{self.case.kind}/{self.case.name}/{'baked' if self.name == BAKED else 'as_is'}"


def out_of_scope(case: Case) -> str:
    """Return why no form of a case is tried; empty when it is."""
    graph = case.model.graph
    ports = [*graph.input, *graph.output]
    types = {port.type.WhichOneof("value") for port in ports}
    values = [value for pair in case.data for side in pair for value in side]
    reasons = {
        "sequences": "sequence_type" in types or any("Sequence" in node.op_type for node in graph.node),
        "optional values": "optional_type" in types or any("Optional" in node.op_type for node in graph.node),
        "training": any(node.domain == _TRAINING for node in graph.node),
        "random numbers": any(node.op_type in _RANDOM for node in graph.node),
        "strings": any(port.type.tensor_type.elem_type == onnx.TensorProto.STRING for port in ports),
        "values that are no tensors": bool(types - {"tensor_type"})
        or any(not isinstance(value, np.ndarray) for value in values),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def forms(case: Case) -> list[Form]:
    """Return the forms of a case that is in scope."""
    known = {tensor.name for tensor in case.model.graph.initializer}
    given = len(case.data[0][0]) if case.data else 0
    ports = list(case.model.graph.input)
    # The suite gives files of IR 3 values for their weights too, or for what is no initialiser alone.
    names = [port.name for port in ports]
    if given < len(names):
        names = [name for name in names if name not in known]
    # What a case gives for an initialiser is its value.
    data = [(dict(zip(names, inputs, strict=False)), outputs) for inputs, outputs in case.data]
    found = [Form(case=case, name=AS_IS, model=case.model, data=_without(data, known))]
    loose = [name for name in names if name not in known]
    if len(loose) > 1:
        found += _baked(case, loose, data)
    return found


def _without(data: Sequence[tuple[dict[str, Array], Sequence[Array]]], known: set[str]) -> list[Any]:
    return [({name: value for name, value in given.items() if name not in known}, outputs) for given, outputs in data]


def _baked(case: Case, loose: list[str], data: Sequence[tuple[dict[str, Array], Sequence[Array]]]) -> list[Form]:
    """Return the form whose first input is its only one; of several sets of data the first is taken."""
    given, outputs = data[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    elements = {port.name: port.type.tensor_type.elem_type for port in model.graph.input}
    for name in loose[1:]:
        port = next(port for port in model.graph.input if port.name == name)
        model.graph.input.remove(port)
        tensor = numpy_helper.from_array(np.ascontiguousarray(given[name]).reshape(given[name].shape), name)
        if tensor.data_type != elements[name]:
            return []
        model.graph.initializer.append(tensor)
    model.ir_version = max(model.ir_version, 4)
    return [Form(case=case, name=BAKED, model=model, data=[({loose[0]: given[loose[0]]}, outputs)])]


def stated_sizes(form: Form) -> dict[str, int]:
    """Return what a user would state under `sizes`: the largest counts of outputs whose extent depends on data."""
    places = {port.name: place for place, port in enumerate(form.model.graph.output)}
    found = {}
    for node in form.model.graph.node:
        name = next((output for output in node.output if output in places), "")
        is_counted = node.op_type == "TopK" and any(port.name in node.input[1:2] for port in form.model.graph.input)
        if not name or not (is_counted or node.op_type in _DATA_DEPENDENT):
            continue
        results = [np.asarray(outputs[places[name]]) for _, outputs in form.data]
        usual = {"NonZero": 1, "TopK": -1}.get(node.op_type, 0)
        axis = next((item.i for item in node.attribute if item.name == "axis"), usual)
        if name != node.output[0]:
            axis = 0
        found[name] = max(1, *(result.shape[axis] for result in results))
    return found


def is_dynamic(form: Form) -> bool:
    """Say whether the shape of an output depends on the values of inputs that are not known beforehand.

    As it is, a model is static when ONNX's shape inference says so. Baked, all that could tell a shape is known, and
    only an operator that looks at its data leaves one open.
    """
    if any(node.op_type in _DATA_DEPENDENT for node in form.model.graph.node):
        return True
    model = onnx.ModelProto()
    model.CopyFrom(form.model)
    shapes = form.data[0][0]
    for port in model.graph.input:
        if port.name in shapes:
            extents = onnx.helper.make_tensor_value_info(
                port.name, port.type.tensor_type.elem_type, shapes[port.name].shape
            )
            port.CopyFrom(extents)
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except Exception:  # what is wrong with the model the attempt tells
        return False
    if all(_is_static(port) for port in inferred.graph.output):
        return False
    return form.name == AS_IS or any(node.op_type in _OF_SIZES for node in form.model.graph.node)


def _is_static(port: onnx.ValueInfoProto) -> bool:
    tensor = port.type.tensor_type
    return tensor.HasField("shape") and all(extent.HasField("dim_value") for extent in tensor.shape.dim)
