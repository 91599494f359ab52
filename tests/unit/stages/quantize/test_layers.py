"""What quantising does layer by layer: where an error begins, what it adds up to, and how coarse outputs are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.config.quantisation import Quantisation
from crossfarm.errors import ModelError
from crossfarm.stages.quantize.artifact import LayerError
from crossfarm.stages.quantize.layers import layer_errors, output_steps
from crossfarm.stages.quantize.nodes import chosen_nodes
from crossfarm.stages.quantize.quantise import quantise

node = helper.make_node


def chain(**weights: np.ndarray) -> onnx.ModelProto:
    """Return y = relu(x W0) W1, then W2, over x [1, 8], with weights that may be given."""
    generator = np.random.default_rng(0)
    constants = {f"w{k}": generator.standard_normal((8, 8)) for k in range(3)} | weights
    nodes = [
        node("MatMul", ["x", "w0"], ["a"], name="first"),
        node("Relu", ["a"], ["r"], name="relu"),
        node("MatMul", ["r", "w1"], ["b"], name="second"),
        node("MatMul", ["b", "w2"], ["y"], name="third"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def inputs(count: int = 6) -> list[dict[str, Any]]:
    generator = np.random.default_rng(1)
    return [{"x": generator.standard_normal((1, 8)).astype(np.float32)} for _ in range(count)]


def test_an_error_is_told_of_the_layer_in_which_it_begins_and_goes_on_behind_it() -> None:
    real = chain()
    changed = chain(w1=numpy_helper.to_array(real.graph.initializer[1]) * 1.1)
    first, second, third = layer_errors(real, changed, {"a", "b", "y"}, inputs(), model="m")
    assert first == LayerError(name="first", operator="MatMul", error=0.0, before=0.0)
    assert (second.name, second.before) == ("second", 0.0)
    assert second.error == second.own == pytest.approx(0.1, rel=1e-3)
    assert third.before == second.error
    assert third.error == pytest.approx(0.1, rel=1e-3)
    assert third.own < 0.01


def test_the_coarsest_weights_of_a_quantised_model_are_found() -> None:
    # One weight of each column is so large that a step of 1/127 of it swallows the others; it is multiplied by 0.
    coarse = np.random.default_rng(2).standard_normal((8, 8)) * 0.02
    coarse[0] = 4.0
    real = chain(w0=np.diag([0.0, *[1.0] * 7]), w1=coarse, w2=np.eye(8))
    quantised = quantise(real, inputs(), Quantisation(), name="m")
    found = layer_errors(real, quantised, {"a", "b", "y"}, inputs(), model="m")
    assert max(found, key=lambda layer: layer.own).name == "second"
    assert {layer.name for layer in found} == {"first", "second", "third"}
    assert all(layer.error > 0 for layer in found[1:])


def test_layers_whose_results_quantising_renamed_are_left_out() -> None:
    real = chain()
    assert [layer.name for layer in layer_errors(real, chain(), {"a", "gone"}, inputs(1), model="m")] == ["first"]


def test_a_graph_that_does_not_run_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match="its layers cannot be compared in ONNX Runtime"):
        layer_errors(chain(), chain(), {"a"}, [{"x": np.zeros((2, 9), np.float32)}], model="m")


def _dequantised(*behind: onnx.NodeProto) -> onnx.GraphProto:
    """Return a graph that quantises x in steps of 1/4 and dequantises it, with operators behind."""
    nodes = [
        node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        *behind,
    ]
    return helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array(0.25, np.float32), "step"),
            numpy_helper.from_array(np.array(0, np.int8), "zero"),
            numpy_helper.from_array(np.array([2, 4]), "shape"),
        ],
    )


def test_the_step_of_an_output_is_that_of_the_integers_it_is_made_of() -> None:
    moved = (node("Reshape", ["d", "shape"], ["m"]), node("Transpose", ["m"], ["y"]))
    assert output_steps(_dequantised(*moved)) == {"y": 0.25}
    assert output_steps(_dequantised(node("Softmax", ["d"], ["y"]))) == {}
    assert output_steps(chain().graph) == {}
    assert chosen_nodes(chain().graph) == ["first", "second", "third"]
