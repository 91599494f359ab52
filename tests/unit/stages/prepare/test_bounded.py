"""Largest extents in place of those that depend on data: what is refused, and with which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.blame import refused_alone
from crossfarm.stages.prepare.bounded.graph import Bounded
from crossfarm.stages.prepare.static_onnx import StaticInput, make_bounded, serialise, signature

X = StaticInput(name="x", shape=(4, 3), dtype="float32")


def _model(nodes: Sequence[onnx.NodeProto], *, opset: int = 17, outputs: Sequence[str] = ("y",)) -> bytes:
    constants = {"twelve": np.array([12]), "minus": np.array([-1]), "mask": np.array([True] * 4)}
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 3])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(made.SerializeToString())


FIND = helper.make_node("NonZero", ["x"], ["at"], name="find")
FOUND = helper.make_node("Neg", ["at"], ["y"], name="last")


def _bounded(nodes: Sequence[onnx.NodeProto], sizes: Mapping[str, Any], **how: Any) -> Bounded:
    return make_bounded(_model(nodes, **how), [X], sizes=sizes)


def _run(model: onnx.ModelProto, values: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(serialise(model), providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(None, {"x": values})]


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_the_prepared_file_has_static_shapes_and_the_count_and_runs_in_onnx_runtime(opset: int) -> None:
    made = _bounded([FIND, FOUND], {"at": 5}, opset=opset)
    described = signature(made.model)["outputs"]
    assert described == [
        {"name": "y", "dtype": "int64", "shape": [2, 5]},
        {"name": "y.count", "dtype": "int64", "shape": []},
    ]
    values = np.zeros((4, 3), np.float32)
    values[1, 2] = values[3, 0] = 1
    rows, count = _run(made.model, values)
    np.testing.assert_array_equal(rows, [[-1, -3, 0, 0, 0], [-2, 0, 0, 0, 0]])
    assert count == 2
    assert made.exact is not None
    true, exact_count = _run(made.exact, values)
    np.testing.assert_array_equal(true, [[-1, -3], [-2, 0]])
    assert exact_count == 2


def test_a_count_beyond_the_stated_one_is_told() -> None:
    rows, count = _run(_bounded([FIND, FOUND], {"at": 5}).model, np.ones((4, 3), np.float32))
    assert rows.shape == (2, 5)
    assert count == 12


def test_a_model_without_such_an_operator_is_what_it_was() -> None:
    made = _bounded([helper.make_node("Relu", ["x"], ["y"])], {})
    assert made.exact is None
    assert not made.model.functions


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({}, r"operator NonZero \(node 'find', number 0\).*12 at most.*`sizes: \{at: 12\}`"),
        ({"att": 3}, "'att', which is no tensor of the model; perhaps you meant 'at'"),
        ({"at": 3, "y": 3}, "'y', whose extent does not depend on data"),
        ({"at": (3, 5)}, r"operator NonZero \(node 'find', number 0\).*states the shape \[3, 5\], and it is \[2, \?\]"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_words(sizes: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        _bounded([FIND, FOUND], sizes)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Concat", ["at", "at"], ["y"], name="n", axis=1), "joins tensors along an axis"),
        (helper.make_node("Reshape", ["at", "twelve"], ["y"], name="n"), "mixes it with others|shapes do not fit"),
        (helper.make_node("CumSum", ["at", "minus"], ["y"], name="n", reverse=1), "adds up from the end"),
        (helper.make_node("Trilu", ["at"], ["y"], name="n"), "not known"),
    ],
)
def test_what_cannot_follow_is_refused_with_its_name(node: onnx.NodeProto, words: str) -> None:
    with pytest.raises(ModelError, match=rf"operator {node.op_type} \(node 'n', number \d\).*{words}"):
        _bounded([FIND, node], {"at": 6})


def test_a_name_that_the_count_would_take_is_refused() -> None:
    nodes = [FIND, FOUND, helper.make_node("Abs", ["x"], ["y.count"])]
    with pytest.raises(ModelError, match=r"tensor 'y\.count'"):
        _bounded(nodes, {"at": 3}, outputs=("y", "y.count"))


def test_a_node_that_onnx_runtime_refuses_without_naming_it_is_found() -> None:
    good = helper.make_node("Relu", ["x"], ["r"], name="good")
    bad = helper.make_node("Conv", ["r", "x"], ["y"], name="bad")
    model = onnx.load_model_from_string(_model([good, bad]))
    assert refused_alone(model) == "operator Conv (node 'bad', number 1)"
    assert refused_alone(onnx.load_model_from_string(_model([helper.make_node("Relu", ["x"], ["y"])]))) == ""
