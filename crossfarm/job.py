"""What a stage is given to run: one job, read from and written to a JSON file.

A job sees its declared inputs, its parameters, an empty output folder and a log, and nothing else. It runs the same in
this process, in a container and on a worker, as `python -m crossfarm.job JOB.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One stage of one source, model or cell.

    Attributes:
        id: `compile:armv7-mnist_cnn-float32`; unique in a plan.
        stage: name of the stage.
        key: sha256 over everything that shapes the artifact.
        parameters: plain JSON values; a stage validates what it takes out with the spec's own models.
        inputs: folder of each input artifact, read-only.
        output: an empty folder, the only place that the job writes to.
        root: the project's folder, for files that are declared relative to models.yaml.
    """

    id: str
    stage: str
    key: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Path]
    output: Path
    root: Path
