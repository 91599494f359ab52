"""A project: what models.yaml, the toolchain files and one pipeline declare together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from crossfarm.config.models import ModelsFile
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.targets import Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Project:
    """Everything that was declared, read and checked against each other.

    Attributes:
        models_path: models.yaml as it was given.
        root: the folder of models.yaml; declared files are relative to it.
        models_file: its content, `defaults` merged into every model.
        targets: every toolchain file by name, in alphabetical order.
        pipeline: the chosen pipeline.
        lines: name of each model -> line of models.yaml where its entry begins, for reports.
    """

    models_path: Path
    root: Path
    models_file: ModelsFile
    targets: Mapping[str, Target]
    pipeline: Pipeline
    lines: Mapping[str, int]
