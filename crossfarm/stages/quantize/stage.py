"""Stage `quantize`: a float32 model becomes int8, or one that is quantised already stays as it is."""

from __future__ import annotations

from typing import Any

from crossfarm.config.models import RenderedText
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.stages.fetch.artifact import fetch_source
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=2,
    scope="model",
    sources=(
        "crossfarm/stages/quantize/",
        "crossfarm/stages/reference/",
        "crossfarm/stages/data/",
        "crossfarm/stages/prepare/",
        "crossfarm/stages/fetch/",
    ),
    tools=("numpy", "onnx", "onnxruntime", "pillow"),
    variants=("int8",),
    opens_models=True,
    preload=("onnxruntime.quantization", "PIL.Image"),
    usual_seconds=10.0,
)

FIELDS = frozenset({"name", "inputs", "preprocess", "data", "decode", "seed"})
"""What of a model shapes its inputs."""


def needs(subject: Subject) -> Needs:
    """Depend on the prepared model, on its data sets, on the cases of the reference and on how it is quantised."""
    model = subject.model
    if model is None:
        raise ValueError("the stage `quantize` is about a model")
    parameters: dict[str, Any] = {
        f"model {model.name}": model.model_dump(mode="json", include=set(FIELDS)),
        "quantisation": model.quantisation.model_dump(mode="json", exclude={"checks"}),
    }
    inputs: dict[str, tuple[str, FileSource | UrlSource | Package | None]] = {
        "prepare": ("prepare", None),
        "reference": ("reference", None),
    }
    for dataset in subject.datasets:
        if dataset.name in model.data:
            parameters[f"dataset {dataset.name}"] = dataset.model_dump(mode="json")
            if not isinstance(dataset, RenderedText):
                inputs[f"dataset {dataset.name}"] = ("fetch", fetch_source(dataset.source))
    return Needs(parameters=parameters, inputs=inputs)


def run(job: Job) -> None:
    """Write model.onnx, quantisation.json, and outputs/K.bin: what it answers in ONNX Runtime on the reference's cases.

    Raises:
        ConfigError: there is no data to calibrate from.
        ModelError: ONNX Runtime cannot quantise or run the model.
    """
    from crossfarm.stages.quantize.quantise import write_quantised

    write_quantised(job)
