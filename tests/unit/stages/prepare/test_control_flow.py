"""Loops and branches become nodes that compute the same, or are refused with the node and the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from crossfarm.errors import ModelError
from crossfarm.stages.prepare import control_flow
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static

Array = np.ndarray[Any, Any]
X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
NUMBER = helper.make_tensor_value_info("number", TensorProto.INT64, [])
GOES_ON = helper.make_tensor_value_info("goes_on", TensorProto.BOOL, [])


def _value(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(
    nodes: Sequence[NodeProto], inputs: Mapping[str, Array], constants: Mapping[str, Array], outputs: Sequence[str]
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _static(model: ModelProto, inputs: Mapping[str, Array]) -> ModelProto:
    fixed = [StaticInput(name=name, shape=array.shape, dtype=str(array.dtype)) for name, array in inputs.items()]
    return make_static(model.SerializeToString(), fixed)


def _run(model: ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(None, dict(inputs))]


def _assert_unrolled(model: ModelProto, inputs: Mapping[str, Array]) -> None:
    static = _static(model, inputs)
    assert not {node.op_type for node in static.graph.node} & {"Loop", "Scan", "If"}
    for got, right in zip(_run(static, inputs), _run(model, inputs), strict=True):
        np.testing.assert_array_equal(got, right)


def _body(condition: NodeProto | None = None) -> GraphProto:
    nodes = [
        helper.make_node("Add", ["old", "step"], ["new"]),
        helper.make_node("Mul", ["new", "two"], ["seen"]),
        condition or helper.make_node("Identity", ["goes_on"], ["still"]),
    ]
    results = [helper.make_tensor_value_info("still", TensorProto.BOOL, []), _value("new", 2, 3), _value("seen", 2, 3)]
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    return helper.make_graph(nodes, "body", [NUMBER, GOES_ON, _value("old", 2, 3)], results, [two])


def _loop(body: GraphProto, *, starts: str = "") -> NodeProto:
    return helper.make_node("Loop", ["trips", starts, "x"], ["last", "all"], body=body, name="walk")


@pytest.mark.parametrize("trips", [1, 4])
def test_a_loop_with_known_trips_is_unrolled(trips: int) -> None:
    inputs = {"x": X, "step": X + 1}
    _assert_unrolled(_model([_loop(_body())], inputs, {"trips": np.array(trips)}, ["last", "all"]), inputs)


def test_a_loop_ends_where_its_condition_says_so_by_the_number_of_the_trip() -> None:
    inputs = {"x": X, "step": X + 1}
    constants = {"trips": np.array(40), "most": np.array(2), "yes": np.array(True)}
    body = _body(helper.make_node("Less", ["number", "most"], ["still"]))
    model = _model([_loop(body, starts="yes")], inputs, constants, ["last", "all"])
    _assert_unrolled(model, inputs)
    assert _run(_static(model, inputs), inputs)[1].shape == (3, 2, 3)


@pytest.mark.parametrize(
    ("constant", "reason"),
    [
        ({"trips": np.array(40)}, "when it ends depends on data"),
        ({}, "its number of trips depends on data"),
    ],
)
def test_a_loop_that_depends_on_data_is_refused_with_its_node(constant: dict[str, Array], reason: str) -> None:
    inputs = {"x": X, "step": X + 1, "bound": np.array(1.0, np.float32)}
    if not constant:
        inputs["trips"] = np.array(3)
    body = _body(helper.make_node("Less", ["bound", "limit"], ["still"]))
    model = _model([_loop(body)], inputs, {**constant, "limit": np.array(3, np.float32)}, ["last", "all"])
    with pytest.raises(ModelError, match=rf"operator Loop \(node 'walk'\) cannot be compiled: {reason}"):
        _static(model, inputs)


def test_a_loop_of_too_many_nodes_is_refused() -> None:
    inputs = {"x": X, "step": X + 1}
    model = _model([_loop(_body())], inputs, {"trips": np.array(10_000_000)}, ["last", "all"])
    with pytest.raises(ModelError, match="more than 20000 nodes"):
        _static(model, inputs)


def test_a_loop_of_too_many_trips_is_refused_though_they_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_flow, "UNROLLED_LIMIT", 30)
    results = [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []), _value("old", 2, 3)]
    body = helper.make_graph([], "body", [NUMBER, GOES_ON, _value("old", 2, 3)], results)
    for trips in ("trips", ""):
        loop = helper.make_node("Loop", [trips, "yes", "x"], ["last"], body=body, name="walk")
        constants = {"yes": np.array(True), **({"trips": np.array(2**40)} if trips else {})}
        with pytest.raises(ModelError, match="makes more than 30 trips"):
            _static(_model([loop], {"x": X}, constants, ["last"]), {"x": X})


def test_weights_of_a_body_stand_once_however_often_it_is_walked() -> None:
    weights = numpy_helper.from_array(np.arange(6000, dtype=np.float32).reshape(2, 3000), "w")
    nodes = [
        helper.make_node("MatMul", ["old", "w"], ["wide"]),
        helper.make_node("Slice", ["wide", "begin", "end", "axis"], ["new"]),
        helper.make_node("Identity", ["goes_on"], ["still"]),
    ]
    places = [
        numpy_helper.from_array(np.array([value]), name) for name, value in (("begin", 0), ("end", 2), ("axis", 1))
    ]
    results = [helper.make_tensor_value_info("still", TensorProto.BOOL, []), _value("new", 2, 2)]
    body = helper.make_graph(nodes, "body", [NUMBER, GOES_ON, _value("old", 2, 2)], results, [weights, *places])
    loop = helper.make_node("Loop", ["trips", "", "x"], ["last"], body=body, name="walk")
    inputs = {"x": np.ones((2, 2), np.float32)}
    model = _model([loop], inputs, {"trips": np.array(5)}, ["last"])
    _assert_unrolled(model, inputs)
    assert _static(model, inputs).ByteSize() < 2 * 4 * 6000


def test_a_condition_is_read_by_the_operator_set_of_the_model() -> None:
    inputs = {"x": X, "step": X + 1}
    body = _body(helper.make_node("Squeeze", ["listed"], ["still"], axes=[0]))
    body.node.insert(0, helper.make_node("Less", ["number", "most"], ["one"]))
    body.node.insert(1, helper.make_node("Unsqueeze", ["one"], ["listed"], axes=[0]))
    constants = {"trips": np.array(40), "most": np.array(2), "yes": np.array(True)}
    model = _model([_loop(body, starts="yes")], inputs, constants, ["last", "all"])
    model.opset_import[0].version = 11
    _assert_unrolled(model, inputs)


@settings(max_examples=15, deadline=None)
@given(
    turned_in=st.integers(0, 1),
    turned_out=st.integers(0, 1),
    axis_in=st.integers(0, 1),
    axis_out=st.integers(0, 1),
    length=st.integers(1, 4),
)
def test_a_scan_is_unrolled_in_every_direction_and_along_every_axis(
    *, turned_in: int, turned_out: int, axis_in: int, axis_out: int, length: int
) -> None:
    nodes = [helper.make_node("Add", ["state", "part"], ["next"]), helper.make_node("Relu", ["next"], ["seen"])]
    body = helper.make_graph(
        nodes, "body", [_value("state", 3), _value("part", 3)], [_value("next", 3), _value("seen", 3)]
    )
    scan = helper.make_node(
        "Scan",
        ["first", "x"],
        ["last", "all"],
        body=body,
        num_scan_inputs=1,
        scan_input_directions=[turned_in],
        scan_output_directions=[turned_out],
        scan_input_axes=[axis_in],
        scan_output_axes=[axis_out],
    )
    x = np.random.default_rng(length).standard_normal((3, length) if axis_in else (length, 3)).astype(np.float32)
    inputs = {"first": np.ones(3, np.float32), "x": x}
    _assert_unrolled(_model([scan], inputs, {}, ["last", "all"]), inputs)


def _branches(*shapes: tuple[int, ...]) -> dict[str, GraphProto]:
    one = helper.make_graph([helper.make_node("Relu", ["x"], ["a"])], "then", [], [_value("a", *shapes[0])])
    operator = "Neg" if shapes[0] == shapes[1] else "ReduceSum"
    other = helper.make_graph([helper.make_node(operator, ["x"], ["b"])], "else", [], [_value("b", *shapes[1])])
    return {"then_branch": one, "else_branch": other}


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_branch_is_taken_or_chosen_from(taken: bool, known: bool) -> None:
    node = helper.make_node("If", ["c"], ["y"], **_branches((2, 3), (2, 3)))
    condition = {"c": np.array(taken)}
    inputs = {"x": X, **({} if known else condition)}
    _assert_unrolled(_model([node], inputs, condition if known else {}, ["y"]), inputs)


def test_branches_of_two_shapes_are_refused_with_the_node() -> None:
    node = helper.make_node("If", ["c"], ["y"], name="fork", **_branches((2, 3), (1, 1)))
    inputs = {"x": X, "c": np.array(True)}
    with pytest.raises(ModelError, match=r"operator If \(node 'fork'\) cannot be compiled: .*differ in shape"):
        _static(_model([node], inputs, {}, ["y"]), inputs)


def test_a_loop_in_a_loop_is_unrolled_from_the_outside() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["kept", "step"], ["grown"]), helper.make_node("Identity", ["ci"], ["co"])],
        "inner",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("ci", TensorProto.BOOL, []),
            _value("kept", 2, 3),
        ],
        [helper.make_tensor_value_info("co", TensorProto.BOOL, []), _value("grown", 2, 3)],
    )
    nodes = [
        helper.make_node("Loop", ["two", "", "old"], ["between"], body=inner),
        helper.make_node("Mul", ["between", "between"], ["new"]),
        helper.make_node("Identity", ["goes_on"], ["still"]),
    ]
    results = [helper.make_tensor_value_info("still", TensorProto.BOOL, []), _value("new", 2, 3)]
    outer = helper.make_graph(nodes, "outer", [NUMBER, GOES_ON, _value("old", 2, 3)], results)
    inputs = {"x": X, "step": X + 1}
    loop = helper.make_node("Loop", ["trips", "", "x"], ["last"], body=outer)
    constants = {"trips": np.array(2), "two": np.array(2)}
    _assert_unrolled(_model([loop], inputs, constants, ["last"]), inputs)


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_condition_of_one_element_along_an_axis_gives_results_no_axis(taken: bool, shape: tuple[int, ...]) -> None:
    inputs = {"x": np.ones(shape, np.float32), "c": np.array([taken])}
    graphs = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["x"], [name])], name, [], [_value(name, *shape)]
        )
        for name, operator in (("then", "Exp"), ("else", "Neg"))
    }
    _assert_unrolled(_model([helper.make_node("If", ["c"], ["y"], **graphs)], inputs, {}, ["y"]), inputs)


def test_a_condition_that_is_drawn_at_random_is_not_known_beforehand() -> None:
    inputs = {"x": X, "step": X + 1}
    body = _body(helper.make_node("Less", ["drawn", "half"], ["still"]))
    body.node.insert(0, helper.make_node("RandomUniform", [], ["drawn"], shape=[1]))
    model = _model([_loop(body)], inputs, {"trips": np.array(5), "half": np.array(0.5, np.float32)}, ["last", "all"])
    with pytest.raises(ModelError, match="when it ends depends on data"):
        _static(model, inputs)


@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 3), length=st.integers(1, 4), turned=st.integers(0, 1))
def test_a_scan_of_operator_set_8_goes_over_each_element_of_a_batch(*, batch: int, length: int, turned: int) -> None:
    nodes = [helper.make_node("Add", ["state", "part"], ["next"]), helper.make_node("Relu", ["next"], ["seen"])]
    body = helper.make_graph(
        nodes, "body", [_value("state", 3), _value("part", 3)], [_value("next", 3), _value("seen", 3)]
    )
    outputs = ["last", "all"]
    names = ["", "first", "x"]
    scan = helper.make_node("Scan", names, outputs, body=body, num_scan_inputs=1, directions=[turned])
    random = np.random.default_rng(batch + 10 * length)
    inputs = {
        "first": random.standard_normal((batch, 3)).astype(np.float32),
        "x": random.standard_normal((batch, length, 3)).astype(np.float32),
    }
    model = _model([scan], inputs, {}, outputs)
    model.opset_import[0].version = 8
    _assert_unrolled(model, inputs)


def test_a_scan_that_is_told_lengths_is_refused_with_its_node() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "part"], ["next"])],
        "body",
        [_value("state", 3), _value("part", 3)],
        [_value("next", 3)],
    )
    scan = helper.make_node("Scan", ["n", "first", "x"], ["last"], body=body, num_scan_inputs=1, name="walk")
    inputs = {"n": np.array([2]), "first": np.ones((1, 3), np.float32), "x": np.ones((1, 4, 3), np.float32)}
    model = _model([scan], inputs, {}, ["last"])
    model.opset_import[0].version = 8
    with pytest.raises(ModelError, match=r"operator Scan \(node 'walk'\) cannot be compiled: .*length of each"):
        _static(model, inputs)
