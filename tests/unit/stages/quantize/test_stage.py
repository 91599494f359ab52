"""The stage `quantize`: which nodes it takes, what its scales are, and what its key depends on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from crossfarm.config.models import Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.quantisation import Quantisation
from crossfarm.errors import ConfigError, ModelError
from crossfarm.stages.calibration.inputs import calibration_inputs
from crossfarm.stages.job import Job
from crossfarm.stages.prepare.static_onnx import serialise
from crossfarm.stages.protocol import Subject
from crossfarm.stages.quantize import stage as quantize
from crossfarm.stages.quantize.nodes import chosen_nodes, is_quantised, quantised_operators
from crossfarm.stages.quantize.quantise import answers_of, quantise
from crossfarm.stages.reference.answers import Runtime
from crossfarm.stages.reference.artifact import Case, Reference, TensorFile

node = helper.make_node
ENTRY = {
    "name": "m",
    "source": {"file": "m.onnx"},
    "licence": "MIT",
    "inputs": [{"name": "x", "shape": [1, 2, 8, 8]}],
}


def model_of(*nodes: onnx.NodeProto, output: str = "y") -> onnx.ModelProto:
    """Return a model over x [1, 2, 8, 8] with weights w, v (1x1 to 4 channels) and the constant `three`."""
    generator = np.random.default_rng(0)
    constants = {
        "w": generator.standard_normal((4, 2, 1, 1)),
        "v": generator.standard_normal((4, 4, 1, 1)),
        "b": generator.standard_normal(4),
        "three": np.array(3.0),
        "low": np.array(0.0),
        "high": np.array(6.0),
    }
    used = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 8, 8])],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items() if name in used],
    )
    for number, each in enumerate(graph.node):
        each.name = f"{each.op_type}_{number}"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SWISH = (
    node("Conv", ["x", "w", "b"], ["c"]),
    node("Add", ["c", "three"], ["s"]),
    node("Clip", ["s", "low", "high"], ["k"]),
    node("Mul", ["c", "k"], ["a"]),
    node("Conv", ["a", "v"], ["y"]),
)
RESIDUAL = (
    node("Conv", ["x", "w"], ["c"]),
    node("Conv", ["c", "v"], ["d"]),
    node("Add", ["c", "d"], ["y"]),
)


def inputs(count: int = 4) -> list[dict[str, Any]]:
    """Return random inputs."""
    generator = np.random.default_rng(1)
    return [{"x": generator.standard_normal((1, 2, 8, 8)).astype(np.float32)} for _ in range(count)]


def test_an_activation_stays_in_float32_behind_its_convolution() -> None:
    assert chosen_nodes(model_of(*SWISH).graph) == ["Conv_0", "Conv_4"]


def test_a_residual_sum_is_taken() -> None:
    assert chosen_nodes(model_of(*RESIDUAL).graph) == ["Conv_0", "Conv_1", "Add_2"]


def test_what_stands_before_the_first_product_is_left() -> None:
    nodes = (node("Add", ["x", "x"], ["t"]), node("MaxPool", ["t"], ["p"], kernel_shape=[2, 2]), *RESIDUAL[:0])
    assert chosen_nodes(model_of(*nodes, output="p").graph) == []


def test_a_model_without_products_cannot_be_quantised() -> None:
    with pytest.raises(ModelError, match="no product over constant weights"):
        quantise(model_of(node("Relu", ["x"], ["y"])), inputs(), Quantisation(), name="m")


def test_the_same_inputs_give_the_same_bytes() -> None:
    made = [serialise(quantise(model_of(*RESIDUAL), inputs(), Quantisation(), name="m")) for _ in range(2)]
    assert made[0] == made[1]


def test_a_quantised_model_holds_integers_and_says_which_operators_take_them() -> None:
    made = quantise(model_of(*SWISH), inputs(), Quantisation(), name="m")
    assert is_quantised(made) and not is_quantised(model_of(*SWISH))
    assert quantised_operators(made.graph) == {"Conv": 2}
    stored = [tensor for tensor in made.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims]
    assert {tuple(tensor.dims) for tensor in stored if len(tensor.dims) == 4} == {(4, 2, 1, 1), (4, 4, 1, 1)}


def test_power_of_two_scales_are_powers_of_two_around_nought() -> None:
    made = quantise(model_of(*SWISH), inputs(), Quantisation(scales="power_of_two"), name="m")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    steps = [each for each in made.graph.node if each.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(steps) >= 6
    for each in steps:
        assert all(math.log2(float(scale)).is_integer() for scale in tensors[each.input[1]].reshape(-1))
        assert len(each.input) < 3 or not tensors[each.input[2]].any()
    real = numpy_helper.to_array(next(t for t in model_of(*SWISH).graph.initializer if t.name == "w"))
    by_weights = next(each for each in steps if each.input[0] == "w_quantized")
    back = tensors["w_quantized"] * tensors[by_weights.input[1]].reshape(-1, 1, 1, 1)
    assert np.abs(back - real).max() <= np.abs(real).max() / 64


def test_a_model_without_data_is_refused() -> None:
    declaration: Any = Model.model_validate(ENTRY)
    job = Job(id="q", stage="quantize", key="0", parameters={}, inputs={}, output=None, root=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="calibrated from the model's own data, and it has none"):
        calibration_inputs(job, declaration, 8)
    with pytest.raises(ValueError, match="int8 beside float32 is calibrated from data"):
        Model.model_validate({**ENTRY, "variants": ["float32", "int8"]})


def test_the_key_depends_on_how_is_quantised_and_not_on_what_must_hold() -> None:
    def groups(**how: Any) -> Any:
        subject = Subject(
            pipeline=Pipeline(name="p", targets=("t",)), model=Model.model_validate({**ENTRY, "quantisation": how})
        )
        return quantize.needs(subject).parameters

    assert groups(calibration=8) != groups(calibration=9)
    assert groups(scales="power_of_two") != groups()
    assert groups(checks={"tolerance": 0.5}) == groups()


@pytest.mark.parametrize(("carry_from", "expected"), [("next", [1, 102, 204, 103]), (None, [1, 102, 102, 103])])
def test_a_quantised_model_is_fed_its_own_state_unless_it_shall_get_the_reference_s(
    tmp_path: Path, carry_from: str | None, expected: list[float]
) -> None:
    nodes = [node("Add", ["x", "state"], ["next"])]
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "state", "next")]
    graph = helper.make_graph(nodes, "sum", ports[:2], ports[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    reference = Reference(
        cases=tuple(Case(name=f"{k}", kind="data", continues=k == 2) for k in range(4)),
        inputs=(
            TensorFile(name="x", dtype="float32", shape=(1,), file="inputs/0.bin"),
            TensorFile(name="state", dtype="float32", shape=(1,), file="inputs/1.bin", carry_from=carry_from),
        ),
        outputs=(TensorFile(name="next", dtype="float32", shape=(1,), file="outputs/0.bin"),),
    )
    given = {
        "x": np.array([[1], [2], [102], [3]], np.float32),
        "state": np.array([[0], [100], [0], [100]], np.float32),
    }
    found = answers_of(Runtime(tmp_path / "m.onnx", model="m"), reference, given)
    assert [float(answer["next"][0]) for answer in found] == expected
