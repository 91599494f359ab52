"""A detector runs to its boxes: from models.yaml through the real command line to a passing cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.store.store import Store
from tests.integration.pipeline.waiting import Farm

pytestmark = pytest.mark.integration

MOST = 20
ENTRY = """models:
  - name: detector
    licence: MIT
    source: {{file: detector.onnx}}
    inputs: [{{name: image, shape: [1, 3, 12, 12]}}]
    random_cases: 4{sizes}
"""


def detector() -> onnx.ModelProto:
    """Return convolutions to 36 boxes and the scores of 2 classes, then what is left of them by NonMaxSuppression."""
    generator = np.random.default_rng(5)
    weights = {
        "w": generator.standard_normal((8, 3, 3, 3)).astype(np.float32) * 0.3,
        "to_boxes": generator.standard_normal((4, 8, 1, 1)).astype(np.float32),
        "to_scores": generator.standard_normal((2, 8, 1, 1)).astype(np.float32),
        "boxes_shape": np.array([1, 36, 4]),
        "scores_shape": np.array([1, 2, 36]),
        "most": np.array([10]),
        "overlap": np.array([0.4], np.float32),
        "threshold": np.array([0.55], np.float32),
        "class_column": np.array(1),
        "box_column": np.array([2]),
        "one": np.array([1]),
        "nought": np.array([0]),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "to_boxes"], ["b4"], name="to_boxes"),
        helper.make_node("Conv", ["r", "to_scores"], ["s4"], name="to_scores"),
        helper.make_node("Transpose", ["b4"], ["bt"], name="boxes_last", perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["bt", "boxes_shape"], ["all_boxes"], name="boxes_flat"),
        helper.make_node("Reshape", ["s4", "scores_shape"], ["logits"], name="scores_flat"),
        helper.make_node("Sigmoid", ["logits"], ["all_scores"], name="sigmoid"),
        helper.make_node(
            "NonMaxSuppression", ["all_boxes", "all_scores", "most", "overlap", "threshold"], ["selected"], name="nms"
        ),
        helper.make_node("Gather", ["selected", "class_column"], ["classes"], name="classes", axis=1),
        helper.make_node("Gather", ["selected", "box_column"], ["column"], name="column", axis=1),
        helper.make_node("Squeeze", ["column", "one"], ["numbers"], name="numbers"),
        helper.make_node("Squeeze", ["all_boxes", "nought"], ["flat_boxes"], name="one_image"),
        helper.make_node("Gather", ["flat_boxes", "numbers"], ["boxes"], name="boxes", axis=0),
        helper.make_node("GatherND", ["all_scores", "selected"], ["scores"], name="scores"),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["k", 4]),
            helper.make_tensor_value_info("classes", TensorProto.INT64, ["k"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["k"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _artifact(farm: Farm, job: str) -> dict[str, Path]:
    """Return the files of what a job of the last run made."""
    (record,) = [record for record in farm.records() if record["job"] == job]
    store = Store(farm.store)
    artifact = store.read(record["key"])
    assert artifact is not None
    return {file.path: store.file_path(artifact, file.path) for file in artifact.files}


def _stacked(files: dict[str, Path], port: dict[str, Any], cases: int) -> np.ndarray[Any, Any]:
    return np.fromfile(files[port["file"]], port["dtype"]).reshape(cases, *port["shape"])


def test_boxes_scores_and_classes_are_those_of_onnx_runtime(farm: Farm) -> None:
    (farm.folder / "detector.onnx").write_bytes(detector().SerializeToString())
    (farm.folder / "models.yaml").write_text(ENTRY.format(sizes=f"\n    sizes: {{selected: {MOST}}}"))
    ended = farm.run()
    assert ended.code == 0, ended.output
    assert farm.states()["check:x86_64-detector-float32"] == "run"
    reference = _artifact(farm, "reference:detector")
    described = json.loads(reference["reference.json"].read_text())
    measured = _artifact(farm, "measure:x86_64-detector-float32")
    ports, cases = described["outputs"], len(described["cases"])
    assert [port["name"] for port in ports] == [
        *("boxes", "classes", "scores"),
        *("boxes.count", "classes.count", "scores.count"),
    ]
    images = _stacked(reference, described["inputs"][0], cases)
    session = onnxruntime.InferenceSession(detector().SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = {port["name"]: _stacked(measured, port, cases) for port in ports}
    counts = set()
    for case, image in enumerate(images):
        for name, true in zip(("boxes", "classes", "scores"), session.run(None, {"image": image}), strict=True):
            count = int(outputs[f"{name}.count"][case])
            assert count == len(true)
            kept = min(count, MOST)
            np.testing.assert_allclose(outputs[name][case][:kept], true[:kept], rtol=1e-4, atol=1e-5)
            assert not outputs[name][case][kept:].any()
            counts.add(count)
    assert max(counts) > 0


def test_without_sizes_the_message_shows_what_to_write(farm: Farm) -> None:
    (farm.folder / "detector.onnx").write_bytes(detector().SerializeToString())
    (farm.folder / "models.yaml").write_text(ENTRY.format(sizes=""))
    ended = farm.run()
    assert ended.code == 1, ended.output
    (row,) = [record for record in farm.records() if record["state"] == "failed"]
    assert row["job"] == "prepare:detector"
    for words in ("operator NonMaxSuppression (node 'nms', number", "it can be 20 at most", "sizes: {selected: 20}"):
        assert words in row["cause"], row["cause"]
    assert f"models.yaml:{row['line']}: tensor 'selected'" in ended.output
    shown = farm.run("--model", "detector", task="inspect")
    assert shown.code == 1, shown.output
    assert "sizes: {selected: 20}" in shown.output
    (farm.folder / "models.yaml").write_text(ENTRY.format(sizes="\n    sizes: {selectd: 20}"))
    ended = farm.run()
    assert "no tensor of the model; perhaps you meant 'selected'" in ended.output, ended.output


def test_a_file_is_inspected_before_it_is_declared(farm: Farm) -> None:
    path = farm.folder / "detector.onnx"
    path.write_bytes(detector().SerializeToString())
    shown = farm.run("--model", str(path), task="inspect")
    assert shown.code == 1, shown.output
    assert "operator NonMaxSuppression (node 'nms', number" in shown.output
    assert '- {name: "image", shape: [1, 3, 12, 12]}' in shown.output
