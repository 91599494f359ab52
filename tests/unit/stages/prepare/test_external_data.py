"""Tensors outside an ONNX file: read from beside it, and from nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.external_data import inline_external_data, no_external_data, read_from_folder

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
    "location",
    ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:/secret", "", "a/../../../etc/passwd", "a\0b"],
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


def _shortest_to_tensor(kind: Any) -> tuple[str, ...] | None:
    """Return the fields that lead from a kind of message to a tensor; None when none do."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), kind)]
    seen = set()
    while waiting:
        path, kind = waiting.pop(0)
        if kind.full_name == onnx.TensorProto.DESCRIPTOR.full_name:
            return path
        if kind.full_name not in seen:
            seen.add(kind.full_name)
            waiting += [((*path, field.name), field.message_type) for field in kind.fields if field.message_type]
    return None


def _paths_to_tensors() -> list[tuple[str, ...]]:
    """Return fields that lead from a model to a tensor: one path through each field through which any leads."""
    found: list[tuple[str, ...]] = []
    seen = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), onnx.ModelProto.DESCRIPTOR)]
    while waiting:
        path, kind = waiting.pop(0)
        if kind.full_name in seen or kind.full_name == onnx.TensorProto.DESCRIPTOR.full_name:
            continue
        seen.add(kind.full_name)
        for field in kind.fields:
            rest = _shortest_to_tensor(field.message_type) if field.message_type else None
            if rest is not None:
                found.append((*path, field.name, *rest))
                waiting.append(((*path, field.name), field.message_type))
    return found


PATHS = _paths_to_tensors()


def _model_with_tensor_at(path: Sequence[str], location: str) -> tuple[onnx.ModelProto, onnx.TensorProto]:
    model = onnx.ModelProto()
    message: Any = model
    for name in path:
        value = getattr(message, name)
        message = value.add() if hasattr(value, "add") else value
    message.name = "w"
    message.data_location = TensorProto.EXTERNAL
    message.external_data.add(key="location", value=location)
    return model, message


def test_the_format_has_tensors_in_more_places_than_graphs() -> None:
    shown = {".".join(path) for path in PATHS}
    assert {"graph.initializer", "graph.sparse_initializer.values", "functions.node.attribute.t"} <= shown
    assert any("sparse_tensor.values" in path for path in shown)
    assert any(path.startswith("training_info") for path in shown)


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_a_tensor_is_found_wherever_the_format_has_one(path: Sequence[str], tmp_path: Path) -> None:
    model, _ = _model_with_tensor_at(path, "../secret")
    with pytest.raises(ModelError, match="outside the model's folder"):
        inline_external_data(model, read_from_folder(tmp_path))
    (tmp_path / "w.bin").write_bytes(b"data")
    model, tensor = _model_with_tensor_at(path, "w.bin")
    inline_external_data(model, read_from_folder(tmp_path))
    assert (tensor.raw_data, len(tensor.external_data), tensor.data_location) == (b"data", 0, TensorProto.DEFAULT)


@pytest.mark.parametrize("holder", ["functions.node.attribute", "training_info.algorithm.node.attribute"])
@pytest.mark.parametrize("inner", ["sparse_tensor.values", "sparse_tensors.indices", "g.node.attribute.tensors", "t"])
def test_tensors_of_functions_and_training_are_found_in_every_kind_of_attribute(holder: str, inner: str) -> None:
    model, _ = _model_with_tensor_at(f"{holder}.{inner}".split("."), "/etc/passwd")
    with pytest.raises(ModelError, match="outside the model's folder"):
        inline_external_data(model, no_external_data)


def test_a_deep_nest_of_graphs_is_walked() -> None:
    model, _ = _model_with_tensor_at(["graph", *["node", "attribute", "g"] * 300, "initializer"], "/etc/passwd")
    with pytest.raises(ModelError, match="outside the model's folder"):
        inline_external_data(model, no_external_data)


def test_one_file_that_many_tensors_take_whole_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossfarm.stages.prepare.external_data.MODEL_LIMIT", 1000)
    (tmp_path / "w.bin").write_bytes(bytes(300))
    model = onnx.ModelProto()
    for _ in range(4):
        model.graph.initializer.append(_model_with_tensor_at(["graph", "initializer"], "w.bin")[1])
    with pytest.raises(ModelError, match="more than 1000 bytes"):
        inline_external_data(model, read_from_folder(tmp_path))


@pytest.mark.parametrize("location", ["n" * 300, "a/" * 3000 + "b", "\u0085x"])
def test_a_location_that_no_disk_has_is_a_file_that_is_not_there(location: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="which is not there"):
        inline_external_data(_model(location), read_from_folder(tmp_path))


def test_a_link_that_goes_round_in_a_circle_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "w.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ModelError, match="which is not there"):
        inline_external_data(_model("w.bin"), read_from_folder(tmp_path))
