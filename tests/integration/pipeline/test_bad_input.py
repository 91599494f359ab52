"""What users hand in wrongly, with the real command line: one line or row names the place; no traceback is shown."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tests.integration.pipeline.waiting import Farm

pytestmark = pytest.mark.integration


def _one_node(operator: str, *, outputs: tuple[str, ...] = ("y",), domain: str = "") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], list(outputs), name="the_odd_one", domain=domain)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 4])],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
    )
    graph.output[0].type.tensor_type.elem_type = TensorProto.INT64 if operator == "NonZero" else TensorProto.FLOAT
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8
    )


def _with_data_outside(model: onnx.ModelProto) -> onnx.ModelProto:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    return model


def _failed(farm: Farm) -> dict[str, Any]:
    (row,) = [record for record in farm.records() if record["state"] == "failed"]
    return dict(row)


def test_an_operator_that_tvm_cannot_import_is_named_with_its_node_in_every_report(
    farm: Farm, small_model: onnx.ModelProto
) -> None:
    farm.add("adder", small_model)
    farm.add("odd", _one_node("Inverse", domain="com.microsoft"))
    ended = farm.run()
    assert ended.code == 1, ended.output
    row = _failed(farm)
    assert (row["job"], row["fault"]) == ("compile:x86_64-odd-float32", "product")
    for text in (
        row["cause"],
        ended.output,
        (farm.out / "summary.md").read_text(),
        (farm.out / "junit.xml").read_text(),
    ):
        assert "Inverse" in text
        assert "the_odd_one" in text
    assert farm.states()["check:x86_64-adder-float32"] == "run"
    assert ET.parse(farm.out / "junit.xml").getroot().get("failures") == "1"  # noqa: S314


@pytest.mark.parametrize(
    ("model", "job", "words"),
    [
        (_one_node("NonZero"), "prepare:odd", ("NonZero (node 'the_odd_one'", "depends on the values")),
        (_one_node("Log"), "reference:odd", ("NaN or infinite", "output y")),
    ],
    ids=["open shape", "NaN"],
)
def test_a_model_that_cannot_be_used_is_a_row_that_says_why(
    farm: Farm, model: onnx.ModelProto, job: str, words: tuple[str, ...]
) -> None:
    farm.add("odd", model)
    ended = farm.run()
    assert ended.code == 1, ended.output
    row = _failed(farm)
    assert row["job"] == job
    for word in words:
        assert word in row["cause"]


def test_external_data_outside_its_folder_is_never_read(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", _with_data_outside(small_model))
    (farm.folder.parent / "secret.bin").write_bytes(bytes(32))
    try:
        ended = farm.run()
    finally:
        (farm.folder.parent / "secret.bin").unlink()
    assert ended.code == 1, ended.output
    assert _failed(farm)["job"] == "prepare:adder"
    assert "outside the model's folder" in _failed(farm)["cause"]


def test_a_file_that_is_not_the_pinned_one_is_a_row_with_both_digests(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    path = farm.folder / "models.yaml"
    path.write_text(path.read_text().replace("adder.onnx}", f"adder.onnx, sha256: {'a' * 64}}}"))
    ended = farm.run()
    assert ended.code == 1, ended.output
    assert "a" * 64 in _failed(farm)["cause"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            "licence:",
            "license:",
            "models.yaml:3: models[0].license: unknown key 'license'; perhaps you meant 'licence'",
        ),
        ("shape: [1, 8]", "shape: [1, eight]", "expected an integer, got 'eight'"),
        ("name: adder", "name: ../../x", "models.yaml:2: models[0].name: expected a name of small letters"),
        ("name: adder", "name: a;rm -rf b", "models.yaml:2: models[0].name: expected a name of small letters"),
        ("file: adder.onnx", "file: addr.onnx", "there is no file 'addr.onnx'"),
        ("file: adder.onnx", "file: ../adder.onnx", "may lead out of its folder"),
    ],
)
def test_a_wrong_declaration_is_exit_code_2_and_names_the_line(
    farm: Farm, small_model: onnx.ModelProto, before: str, after: str, words: str
) -> None:
    farm.add("adder", small_model)
    path = farm.folder / "models.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    ended = farm.run()
    assert ended.code == 2, ended.output
    assert words in ended.output
    assert not Path(farm.out).exists()


def test_two_models_of_one_name_are_told_with_both_lines(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    path = farm.folder / "models.yaml"
    path.write_text(path.read_text() + path.read_text().removeprefix("models:"))
    ended = farm.run()
    assert ended.code == 2, ended.output
    assert "models.yaml:7: models[1].name: the name 'adder' is taken on line 2" in ended.output
