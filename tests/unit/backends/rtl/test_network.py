"""What NNgen is handed: nothing that it would misread, in the form that it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from crossfarm.backends.rtl.network import estimated_cycles, refuse, write_for_nngen
from crossfarm.config.cell import Cell
from crossfarm.errors import UnfitError
from crossfarm.util.paths import HOME
from tests.unit.backends.rtl import networks

CELL = Cell(model="m", target="rtl_int8", variant="float32")
DIGITS = HOME / "models" / "digits_cnn" / "digits_cnn.onnx"


def _answers(model: onnx.ModelProto) -> np.ndarray:
    x = np.random.default_rng(3).normal(size=networks.SHAPE).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"group": 2}, r"Conv 'conv' has group 2"),
        ({"dilations": [2, 2]}, r"has dilations \[2, 2\]"),
        ({"auto_pad": "SAME_LOWER"}, "has auto_pad SAME_LOWER, but NNgen reads none and takes NOTSET for granted"),
    ],
)
def test_an_attribute_that_nngen_does_not_read_is_refused(attributes: dict[str, object], words: str) -> None:
    with pytest.raises(UnfitError, match=words):
        refuse(networks.convolution(**attributes), cell=CELL, width=8)


def test_attributes_that_say_what_nngen_takes_for_granted_are_good() -> None:
    refuse(networks.convolution(group=1, dilations=[1, 1], auto_pad="NOTSET"), cell=CELL, width=8)


def test_sums_of_two_activations_take_16_bits() -> None:
    with pytest.raises(UnfitError, match=r"Add 'sum' adds two activations.*rtl_int16"):
        refuse(networks.residual(), cell=CELL, width=8)
    refuse(networks.residual(), cell=CELL, width=16)


def test_a_sum_with_a_constant_is_none_of_two_activations() -> None:
    model = networks.network([helper.make_node("Add", ["x", "one"], ["y"], name="sum")], {"one": np.ones(1)})
    refuse(model, cell=CELL, width=8)


def test_more_than_one_case_at_once_is_refused() -> None:
    model = networks.network([helper.make_node("Relu", ["x"], ["y"])], {}, shape=[2, 3])
    with pytest.raises(UnfitError, match="x is no float32 tensor of one case"):
        refuse(model, cell=CELL, width=8)


def test_weights_that_are_computed_are_refused() -> None:
    nodes = [helper.make_node("Relu", ["w"], ["v"]), helper.make_node("Conv", ["x", "v"], ["y"], name="conv")]
    model = networks.network(nodes, {"w": np.ones((4, 4, 1, 1))})
    with pytest.raises(UnfitError, match="Conv 'conv' has weights that are no constants"):
        refuse(model, cell=CELL, width=8)


@pytest.mark.parametrize(
    "model",
    [networks.dense(turned=False), networks.dense(turned=True), networks.convolution(auto_pad="NOTSET", group=1)],
    ids=["dense", "dense turned", "convolution"],
)
def test_what_nngen_gets_answers_as_the_model_does(model: onnx.ModelProto, tmp_path: Path) -> None:
    write_for_nngen(model, tmp_path / "core.onnx")
    written = onnx.load(tmp_path / "core.onnx")
    onnx.checker.check_model(written)
    assert np.array_equal(_answers(written), _answers(model))


def test_nngen_finds_every_attribute_that_it_needs_and_none_that_it_misreads(tmp_path: Path) -> None:
    flat = networks.dense(turned=False)
    del flat.graph.node[0].attribute[:]
    for number, model in enumerate((networks.convolution(auto_pad="NOTSET"), flat)):
        write_for_nngen(model, tmp_path / f"{number}.onnx")
    convolution = onnx.load(tmp_path / "0.onnx").graph.node[0]
    assert [attribute.name for attribute in convolution.attribute] == ["pads", "strides"]
    written = onnx.load(tmp_path / "1.onnx").graph
    assert [[attribute.name for attribute in node.attribute] for node in written.node] == [["axis"], ["transB"]]
    assert {tensor.name for tensor in written.initializer} == {"y.weights_turned", "b"}


@pytest.mark.parametrize(("parallelism", "simulated"), [(1, 5813), (4, 2489)])
def test_the_digits_cnn_is_estimated_near_to_what_its_core_takes(parallelism: int, simulated: int) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(DIGITS))
    refuse(model, cell=CELL, width=8)
    cycles = estimated_cycles(model, width=8, parallelism=parallelism, bus=32)
    assert 0.8 < cycles / simulated < 1.25


def test_more_channels_at_once_and_a_wider_bus_take_fewer_cycles() -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(DIGITS))
    narrow = estimated_cycles(model, width=16, parallelism=1, bus=32)
    wide = estimated_cycles(model, width=16, parallelism=4, bus=32)
    wider = estimated_cycles(model, width=16, parallelism=4, bus=64)
    assert narrow > wide > wider


def test_a_large_net_is_estimated_by_its_multiplications() -> None:
    weights = np.zeros((512, 512, 3, 3), np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    model = networks.network(nodes, {"w": weights}, shape=[1, 512, 56, 56])
    assert estimated_cycles(model, width=8, parallelism=1, bus=32) > 56 * 56 * 512 * 512
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
