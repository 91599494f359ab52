"""The variant int8_shift of small graphs, held against ONNX Runtime and against integers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.errors import ModelError
from crossfarm.stages.quantize_shift.exponents import rounded
from crossfarm.stages.quantize_shift.groups import find_groups
from crossfarm.stages.quantize_shift.quantise import folded, quantise


def _model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: list[int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _small() -> onnx.ModelProto:
    generator = np.random.default_rng(1)
    constants = {
        "w": generator.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "scale": generator.uniform(0.5, 2, 8).astype(np.float32),
        "bias": generator.normal(size=8).astype(np.float32),
        "mean": generator.normal(size=8).astype(np.float32),
        "variance": generator.uniform(0.5, 2, 8).astype(np.float32),
        "v": generator.normal(size=(8, 8, 1, 1)).astype(np.float32),
        "f": generator.normal(size=(8, 5)).astype(np.float32),
        "fb": generator.normal(size=5).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "variance"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "v"], ["d"]),
        helper.make_node("Add", ["d", "c"], ["e"]),
        helper.make_node("Relu", ["e"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["p"]),
        helper.make_node("Flatten", ["p"], ["q"]),
        helper.make_node("MatMul", ["q", "f"], ["s"]),
        helper.make_node("Add", ["s", "fb"], ["y"]),
    ]
    return _model(nodes, constants, [1, 3, 8, 8])


def _inputs(count: int = 8) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(2)
    return [{"x": generator.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def _run(model: onnx.ModelProto, tensors: dict[str, np.ndarray], names: list[str] | None = None) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if names is not None:
        del copy.graph.output[:]
        copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, tensors)


@pytest.fixture(scope="module")
def quantised() -> onnx.ModelProto:
    return quantise(folded(_small()), _inputs(), name="m")


def test_normalisation_and_bias_become_part_of_the_products_and_change_nothing() -> None:
    real, made = _small(), folded(_small())
    assert [node.op_type for node in made.graph.node] == [
        "Conv",
        "Relu",
        "Conv",
        "Add",
        "Relu",
        "MaxPool",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    ]
    tensors = _inputs(1)[0]
    assert np.allclose(_run(real, tensors)[0], _run(made, tensors)[0], rtol=1e-4, atol=1e-5)


def test_all_scales_are_powers_of_two_all_zero_points_0_and_one_scale_stands_for_a_tensor(
    quantised: onnx.ModelProto,
) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer}
    pairs = [node for node in quantised.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 10
    for node in pairs:
        scale = constants[node.input[1]]
        assert scale.shape == ()
        assert math.log2(float(scale)).is_integer()
        assert len(node.input) == 2 or int(constants[node.input[2]]) == 0


def test_a_result_is_rounded_once_behind_its_activation(quantised: onnx.ModelProto) -> None:
    users = {name: node.op_type for node in quantised.graph.node for name in node.input}
    products = [node for node in quantised.graph.node if node.op_type in ("Conv", "Gemm", "Add")]
    followers = [users[node.output[0]] for node in products]
    assert followers == ["Relu", "QuantizeLinear", "Relu", "QuantizeLinear"]


def test_what_moves_values_keeps_their_scale(quantised: onnx.ModelProto) -> None:
    nodes = {node.output[0]: node for node in quantised.graph.node}
    assert nodes["m_8"].input[1] == nodes["r_8"].input[1]
    assert nodes["q_8"].input[1] == nodes["p_8"].input[1]


def test_the_first_convolution_is_what_integers_by_hand_give(quantised: onnx.ModelProto) -> None:
    nodes = {node.output[0]: node for node in quantised.graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer}
    tensors = _inputs(1)[0]

    def exponent(name: str) -> int:
        return int(math.log2(float(constants[nodes[name].input[1]])))

    first = next(node for node in quantised.graph.node if node.op_type == "Conv")
    x, w, b = first.input
    numbers = np.pad(rounded(tensors["x"], exponent(x)).astype(np.int64)[0], ((0, 0), (1, 1), (1, 1)))
    weights = constants[nodes[w].input[0]].astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(numbers, (3, 3), axis=(1, 2))
    sums = np.einsum("oikl,ihwkl->ohw", weights, windows) + constants[nodes[b].input[0]].reshape(-1, 1, 1)
    expected = rounded(np.maximum(sums, 0) * 2.0 ** (exponent(x) + exponent(w)), exponent("c"))
    assert np.array_equal(_run(quantised, tensors, ["c"])[0][0] * 2.0 ** -exponent("c"), expected)


def test_it_decides_as_the_float32_model_does(quantised: onnx.ModelProto) -> None:
    real = folded(_small())
    pairs = [(_run(real, tensors)[0], _run(quantised, tensors)[0]) for tensors in _inputs(40)]
    errors = [np.linalg.norm(one - other) / np.linalg.norm(one) for one, other in pairs]
    assert np.median(errors) < 0.05


def test_the_same_inputs_give_the_same_bytes() -> None:
    first, second = (quantise(folded(_small()), _inputs(), name="m").SerializeToString() for _ in range(2))
    assert first == second


def test_what_an_accelerator_does_not_round_stays_in_float() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("Erf", ["b"], ["c"]),
        helper.make_node("Softmax", ["c"], ["y"]),
    ]
    model = folded(_model(nodes, {"w": np.ones((2, 3, 1, 1), np.float32)}, [1, 3, 4, 4]))
    assert [group.result for group in find_groups(model.graph)] == ["b"]


def test_a_model_without_products_is_refused() -> None:
    model = folded(_model([helper.make_node("Relu", ["x"], ["y"])], {}, [1, 3, 4, 4]))
    with pytest.raises(ModelError, match="no product over constant weights"):
        quantise(model, _inputs(), name="m")


def test_a_model_that_cannot_be_run_on_its_calibration_inputs_is_told(quantised: onnx.ModelProto) -> None:
    wrong = [{"x": np.zeros((1, 4, 8, 8), np.float32)}]
    with pytest.raises(ModelError, match="cannot run it on its calibration inputs"):
        quantise(folded(_small()), wrong, name="m")
