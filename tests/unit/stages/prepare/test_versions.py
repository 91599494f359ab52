"""Versions of ONNX: a number that no operator set has is refused, and is no traceback."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

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


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 3, 3)])
def test_slopes_of_old_operator_sets_are_those_of_channels(shape: tuple[int, ...]) -> None:
    slopes = np.array([0.5, -1, 2], np.float32)
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, extents) for name, extents in (("x", shape), ("s", (3,)))
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    initial = [numpy_helper.from_array(slopes, "s")]
    graph = helper.make_graph([helper.make_node("PRelu", ["x", "s"], ["y"])], "graph", ports, [result], initial)
    model = converted(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=3))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (got,) = ReferenceEvaluator(model).run(None, {"x": x})
    wide = slopes.reshape(1, 3, *[1] * (len(shape) - 2))
    np.testing.assert_array_equal(got, np.where(x < 0, x * wide, x))
