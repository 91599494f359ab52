"""How nodes are named, and what is known of a shape."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from onnx import TensorProto, helper

from crossfarm.util.onnx_nodes import describe_node, full_name, opset_of, static_shape, subgraphs

RELU = helper.make_node("Relu", ["x"], ["y"])


def test_a_node_without_name_is_found_by_its_output() -> None:
    assert describe_node(RELU, 7) == "operator Relu (the node that gives 'y', number 7)"
    assert describe_node(helper.make_node("Relu", ["x"], ["y"], name="last")) == "operator Relu (node 'last')"


def test_a_name_of_a_megabyte_is_shortened() -> None:
    node = helper.make_node("R" * 1_000_000, ["x"], ["y" * 1_000_000])
    assert len(describe_node(node, 7)) < 500


@pytest.mark.parametrize(("domain", "name"), [("", "Relu"), ("ai.onnx", "Relu"), ("org.example", "org.example.Relu")])
def test_only_another_domain_is_said(domain: str, name: str) -> None:
    assert full_name(helper.make_node("Relu", ["x"], ["y"], domain=domain)) == name


def test_the_operator_set_is_that_of_onnx_whatever_it_is_called() -> None:
    graph = helper.make_graph([RELU], "graph", [], [])
    sets = [helper.make_opsetid("com.microsoft", 40), helper.make_opsetid("ai.onnx", 12)]
    assert opset_of(helper.make_model(graph, opset_imports=sets)) == 12
    assert opset_of(helper.make_model(graph, opset_imports=sets[:1]), 7) == 7


@pytest.mark.parametrize(
    ("shape", "known"), [([2, 3], (2, 3)), ([], ()), ([0, 1], (0, 1)), (["n", 3], None), ([None], None), (None, None)]
)
def test_a_shape_is_known_when_all_its_extents_are(
    shape: Sequence[int | str | None] | None, known: tuple[int, ...] | None
) -> None:
    assert static_shape(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)) == known


def test_branches_and_bodies_are_found() -> None:
    graphs = [helper.make_graph([RELU], name, [], []) for name in ("then", "else")]
    node = helper.make_node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1])
    assert sorted(graph.name for graph in subgraphs(node)) == ["else", "then"]
