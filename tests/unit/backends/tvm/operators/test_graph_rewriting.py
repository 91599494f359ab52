"""Nodes that are replaced before the graph is imported: what becomes of them, and what is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from crossfarm.backends.tvm.operators.families import REWRITES
from crossfarm.backends.tvm.operators.few_bits import unpacked
from crossfarm.backends.tvm.operators.graph_rewriting import rewritten
from crossfarm.errors import ModelError

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(5)


def _model(nodes: Sequence[NodeProto], inputs: Mapping[str, Array], constants: Mapping[str, Array]) -> ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in inputs.items()
        ],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def _numbers(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def test_a_graph_with_nothing_to_replace_is_the_same_object() -> None:
    model = _model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": _numbers(2, 3)}, {"w": _numbers(3, 4)})
    assert rewritten(model, REWRITES) is model


def test_a_quantised_convolution_becomes_what_the_integer_kernels_look_for() -> None:
    constants = {
        "xs": np.array(0.1, np.float32),
        "xz": np.array(3, np.uint8),
        "w": RANDOM.integers(0, 256, (4, 3, 3, 3)).astype("uint8"),
        "ws": np.array(0.2, np.float32),
        "wz": np.array(128, np.uint8),
        "ys": np.array(0.3, np.float32),
        "yz": np.array(7, np.uint8),
    }
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"])
    made = rewritten(_model([node], {"x": np.zeros((1, 3, 5, 5), np.uint8)}, constants), REWRITES)
    assert [each.op_type for each in made.graph.node] == [
        "DequantizeLinear",
        "DequantizeLinear",
        "Conv",
        "QuantizeLinear",
    ]
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    np.testing.assert_array_equal(held[made.graph.node[1].input[0]], constants["w"].astype(int) - 128)


def test_weights_that_do_not_fit_around_their_zero_point_are_left_to_exact_products() -> None:
    constants = {
        "xs": np.array(0.1, np.float32),
        "xz": np.array(3, np.uint8),
        "w": np.array([[0, 255]], np.uint8),
        "ws": np.array(0.2, np.float32),
        "wz": np.array(9, np.uint8),
        "ys": np.array(0.3, np.float32),
        "yz": np.array(7, np.uint8),
    }
    model = _model(
        [helper.make_node("QLinearMatMul", ["x", *constants], ["y"])], {"x": np.zeros((4, 1), np.uint8)}, constants
    )
    assert rewritten(model, REWRITES) is model


def test_what_was_made_of_a_node_may_be_replaced_again() -> None:
    constants = {"b": RANDOM.integers(-9, 9, (3, 2)).astype("int8"), "s": np.array(0.5, np.float32)}
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "b", "s"], ["y"], domain="com.microsoft")
    made = rewritten(_model([node], {"x": _numbers(4, 3)}, constants), REWRITES)
    assert {each.domain for each in made.graph.node} == {""}
    x = _numbers(4, 3)
    (got,) = ReferenceEvaluator(made).run(None, {"x": x})
    np.testing.assert_allclose(got, x @ (constants["b"] * 0.5), atol=0.2)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_weights_of_four_bits_become_packed_columns(kind: int) -> None:
    values = RANDOM.integers(-8, 8, (10, 3)) if kind == TensorProto.INT4 else RANDOM.integers(0, 16, (10, 3))
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["r"], axis=1),
        helper.make_node("MatMul", ["x", "r"], ["y"]),
    ]
    model = _model(nodes, {"x": _numbers(2, 10)}, {"s": np.ones(3, np.float32)})
    model.graph.initializer.append(helper.make_tensor("w", kind, [10, 3], values.reshape(-1).tolist()))
    made = rewritten(model, REWRITES)
    node = made.graph.node[-1]
    assert (node.domain, node.op_type) == ("com.microsoft", "MatMulNBits")
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    numbers, points = unpacked(held[node.input[1]], 4), held[node.input[3]]
    np.testing.assert_array_equal((numbers[:, :10] - points).T, values)


@pytest.mark.parametrize(("left", "right"), [(1, -1), (-1, 0), (2, 1), (0, 0)])
def test_keys_in_a_window_are_attended_to(left: int, right: int) -> None:
    inputs = {"q": _numbers(1, 2, 4, 8), "k": _numbers(1, 2, 6, 8), "v": _numbers(1, 2, 6, 8)}
    node = helper.make_node("Attention", [*inputs], ["y"], left_window_size=left, right_window_size=right)
    model = _model([node], inputs, {})
    model.opset_import[0].version = 25
    (got,) = ReferenceEvaluator(rewritten(model, REWRITES)).run(None, inputs)
    (right_answer,) = ReferenceEvaluator(model).run(None, inputs)
    np.testing.assert_allclose(got, right_answer, rtol=1e-5, atol=1e-5)


def test_a_node_that_cannot_be_replaced_is_named_with_the_reason() -> None:
    inputs = {"q": _numbers(1, 2, 4, 8), "k": _numbers(1, 2, 4, 8), "v": _numbers(1, 2, 4, 8), "n": np.array([3])}
    node = helper.make_node("Attention", ["q", "k", "v", "", "", "", "n"], ["y"], left_window_size=2, name="look")
    with pytest.raises(ModelError, match=r"operator Attention \(node 'look', number 0\) cannot be imported: .*window"):
        rewritten(_model([node], inputs, {}), REWRITES)


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17, 18, 21])
@pytest.mark.parametrize(
    ("operator", "inputs", "constants", "attributes"),
    [
        (
            "MultiHeadAttention",
            {"q": (2, 4, 8), "k": (2, 4, 8), "v": (2, 4, 8)},
            {"b": np.ones(24, np.float32), "m": np.array([3, 2], np.int32)},
            {"num_heads": 2},
        ),
        (
            "Attention",
            {"x": (2, 4, 8)},
            {"w": np.ones((8, 24), np.float32), "b": np.ones(24, np.float32)},
            {"num_heads": 2},
        ),
        ("SkipSimplifiedLayerNormalization", {"x": (2, 8), "s": (2, 8)}, {"g": np.ones(8, np.float32)}, {}),
    ],
)
def test_what_replaces_a_node_is_of_the_operator_set_of_the_model(
    opset: int,
    operator: str,
    inputs: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, Array],
    attributes: Mapping[str, int],
) -> None:
    node = helper.make_node(operator, [*inputs, *constants], ["y"], domain="com.microsoft", **attributes)
    model = _model([node], {name: _numbers(*shape) for name, shape in inputs.items()}, constants)
    model.opset_import[0].version = opset
    made = rewritten(model, REWRITES)
    assert made is not model
    for each in made.graph.node:
        schema = onnx.defs.get_schema(each.op_type, opset)
        assert schema.min_input <= len(each.input) <= schema.max_input, each.op_type
        assert {item.name for item in each.attribute} <= set(schema.attributes), each.op_type


def test_the_lengths_that_an_embedding_counts_are_of_the_operator_set_too() -> None:
    constants = {
        "w": _numbers(9, 8),
        "p": _numbers(6, 8),
        "g": _numbers(8),
        "b": _numbers(8),
        "m": np.ones((2, 4), np.int32),
    }
    names = ["x", "", "w", "p", "", "g", "b", "m"]
    node = helper.make_node("EmbedLayerNormalization", names, ["y", "n"], domain="com.microsoft")
    model = _model([node], {"x": np.zeros((2, 4), np.int32)}, constants)
    model.opset_import[0].version = 12
    (counting,) = [each for each in rewritten(model, REWRITES).graph.node if each.op_type == "ReduceSum"]
    assert len(counting.input) == 1
    assert [list(item.ints) for item in counting.attribute if item.name == "axes"] == [[1]]
