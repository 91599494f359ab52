"""Stage `quantize`: a float32 model becomes int8, or one that is quantised already stays as it is."""

from __future__ import annotations

from typing import Any

from crossfarm.job import Job
from crossfarm.spec.models import RenderedText
from crossfarm.spec.sources import FileSource, Package, UrlSource
from crossfarm.stages.fetched import fetch_source
from crossfarm.stages.protocol import Needs, Scope, Subject

VERSION = 2
SCOPE: Scope = "model"
SOURCES = (
    "crossfarm/scratch.py",
    "crossfarm/stages/archives.py",
    "crossfarm/stages/dataset_audio.py",
    "crossfarm/stages/datasets.py",
    "crossfarm/stages/fetch_file.py",
    "crossfarm/stages/fetched.py",
    "crossfarm/stages/onnx_external.py",
    "crossfarm/stages/onnx_growth.py",
    "crossfarm/stages/onnx_session.py",
    "crossfarm/stages/preprocessing.py",
    "crossfarm/stages/quantize.py",
    "crossfarm/stages/quantize_file.py",
    "crossfarm/stages/quantize_graph.py",
    "crossfarm/stages/quantize_layers.py",
    "crossfarm/stages/quantize_run.py",
    "crossfarm/stages/quantize_scales.py",
    "crossfarm/stages/reference_cases.py",
    "crossfarm/stages/reference_file.py",
    "crossfarm/stages/reference_run.py",
    "crossfarm/stages/static_onnx.py",
    "crossfarm/stages/tensors.py",
    "crossfarm/text.py",
)
TOOLS = ("numpy", "onnx", "onnxruntime", "pillow")

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
    from crossfarm.stages.quantize_run import write_quantised

    write_quantised(job)
