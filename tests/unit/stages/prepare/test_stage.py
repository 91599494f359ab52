"""The stage `prepare`: what its key depends on, and small ONNX models from files and wheels."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from crossfarm.config.models import Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.sources import FileSource, Package
from crossfarm.errors import ConfigError, ModelError
from crossfarm.stages.fetch.artifact import content_folder, write_description
from crossfarm.stages.job import Job
from crossfarm.stages.prepare import stage as prepare
from crossfarm.stages.protocol import Needs, Subject

PIPELINE = Pipeline(name="any", targets=("x86_64",))
DIGEST = "0" * 64
WHEEL = {"package": "thing==1.0", "sha256": DIGEST}


def _model(**changes: Any) -> Model:
    fields: dict[str, Any] = {
        "name": "net",
        "licence": "MIT",
        "source": {"file": "net.onnx"},
        "inputs": [{"name": "x", "shape": [1, 4]}],
    }
    return Model.model_validate({**fields, **changes})


def _needs(model: Model) -> Needs:
    return prepare.needs(Subject(pipeline=PIPELINE, model=model))


def _onnx(*, external: str | None = None) -> bytes:
    weights = onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    if external is not None:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=external)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _artifact(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    content_folder(folder).mkdir(exist_ok=True)
    write_description(folder, name=name, size=0, sha256="")
    return folder


def _prepare(model: Model, source: Path, output: Path) -> Path:
    output.mkdir()
    parameters = dict(_needs(model).parameters)
    job = Job(
        id="prepare:net",
        stage="prepare",
        key="0",
        parameters=parameters,
        inputs={"source": source},
        output=output,
        root=output,
    )
    prepare.run(job)
    return output


def test_the_key_follows_source_format_and_inputs_alone() -> None:
    base = _needs(_model()).parameters
    same = [
        _model(description="other", licence="Zlib", checks={"tolerance": 0.5}, seed=3, random_cases=5),
        _model(inputs=[{"name": "x", "shape": [1, 4], "layout": "NC", "range": [0, 9]}]),
    ]
    other = [
        _model(source={"file": "other.onnx"}),
        _model(format="tflite"),
        _model(inputs=[{"name": "x", "shape": [2, 4]}]),
        _model(inputs=[{"name": "x", "shape": [1, 4], "dtype": "int8"}]),
        _model(inputs=[{"name": "x", "shape": [1, 4]}, {"name": "s", "shape": [], "value": 3}]),
    ]
    assert [_needs(model).parameters == base for model in same] == [True, True]
    assert [_needs(model).parameters == base for model in other] == [False] * 5


def test_only_models_of_a_format_depend_on_its_tools() -> None:
    factory = {"factory": "net:build", "packages": [WHEEL]}
    assert list(_needs(_model()).parameters) == ["model net"]
    assert list(_needs(_model(format="tflite")).parameters) == ["model net", "tflite tools"]
    assert set(_needs(_model(format="torch", source=factory)).parameters["torch tools"]) == {"torch", "onnxscript"}


def test_a_wheel_is_fetched_once_whichever_file_is_wanted() -> None:
    inputs = [_needs(_model(source={**WHEEL, "path": path})).inputs for path in ("a.onnx", "b.onnx")]
    assert inputs[0] == inputs[1] == {"source": ("fetch", Package(package="thing==1.0", sha256=DIGEST))}


def test_a_factory_fetches_its_packages_and_its_weights() -> None:
    source = {"factory": "net.model:build", "packages": [WHEEL, WHEEL], "state": {**WHEEL, "path": "net.pth"}}
    roles = _needs(_model(format="torch", source=source)).inputs
    package = ("fetch", Package(package="thing==1.0", sha256=DIGEST))
    assert roles == {"package0": package, "package1": package, "state": package}


def test_a_factory_without_packages_is_a_module_beside_the_declaration() -> None:
    source = {"factory": "nets.model:build", "state": {"file": "net.pth"}}
    roles = _needs(_model(format="torch", source=source)).inputs
    assert roles == {
        "code": ("fetch", FileSource(file="nets/model.py")),
        "state": ("fetch", FileSource(file="net.pth")),
    }


def test_a_file_becomes_a_static_model_with_its_signature(tmp_path: Path) -> None:
    source = _artifact(tmp_path / "source", "net.onnx")
    (content_folder(source) / "net.onnx").write_bytes(_onnx())
    output = _prepare(_model(), source, tmp_path / "output")
    assert json.loads((output / "signature.json").read_text()) == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 4]}],
        "parameters": 4,
        "nodes": 1,
        "opset": 17,
    }
    assert sorted(path.name for path in output.iterdir()) == ["model.onnx", "signature.json"]


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    source = _artifact(tmp_path / "source", "net.onnx")
    (content_folder(source) / "net.onnx").write_bytes(_onnx())
    first, second = (_prepare(_model(), source, tmp_path / name) for name in ("first", "second"))
    for name in ("model.onnx", "signature.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_weights_beside_a_file_come_into_the_model(tmp_path: Path) -> None:
    source = _artifact(tmp_path / "source", "net.onnx")
    (content_folder(source) / "net.onnx").write_bytes(_onnx(external="net.onnx.data"))
    (content_folder(source) / "net.onnx.data").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    output = _prepare(_model(), source, tmp_path / "output")
    (weights,) = onnx.load(output / "model.onnx").graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weights), np.arange(4, dtype=np.float32))


def test_weights_beside_a_model_in_a_wheel_come_into_the_model(tmp_path: Path) -> None:
    source = _artifact(tmp_path / "source", "thing.whl")
    with zipfile.ZipFile(content_folder(source) / "thing.whl", "w") as wheel:
        wheel.writestr("thing/models/net.onnx", _onnx(external="net.bin"))
        wheel.writestr("thing/models/net.bin", np.arange(4, dtype=np.float32).tobytes())
    output = _prepare(_model(source={**WHEEL, "path": "thing/models/net.onnx"}), source, tmp_path / "output")
    assert json.loads((output / "signature.json").read_text())["parameters"] == 4


@pytest.mark.parametrize("location", ["../net.bin", "/etc/hostname", "missing.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    source = _artifact(tmp_path / "source", "net.onnx")
    (content_folder(source) / "net.onnx").write_bytes(_onnx(external=location))
    (tmp_path / "net.bin").write_bytes(bytes(16))
    with pytest.raises(ModelError, match="tensor 'w' is stored in"):
        _prepare(_model(), source, tmp_path / "output")
    assert list((tmp_path / "output").iterdir()) == []


def test_a_file_that_is_not_in_its_wheel_is_told(tmp_path: Path) -> None:
    source = _artifact(tmp_path / "source", "thing.whl")
    with zipfile.ZipFile(content_folder(source) / "thing.whl", "w") as wheel:
        wheel.writestr("thing/net.onnx", b"")
    with pytest.raises(ConfigError, match=r"perhaps you meant 'thing/net\.onnx'"):
        _prepare(_model(source={**WHEEL, "path": "thing/nett.onnx"}), source, tmp_path / "output")


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_a_file_of_another_format_is_refused(tmp_path: Path, form: str) -> None:
    source = _artifact(tmp_path / "source", "net.onnx")
    (content_folder(source) / "net.onnx").write_bytes(b"PK\x03\x04 something else entirely")
    with pytest.raises(ModelError, match="the file is not "):
        _prepare(_model(format=form), source, tmp_path / "output")
