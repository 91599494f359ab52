"""A model of a newer opset is written as opset 11, and what that cannot say is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.backends.mera.opset import older, require_equal
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, UnfitError

CELL = Cell(model="m", target="mera_f200", variant="float32")
node = helper.make_node


def model_of(*nodes: onnx.NodeProto, opset: int, constants: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """Return a model from x [1, 4, 6] to y."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def inputs() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((1, 4, 6)).astype(np.float32)}


AXES = {"axes": np.array([1, -1])}
MOVED = [
    pytest.param((node("ReduceMean", ["x", "axes"], ["y"], noop_with_empty_axes=0),), AXES, id="ReduceMean"),
    pytest.param((node("ReduceSum", ["x", "axes"], ["y"], keepdims=0),), AXES, id="ReduceSum"),
    pytest.param((node("Unsqueeze", ["x", "axes"], ["y"]),), {"axes": np.array([0])}, id="Unsqueeze"),
    pytest.param((node("Squeeze", ["x", "axes"], ["y"]),), {"axes": np.array([0])}, id="Squeeze"),
    pytest.param((node("Reshape", ["x", "to"], ["y"], allowzero=0),), {"to": np.array([4, 6])}, id="Reshape"),
    pytest.param((node("Reshape", ["x", "to"], ["y"], allowzero=1),), {"to": np.array([4, 6])}, id="allowzero"),
    pytest.param(
        (node("Split", ["x", "parts"], ["a", "b"], axis=2), node("Sub", ["a", "b"], ["y"])),
        {"parts": np.array([3, 3])},
        id="Split",
    ),
]


@pytest.mark.parametrize(("nodes", "constants"), MOVED)
def test_what_moved_to_an_input_moves_back_and_answers_the_same(
    nodes: tuple[onnx.NodeProto, ...], constants: dict[str, np.ndarray]
) -> None:
    model = model_of(*nodes, opset=18, constants=constants)
    before = model.SerializeToString()
    made = older(model, cell=CELL)
    assert made.opset_import[0].version == 11 and made.ir_version <= 7
    assert not {"axes", "parts"} & {tensor.name for tensor in made.graph.initializer}
    require_equal(model, made, inputs(), cell=CELL)
    assert model.SerializeToString() == before, "the model that was given stays as it is"


@pytest.mark.parametrize("opset", [10, 11, 12])
def test_an_opset_that_mera_reads_stays(opset: int) -> None:
    assert older(model_of(node("Relu", ["x"], ["y"]), opset=opset), cell=CELL).opset_import[0].version == opset


def test_an_operator_that_opset_11_has_not_is_refused() -> None:
    model = model_of(node("HardSwish", ["x"], ["y"]), opset=17)
    with pytest.raises(UnfitError, match=r"mera_f200-m-float32: .*opset 17 cannot be said in that: .*HardSwish"):
        older(model, cell=CELL)


def test_axes_that_are_computed_are_refused_with_operator_and_node() -> None:
    nodes = (
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "zero", "one"], ["axes"]),
        node("ReduceMean", ["x", "axes"], ["y"], name="mean"),
    )
    model = model_of(*nodes, opset=18, constants={"zero": np.array([0]), "one": np.array([1])})
    with pytest.raises(UnfitError, match=r"operator ReduceMean of node 'mean' .* its axes are computed"):
        older(model, cell=CELL)


def test_an_attribute_that_opset_11_cannot_mean_is_refused() -> None:
    model = model_of(node("Reshape", ["x", "to"], ["y"], allowzero=1), opset=18, constants={"to": np.array([0, 6])})
    with pytest.raises(UnfitError, match="its allowzero is 1"):
        older(model, cell=CELL)


def test_a_model_that_answers_otherwise_afterwards_is_refused() -> None:
    # Up to opset 12, Softmax is over all axes from this one on.
    model = model_of(node("Softmax", ["x"], ["y"], axis=1), opset=18)
    made = older(model, cell=CELL)
    with pytest.raises(ModelError, match="opset 18 answers otherwise in ONNX Runtime; export it with opset 11"):
        require_equal(model, made, inputs(), cell=CELL)
