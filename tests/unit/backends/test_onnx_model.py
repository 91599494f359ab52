"""What backends read of a prepared model: types, refusals, and an identity over all that they made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.backends.onnx_model import describe, read_model, value_types
from crossfarm.bundles.compile_report import PortType
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, UnfitError

CELL = Cell(model="small", target="toy", variant="float32")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """y = relu(x · w)."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"], name="first"), helper.make_node("Relu", ["m"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(np.ones((8, 4), np.float32), "w")],
    )
    file = tmp_path / "model.onnx"
    file.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return file


def test_a_model_is_described_with_its_types_and_operators(path: Path) -> None:
    model = read_model(path, cell=CELL, operators=("MatMul", "Relu"))
    report = describe(model, cell=CELL, made=[b"code"], tools=("onnx",))
    assert report.inputs == (PortType(name="x", dtype="float32", shape=(2, 8)),)
    assert report.outputs == (PortType(name="y", dtype="float32", shape=(2, 4)),)
    assert report.operators == {"MatMul": 1, "Relu": 1}
    assert (report.model, report.target, report.variant) == ("small", "toy", "float32")
    assert value_types(model.graph.value_info) == (PortType(name="m", dtype="float32", shape=(2, 4)),)


def test_an_identity_differs_with_the_cell_and_with_every_part_that_was_made(path: Path) -> None:
    model = read_model(path, cell=CELL, operators=("MatMul", "Relu"))
    other = Cell(model="small", target="toy2", variant="float32")
    made = [(CELL, [b"ab", b"c"]), (CELL, [b"a", b"bc"]), (CELL, [b"ab"]), (other, [b"ab", b"c"])]
    assert len({describe(model, cell=cell, made=parts, tools=()).identity for cell, parts in made}) == len(made)


@pytest.mark.parametrize(
    ("operators", "told"), [(("Relu",), "operator MatMul of node 'first'"), (("MatMul",), "operator Relu of node 'y'")]
)
def test_an_operator_that_a_backend_has_not_is_told_with_its_node(
    path: Path, operators: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UnfitError, match=f"^toy-small-float32: {told}"):
        read_model(path, cell=CELL, operators=operators)


def test_what_is_no_model_is_told(path: Path) -> None:
    path.write_bytes(b"\xff\xff")
    with pytest.raises(ModelError, match=r"model\.onnx is no valid ONNX model"):
        read_model(path, cell=CELL, operators=())
