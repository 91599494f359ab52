"""What is refused before it is compiled, and how the fault is named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from crossfarm.backends.tvm.unsupported import UnsupportedError, blame, check_graph
from crossfarm.errors import ModelError

KNOWN = frozenset({"Relu", "If", "TopK", "Identity"})


def _model(nodes: Sequence[NodeProto], *, shape: Sequence[int | str] = (2, 3)) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _relu(name: str = "", *, give: str = "y", take: str = "x") -> NodeProto:
    return helper.make_node("Relu", [take], [give], name=name)


def test_a_graph_of_known_operators_passes() -> None:
    check_graph(_model([_relu()]), known=KNOWN)


def test_an_unknown_operator_is_named_with_its_node() -> None:
    model = _model([_relu(give="r"), helper.make_node("LSTM", ["r"], ["y"], name="memory")])
    with pytest.raises(ModelError, match=r"operator LSTM \(node 'memory', number 1\)"):
        check_graph(model, known=KNOWN)


def test_a_foreign_domain_is_unknown_even_when_the_name_is_known() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], domain="org.example")
    with pytest.raises(ModelError, match=r"operator org\.example\.Relu"):
        check_graph(_model([node]), known=KNOWN)


def test_control_flow_is_refused_although_the_importer_has_it() -> None:
    node = helper.make_node("If", ["x"], ["y"], name="choice")
    with pytest.raises(ModelError, match="operator If"):
        check_graph(_model([node]), known=KNOWN)


def test_many_unknown_operators_give_a_short_message() -> None:
    nodes = [helper.make_node("GRU", ["x"], [f"y{k}"], name=f"n{k}") for k in range(9)]
    with pytest.raises(ModelError, match=r"'n4'.*and 4 more"):
        check_graph(_model(nodes), known=KNOWN)


@pytest.mark.parametrize("shape", [("batch", 3), (-1, 3)])
def test_an_open_input_shape_is_refused(shape: Sequence[int | str]) -> None:
    with pytest.raises(ModelError, match="input 'x' has an open shape"):
        check_graph(_model([_relu()], shape=shape), known=KNOWN)


def test_blame_names_the_first_node_that_fails_alone_in_the_same_way() -> None:
    model = _model([_relu("one", give="a"), _relu("two", give="b", take="a"), _relu("three", take="b")])
    failures = {"one": "something else", "two": "sorting"}

    def attempt(alone: ModelProto) -> None:
        (node,) = alone.graph.node
        if node.name in failures:
            raise UnsupportedError(what=failures[node.name])

    error = blame(model, UnsupportedError(what="sorting"), attempt)
    assert "operator Relu (node 'two', number 1) needs sorting" in str(error)


def test_blame_says_so_when_no_node_fails_alone() -> None:
    error = blame(_model([_relu()]), UnsupportedError(what="sorting"), lambda alone: None)
    assert "no node of it does so by itself" in str(error)


def test_blame_gives_each_node_its_constants() -> None:
    model = _model([helper.make_node("TopK", ["x", "k"], ["y", "i"], name="top")])
    model.graph.initializer.append(helper.make_tensor("k", TensorProto.INT64, [1], [2]))
    seen: list[tuple[list[str], list[str]]] = []

    def attempt(alone: ModelProto) -> None:
        graph = alone.graph
        seen.append(([port.name for port in graph.input], [tensor.name for tensor in graph.initializer]))

    blame(model, UnsupportedError(what="sorting"), attempt)
    assert seen == [(["x"], ["k"])]
