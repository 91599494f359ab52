"""What a stage is: a module that follows this Protocol. All of them stand in one mapping, crossfarm.stages.STAGES."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from crossfarm.config.models import Dataset, Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.config.targets import Target
from crossfarm.stages.job import Job
from crossfarm.util.quick_init import quick_init

Scope = Literal["source", "model", "target", "cell"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declaration:
    """All that others treat a stage by. Nothing but the order of the stages is said of a stage elsewhere.

    Attributes:
        version: grows when the artifact changes its form without a change of the sources.
        scope: what its jobs are about.
        sources: what shapes the artifact, relative to the clone: folders end with `/`, and all files below them count.
            A leading `!` takes out what cannot change an artifact, such as the texts of errors. The backend of a target
            adds its own for each stage.
        tools: distributions whose version shapes the artifact; the backend adds its own.
        runs_in: whether an engine may run its jobs in containers: what needs the network or boards runs on the host.
        requested_by: for a scope of source or target, the stage whose inputs they are: who asks for this stage asks for
            these inputs of that one.
        variants: the variants whose cells go through it; None for all.
        board: it runs programs of a bundle on a board, or reads what was said there; None where it does neither.
        in_images: the container images hold its work already, so that no job in a container needs it.
        leaves_cache: its jobs leave something in the C compiler's cache, and the module is a LosesWork too.
        calls_c_compiler: its jobs find the C compiler's cache.
        opens_models: its jobs take a stranger's model apart, and get no more memory than the engine says.
        leaves_records: the artifact holds records.jsonl for the run's results; the run itself reads it.
        preload: what a worker imports once, before the first job, because importing it takes long.
        usual_seconds: a guess at the time of a job that never ran.
    """

    version: int
    scope: Scope
    sources: tuple[str, ...]
    tools: tuple[str, ...] = ()
    runs_in: Literal["image", "host"] = "image"
    requested_by: str | None = None
    variants: tuple[str, ...] | None = None
    board: Literal["runs", "reads"] | None = None
    in_images: bool = False
    leaves_cache: bool = False
    calls_c_compiler: bool = False
    opens_models: bool = False
    leaves_records: bool = False
    preload: tuple[str, ...] = ()
    usual_seconds: float = 1.0


@quick_init
@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What a job is about: a source to fetch, a model, a target, or a cell (model, target and variant).

    Attributes:
        datasets: those that the model is tried on, and those that it is calibrated from.
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


@quick_init
@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What the key of a job depends on.

    Attributes:
        parameters: named groups of plain JSON values, the names as the user knows them: {"model mnist_cnn": {...},
            "toolchain armv7": {...}}. The reason that `plan` prints is the group and path that changed.
        inputs: role -> (stage, source or None); the artifact of that stage for the same model, target or cell, or of
            that source.
        of_native_cell: role -> stage; its artifact for the cell of the same model and variant that this host runs
            natively, where there is one and this cell runs elsewhere.
    """

    parameters: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, FileSource | UrlSource | Package | None]]
    of_native_cell: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Stage(Protocol):
    """A step of the pipeline: the module `stage.py` of a folder in crossfarm/stages."""

    DECLARATION: Declaration

    def needs(self, subject: Subject) -> Needs:
        """Say what the key depends on. Pure: no file is read."""

    def run(self, job: Job) -> None:
        """Do the work: read job.inputs and job.parameters, write job.output."""


class LosesWork(Protocol):
    """A stage whose jobs leave something outside of the store, which may be gone while the artifact is there."""

    def lost(self, groups: Mapping[str, Any], *, cache: Path) -> str:
        """Return in words what the compiler's cache lacks of what a job made; empty when it lacks nothing.

        Args:
            groups: parameter groups of the job.
            cache: zig's cache.
        """
