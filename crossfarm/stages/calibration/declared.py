"""What of the declaration shapes the inputs that a model is calibrated from; for every stage that takes some."""

from __future__ import annotations

from typing import Any

from crossfarm.config.models import RenderedText
from crossfarm.config.samples import Tokens
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.stages.fetch.artifact import fetch_source
from crossfarm.stages.protocol import Needs, Subject

FIELDS = frozenset({"name", "inputs", "preprocess", "data", "decode", "seed"})
"""What of a model shapes its inputs."""


def data_needs(subject: Subject) -> Needs:
    """Depend on what shapes the inputs of a model that come from the data sets of its calibration."""
    model = subject.model
    if model is None:
        raise ValueError("calibration is about a model")
    declared = {**model.model_dump(mode="json", include=set(FIELDS)), "data": list(model.calibration_data)}
    parameters: dict[str, Any] = {f"model {model.name}": declared}
    inputs: dict[str, tuple[str, FileSource | UrlSource | Package | None]] = {}
    for dataset in subject.datasets:
        if dataset.name in model.calibration_data:
            parameters[f"dataset {dataset.name}"] = dataset.model_dump(mode="json")
            if not isinstance(dataset, RenderedText | Tokens):
                inputs[f"dataset {dataset.name}"] = ("fetch", fetch_source(dataset.source))
    return Needs(parameters=parameters, inputs=inputs)
