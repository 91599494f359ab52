"""Makes one cell as far as somebody needs it: to carry its bundle away, to profile it, to tune it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

from crossfarm.config.cell import Cell
from crossfarm.errors import EXIT_GOOD, StoreError
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.pipeline.run import run_planned
from crossfarm.store.store import Artifact, Store

WHOLE_BUNDLE = ("bundle", "interfaces")
"""Stages whose artifacts together are the folder that people carry away."""


def make_cell(
    options: Options, cell: Cell, *, stages: tuple[str, ...] = ("bundle",)
) -> tuple[int, Mapping[str, Artifact]]:
    """Make one cell as far as some stages, if the store lacks it; return the exit code, and stage -> artifact.

    Args:
        options: which models, pipeline and store.
        cell: the cell; its target need not be one of the pipeline's.
        stages: the last ones.

    Raises:
        ConfigError: there is no such cell.
        StoreError: an artifact is gone.
    """
    selection = Selection(only=(cell.id,), targets=(cell.target,), stages=stages)
    wanted = dataclasses.replace(options, selection=selection)
    with tempfile.TemporaryDirectory() as out:
        code, plan = run_planned(dataclasses.replace(wanted, out=Path(out)))
    if code != EXIT_GOOD:
        return code, {}
    store = Store(options.store)
    found = {job.stage: store.read(job.key) for job in plan.jobs.values() if job.declaration.scope != "source"}
    artifacts = {stage: artifact for stage, artifact in found.items() if artifact is not None}
    for stage in stages:
        if stage not in artifacts:
            raise StoreError(f"the {stage} of {cell.id} is gone from the store; run the same command again")
    return code, artifacts
