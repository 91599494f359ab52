"""What a stage is: a module that follows this Protocol. All of them stand in one dict, crossfarm.stages.STAGES."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from crossfarm.config.models import Dataset, Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.config.targets import Target
from crossfarm.stages.job import Job

Scope = Literal["source", "model", "target", "cell"]

ON_HOST = frozenset({"fetch", "measure"})
"""Stages that need the network or boards, so that no engine runs their jobs in containers."""

IN_IMAGES = frozenset({"c_library"})
"""Stages whose work the images hold already, so that no job in a container needs it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What a job is about: a source to fetch, a model, a target, or a cell (model, target and variant).

    Attributes:
        groups: parameter groups that were made before, by stage and names. All subjects of a plan share them: most are
            the same for many cells, and making them costs most of what a plan costs.
    """

    pipeline: Pipeline
    source: FileSource | UrlSource | Package | None = None
    model: Model | None = None
    datasets: tuple[Dataset, ...] = ()
    target: Target | None = None
    variant: str | None = None
    groups: dict[tuple[str, ...], Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def group(self, *names: str, make: Callable[[], Any]) -> Any:
        """Return a parameter group, made when it is first asked for; nobody may change it.

        Args:
            names: the stage, and the names of all that the group depends on: model, target, variant.
            make: makes it, of plain JSON values.
        """
        found = self.groups.get(names)
        if found is None:
            found = self.groups[names] = make()
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What the key of a job depends on.

    Attributes:
        parameters: named groups of plain JSON values, the names as the user knows them: {"model mnist_cnn": {...},
            "toolchain armv7": {...}}. The reason that `plan` prints is the group and path that changed.
        inputs: role -> (stage, source or None); the artifact of that stage for the same model, target or cell, or of
            that source.
    """

    parameters: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, FileSource | UrlSource | Package | None]]


class Stage(Protocol):
    """A step of the pipeline."""

    VERSION: int
    SCOPE: Scope
    SOURCES: tuple[str, ...]
    """Source files that shape the artifact, relative to the project's folder; a test compares them with the imports."""
    TOOLS: tuple[str, ...]
    """Distributions whose version shapes the artifact."""

    def needs(self, subject: Subject) -> Needs:
        """Say what the key depends on. Pure: no file is read."""

    def run(self, job: Job) -> None:
        """Do the work: read job.inputs and job.parameters, write job.output."""
