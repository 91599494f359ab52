"""Versions of ONNX: a number that no operator set has is refused, and is no traceback."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.versions import NEWEST_OPSET, converted


@pytest.mark.parametrize("version", [2**31, 2**62])
def test_a_number_that_no_operator_set_has_is_refused(version: int) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", NEWEST_OPSET + 1)])
    assert converted(model).opset_import[0].version == NEWEST_OPSET
    model.opset_import[0].version = version
    with pytest.raises(ModelError, match=f"no operator set {version}"):
        converted(model)
