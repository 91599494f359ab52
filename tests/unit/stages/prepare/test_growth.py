"""Small files that ask for more memory than there is: refused before anything of it is computed."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise

X = StaticInput(name="x", shape=(1, 4), dtype="float32")
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def _model(
    nodes: Sequence[onnx.NodeProto],
    initialisers: dict[str, NDArray[Any]] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(values, name) for name, values in (initialisers or {}).items()],
    )
    return serialise(helper.make_model(graph, opset_imports=OPSETS, ir_version=8, functions=functions))


def _doubled(times: int) -> list[onnx.NodeProto]:
    """Join `c0` with itself `times` times; the sum of it is added to x."""
    doubling = [helper.make_node("Concat", [f"c{k}", f"c{k}"], [f"c{k + 1}"], axis=0) for k in range(times)]
    return [
        *doubling,
        helper.make_node("ReduceSum", [f"c{times}"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _refused(content: bytes, match: str) -> None:
    started, before = time.process_time(), _peak()
    with pytest.raises(ModelError, match=match):
        make_static(content, [X])
    assert time.process_time() - started < 5
    assert _peak() - before < 200 << 10  # KiB


def test_a_constant_that_is_joined_with_itself_is_refused_before_it_is_computed() -> None:
    content = _model(_doubled(28), {"c0": np.ones((64,), np.float32)})
    assert len(content) < 2000
    _refused(content, r"operator Concat \(the node that gives 'c\d+'\) makes a list of more than")


def test_a_constant_that_is_expanded_is_refused() -> None:
    shape = np.array([1 << 16, 1 << 16], np.int64)
    nodes = [helper.make_node("Expand", ["c", "shape"], ["c0"]), *_doubled(0)]
    _refused(_model(nodes, {"c": np.ones((1,), np.float32), "shape": shape}), "operator Expand")


def test_a_constant_whose_shape_is_computed_is_refused() -> None:
    nodes = [
        helper.make_node("Mul", ["side", "side"], ["area"]),
        helper.make_node("ConstantOfShape", ["area"], ["c0"]),
        *_doubled(0),
    ]
    _refused(_model(nodes, {"side": np.array([1 << 17], np.int64)}), "operator ConstantOfShape")


def test_a_list_of_extents_that_is_joined_with_itself_is_refused() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["c0"]), *_doubled(30)[:-2]]
    nodes += [helper.make_node("ConstantOfShape", ["c30"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    _refused(_model(nodes), r"operator Concat \(the node that gives 'c\d+'\) makes a list of more than")


def test_a_constant_inside_a_branch_is_refused() -> None:
    value = helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)
    seed = helper.make_node("Constant", [], ["c0"], value=numpy_helper.from_array(np.ones((64,), np.float32)))
    branch = helper.make_graph([seed, *_doubled(28)[:-1]], "branch", [], [value])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("If", ["flag"], ["s"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    _refused(_model(nodes), r"operator Concat \(the node that gives 'c\d+'\)")


def test_a_sparse_constant_that_is_huge_unpacked_is_refused() -> None:
    sparse = onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.ones((1,), np.float32), "v"),
        indices=numpy_helper.from_array(np.zeros((1,), np.int64), "i"),
        dims=[1 << 33],
    )
    constant = helper.make_node("Constant", [], ["c0"])
    constant.attribute.append(helper.make_attribute("sparse_value", sparse))
    _refused(_model([constant, *_doubled(0)]), "operator Constant")


def _function(name: str, called: Sequence[str]) -> onnx.FunctionProto:
    names = ["a", *(f"v{k}" for k in range(len(called) - 1)), "b"]
    nodes = [
        helper.make_node(call, [before], [after], domain="" if call == "Relu" else "own")
        for call, before, after in zip(called, names, names[1:], strict=False)
    ]
    return helper.make_function("own", name, ["a"], ["b"], nodes, OPSETS)


def test_functions_that_call_each_other_twice_are_refused_before_they_are_inlined() -> None:
    functions = [_function("f0", ["Relu", "Relu"])]
    functions += [_function(f"f{k}", [f"f{k - 1}", f"f{k - 1}"]) for k in range(1, 40)]
    content = _model([helper.make_node("f39", ["x"], ["y"], domain="own")], functions=functions)
    _refused(content, r"function 'f\d+' has \d+ nodes when the model's functions are inlined")


def test_a_function_that_calls_itself_is_refused() -> None:
    functions = [_function("f", ["g"]), _function("g", ["f"])]
    _refused(_model([helper.make_node("f", ["x"], ["y"], domain="own")], functions=functions), "calls itself")


def test_functions_that_call_each_other_deep_are_refused() -> None:
    functions = [_function("f0", ["Relu"]), *(_function(f"f{k}", [f"f{k - 1}"]) for k in range(1, 3000))]
    _refused(_model([helper.make_node("f2999", ["x"], ["y"], domain="own")], functions=functions), "more than 64 deep")


def test_a_tensor_at_run_time_that_no_board_holds_is_refused() -> None:
    nodes = [
        helper.make_node("Tile", ["x", "many"], ["t"]),
        helper.make_node("ReduceSum", ["t"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    _refused(_model(nodes, {"many": np.array([1 << 16, 1 << 14], np.int64)}), "tensor 't' has 17179869184 bytes")


def test_functions_and_constants_of_ordinary_size_are_inlined_and_computed() -> None:
    functions = [_function("f0", ["Relu", "Relu"]), _function("f1", ["f0", "f0"])]
    nodes = [helper.make_node("f1", ["x"], ["z"], domain="own"), *_doubled(4)]
    nodes[-1] = helper.make_node("Add", ["z", "sum"], ["y"])
    model = make_static(_model(nodes, {"c0": np.ones((64,), np.float32)}, functions), [X])
    assert {node.op_type for node in model.graph.node} == {"Relu", "Add"}
    assert not model.functions


def test_two_functions_of_one_name_are_refused() -> None:
    functions = [_function("f", ["Relu"]), _function("f", ["Relu", "Relu"])]
    content = _model([helper.make_node("f", ["x"], ["y"], domain="own")], functions=functions)
    _refused(content, "the model's functions cannot be put in place of their calls")


def test_a_call_with_more_inputs_than_its_function_takes_is_refused() -> None:
    content = _model([helper.make_node("f", ["x", "x"], ["y"], domain="own")], functions=[_function("f", ["Relu"])])
    _refused(content, "the model's functions cannot be put in place of their calls")


def test_a_name_in_a_message_of_onnx_runtime_moves_no_cursor() -> None:
    content = _model([helper.make_node("Relu", ["x"], ["y", "\x1b[2J"])])
    with pytest.raises(ModelError, match="ONNX Runtime refuses operator Relu") as caught:
        make_static(content, [X])
    assert str(caught.value).isprintable()
