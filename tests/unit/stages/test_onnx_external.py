"""Tensors outside an ONNX file: read from beside it, and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from crossfarm.errors import ModelError
from crossfarm.stages.onnx_external import inline_external_data, no_external_data, read_from_folder

WEIGHTS = np.arange(6, dtype=np.float32)


def _model(location: str, **place: int) -> onnx.ModelProto:
    tensor = onnx.numpy_helper.from_array(WEIGHTS, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6])],
        initializer=[tensor],
    )
    return helper.make_model(graph)


def test_data_beside_the_model_comes_into_it(tmp_path: Path) -> None:
    (tmp_path / "net.onnx.data").write_bytes(b"head" + WEIGHTS.tobytes() + b"tail")
    model = _model("net.onnx.data", offset=4, length=24)
    inline_external_data(model, read_from_folder(tmp_path))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), WEIGHTS)
    assert not model.graph.initializer[0].external_data


def test_data_without_a_place_is_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    model = _model("w.bin")
    inline_external_data(model, read_from_folder(tmp_path))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), WEIGHTS)


def test_data_of_a_constant_inside_a_branch_is_found(tmp_path: Path) -> None:
    model = _model("w.bin")
    tensor = model.graph.initializer.pop()
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch))
    with pytest.raises(ModelError, match=r"'w\.bin', which is not there"):
        inline_external_data(model, read_from_folder(tmp_path))


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:/secret", "", "a/../../../etc/passwd"]
)
def test_a_location_outside_the_folder_is_refused_before_anything_is_read(location: str) -> None:
    def read(path: object) -> bytes:
        raise AssertionError(f"{path} was read")

    with pytest.raises(ModelError, match=r"tensor 'w' is stored in .* outside the model's folder"):
        inline_external_data(_model(location), read)


def test_a_link_out_of_the_folder_counts_as_missing(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    (folder / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="which is not there"):
        inline_external_data(_model("w.bin"), read_from_folder(folder))


def test_missing_data_is_told_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"which is not there; put the file beside the model .* with \.data appended"):
        inline_external_data(_model("w.bin"), no_external_data)


@pytest.mark.parametrize(
    "place", [{"offset": 0, "length": 25}, {"offset": 20, "length": 8}, {"offset": -4, "length": 4}, {"offset": 40}]
)
def test_a_place_outside_the_file_is_refused(tmp_path: Path, place: dict[str, int]) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(ModelError, match="truncated or belongs to another model"):
        inline_external_data(_model("w.bin", **place), read_from_folder(tmp_path))
