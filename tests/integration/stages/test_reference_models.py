"""Every model of models.yaml gives right answers in ONNX Runtime: source, preprocessing and decoding fit together."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

from crossfarm.config.decoding import Boxes, Classify, CtcText, Detect
from crossfarm.config.loading import load_models
from crossfarm.config.models import Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.sources import FileSource
from crossfarm.stages.check.boxes import average_precision, found_boxes
from crossfarm.stages.check.decoding import ctc_text, decisions, top_classes
from crossfarm.stages.data.tensors import Array, read_stacked
from crossfarm.stages.fetch import stage as fetch
from crossfarm.stages.job import Job
from crossfarm.stages.prepare import stage as prepare
from crossfarm.stages.protocol import Needs, Subject
from crossfarm.stages.reference import stage as reference
from crossfarm.stages.reference.artifact import Reference
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

DECLARED = load_models(HOME / "models.yaml")
MODELS = {model.name: model for model in DECLARED.models}
RIGHT = {
    "silero_vad": (385, 400),
    "ppocr_cls": (12, 12),
    "ppocr_rec": (8, 8),
    "pplcnet_orientation": (4, 4),
    "opennsfw_resnet50_thin": (4, 4),
    "digits_cnn": (145, 150),
    "mnist_cnn": (99, 100),
    "efficientnet_lite0": (18, 20),
    "resnet8": (18, 20),
    "mobilenet_v2": (17, 20),
    "magika": (64, 65),
}
"""Model -> at least so many right answers of so many labelled cases."""
PIPELINE = Pipeline.model_validate({"name": "test", "targets": ["x86_64"]})


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ModuleType, Subject], Path]:
    """Return a function that gives the folder of a stage's artifact, made once with everything that it needs."""
    store = tmp_path_factory.mktemp("artifacts")

    def make(stage: ModuleType, subject: Subject) -> Path:
        needs: Needs = stage.needs(subject)
        inputs = {}
        for role, (name, source) in needs.inputs.items():
            wanted = fetch if name == "fetch" else prepare
            inputs[role] = make(wanted, Subject(pipeline=PIPELINE, source=source) if source is not None else subject)
        parameters = json.loads(json.dumps(needs.parameters))
        if isinstance(subject.source, FileSource):
            parameters["content"] = fetch.content_digest(fetch.local_path(subject.source, root=HOME))
        digest = hashlib.sha256(f"{stage.__name__} {json.dumps(parameters, sort_keys=True)}".encode()).hexdigest()
        folder = store / digest
        if not folder.exists():
            work = store / f"{digest}.new"
            work.mkdir()
            job = Job(
                id=stage.__name__,
                stage=stage.__name__,
                key=digest,
                parameters=parameters,
                inputs=inputs,
                output=work,
                root=HOME,
            )
            stage.run(job)
            work.rename(folder)
        return folder

    return make


def _subject(model: Model) -> Subject:
    if model.format != "onnx" and importlib.util.find_spec(model.format) is None:
        pytest.skip(f"{model.format} is not installed")
    return Subject(pipeline=PIPELINE, model=model, datasets=DECLARED.datasets)


def _is_right(model: Model, scores: Array, label: int | str, characters: tuple[str, ...]) -> bool:
    match model.decode:
        case CtcText():
            return ctc_text(scores, characters) == label
        case Detect(threshold=threshold):
            return decisions(scores, threshold) == [label]
        case Classify(labels=labels) if isinstance(label, int):
            return top_classes(scores, 1) == [label if labels is None else labels[label]]
    return False


def test_every_model_that_has_data_is_tried_on_it() -> None:
    scored = {name for name, model in MODELS.items() if isinstance(model.decode, Classify | CtcText | Detect)}
    assert set(RIGHT) == {name for name in scored if MODELS[name].data}


@pytest.mark.parametrize("name", RIGHT)
def test_the_reference_gives_right_answers(name: str, artifact: Callable[[ModuleType, Subject], Path]) -> None:
    model = MODELS[name]
    folder = artifact(reference, _subject(model))
    found = Reference.read(folder)
    port = found.outputs[0]
    scores = read_stacked(folder / port.file, dtype=port.dtype, shape=port.shape, cases=len(found.cases))
    answers = [
        _is_right(model, scores[number], case.label, found.characters or ())
        for number, case in enumerate(found.cases)
        if case.label is not None
    ]
    at_least, count = RIGHT[name]
    assert len(answers) == count
    assert sum(answers) >= at_least
    assert [case.kind for case in found.cases[: model.random_cases]] == ["random"] * model.random_cases


@pytest.mark.parametrize("name", ["face_detection", "ppocr_det"])
def test_the_reference_finds_the_labelled_things(name: str, artifact: Callable[[ModuleType, Subject], Path]) -> None:
    decode = MODELS[name].decode
    assert isinstance(decode, Boxes)
    folder = artifact(reference, _subject(MODELS[name]))
    found = Reference.read(folder)
    outputs = {
        port.name: read_stacked(folder / port.file, dtype=port.dtype, shape=port.shape, cases=len(found.cases))
        for port in found.outputs
    }
    shape = found.inputs[0].shape
    height, width = shape[2:] if shape[1] == 3 else shape[1:3]
    labelled = [number for number, case in enumerate(found.cases) if case.boxes is not None]
    boxes = [
        found_boxes({port: each[number] for port, each in outputs.items()}, decode, height=height, width=width)
        for number in labelled
    ]
    labels = [found.cases[number].boxes or () for number in labelled]
    assert len(labelled) == 2
    assert sum(map(len, labels)) == {"face_detection": 2, "ppocr_det": 5}[name]
    assert average_precision(boxes, labels) == 1.0


def _multiplies_bytes_exactly() -> bool:
    """Say whether this processor has instructions that add products of bytes in 32 bits."""
    if platform.machine() != "x86_64":
        return True
    words = set(Path("/proc/cpuinfo").read_text().split())
    return bool(words & {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})


def test_optimised_kernels_change_floats_little_and_a_quantised_graph_by_a_step(
    artifact: Callable[[ModuleType, Subject], Path],
) -> None:
    """This is why the reference runs without graph optimisations: fused integer kernels round otherwise."""
    differences = {}
    for name in ("ppocr_cls", "resnet8"):
        subject = _subject(MODELS[name])
        folder, model = artifact(reference, subject), artifact(prepare, subject) / "model.onnx"
        found = Reference.read(folder)
        port, answer = found.inputs[0], found.outputs[0]
        inputs = read_stacked(folder / port.file, dtype=port.dtype, shape=port.shape, cases=len(found.cases))
        plain = read_stacked(folder / answer.file, dtype=answer.dtype, shape=answer.shape, cases=len(found.cases))
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        optimised = np.stack([session.run([answer.name], {port.name: each})[0] for each in inputs])
        differences[name] = float(np.max(np.abs(optimised - plain)) / np.max(np.abs(plain)))
    assert differences["ppocr_cls"] < 1e-5
    # Without such instructions ONNX Runtime adds pairs of 8-bit products in 16 bits, where they stay at the bounds; see
    # "U8S8" in its document on quantisation.
    assert differences["resnet8"] <= (2 / 255 if _multiplies_bytes_exactly() else 0.25)
