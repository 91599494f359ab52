"""Stage `reference`: what ONNX Runtime answers on seeded random inputs and on the real data of a model."""

from __future__ import annotations

from typing import Any

from crossfarm.config.decoding import Classify
from crossfarm.config.models import RenderedText
from crossfarm.config.samples import Tokens
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.stages.fetch.artifact import fetch_source
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=1,
    scope="model",
    sources=(
        "crossfarm/stages/reference/",
        "crossfarm/stages/data/",
        "crossfarm/stages/fetch/",
        "crossfarm/stages/prepare/onnx_session.py",
    ),
    tools=("numpy", "onnxruntime", "pillow"),
    opens_models=True,
    preload=("onnx", "onnxruntime", "numpy", "PIL.Image"),
    usual_seconds=3.0,
)

FIELDS = frozenset({"name", "inputs", "preprocess", "data", "decode", "seed", "random_cases"})
"""What of a model shapes its reference."""


def needs(subject: Subject) -> Needs:
    """Depend on the prepared model, on its data sets and on where the names of its classes stand."""
    model = subject.model
    if model is None:
        raise ValueError("the stage `reference` is about a model")
    parameters: dict[str, Any] = {
        f"model {model.name}": model.model_dump(mode="json", include=set(FIELDS)),
        "measure": {"data_limit": subject.pipeline.measure.data_limit},
    }
    inputs: dict[str, tuple[str, FileSource | UrlSource | Package | None]] = {"prepare": ("prepare", None)}
    for dataset in subject.datasets:
        if dataset.name in model.data:
            parameters[f"dataset {dataset.name}"] = dataset.model_dump(mode="json")
            if not isinstance(dataset, RenderedText | Tokens):
                inputs[f"dataset {dataset.name}"] = ("fetch", fetch_source(dataset.source))
    classes = model.decode.classes if isinstance(model.decode, Classify) else None
    if classes is not None and classes.source is not None:
        inputs["classes"] = ("fetch", fetch_source(classes.source))
    return Needs(parameters=parameters, inputs=inputs)


def run(job: Job) -> None:
    """Write reference.json, inputs/K.bin and outputs/K.bin."""
    from crossfarm.stages.reference.answers import write_reference

    write_reference(job)
