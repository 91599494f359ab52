"""A plan as data: cells, jobs with their keys, and what keys depend on beside the declaration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from crossfarm.config.cell import Cell
from crossfarm.config.sources import FileSource
from crossfarm.stages.protocol import Declaration
from crossfarm.store.keys import KeyDocument
from crossfarm.util.quick_init import quick_init


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkippedCell:
    """A cell, or the rest of one, that is not done on purpose."""

    cell: Cell
    stage: str | None
    """First stage that is left out; None for the whole cell."""
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardAccess:
    """Where the cells of a target run.

    Attributes:
        parameters: what the measurement's key and its job depend on: board id, fingerprint, emulator command.
        exclusive: a time taken there is real, so nothing else may run beside it on this host.
        missing: why nothing can be run for this target; None when it can.
        unbuilt: why nothing can even be compiled for it; None when it can.
        boards: names of the boards that would do; empty when it is this host without a lease.
    """

    parameters: Mapping[str, Any]
    exclusive: bool
    missing: str | None = None
    unbuilt: str | None = None
    boards: tuple[str, ...] = ()


@quick_init
@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """One job with its key.

    Attributes:
        id: `STAGE:SUBJECT`.
        stage: name of the stage.
        cell: the cell, or None for jobs about a source, a model or a target.
        model: name of the model, or None for jobs about a source or a target.
        key: the key.
        document: what the key was made of.
        groups: the parameter groups, by the names that users know.
        inputs: role -> id of the job whose artifact it is.
        exclusive: nothing else may run on this host at the same time.
        boards: it needs one of these boards.
        declaration: what its stage says of itself.
        preload: what a worker imports before it, once.
    """

    id: str
    stage: str
    cell: Cell | None
    model: str | None
    key: str
    document: KeyDocument
    groups: Mapping[str, Any]
    inputs: Mapping[str, str]
    exclusive: bool = False
    boards: tuple[str, ...] = ()
    declaration: Declaration
    preload: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Jobs in an order in which every job stands behind its inputs.

    Attributes:
        jobs: by id.
        wanted: ids of the jobs that were asked for; the others are there because these need them.
        cells: all selected cells.
        skipped: cells that are not done, with reasons.
    """

    jobs: dict[str, PlannedJob]
    wanted: frozenset[str]
    cells: tuple[Cell, ...]
    skipped: tuple[SkippedCell, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageContext:
    """What the keys of a stage's jobs depend on beside the declaration, for one backend.

    Attributes:
        sources: sha256 over the source files of the stage, and of the backend for it.
        tools: distribution -> version, likewise.
        groups: names of the groups that the backend adds; `KeyContext.groups` makes them.
        preload: what a worker imports before the first job.
    """

    sources: str
    tools: Mapping[str, str]
    groups: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyContext:
    """What keys depend on beside the declaration.

    Attributes:
        stages: of a stage and a backend; None for jobs about a source or a model, which no backend touches.
        image: target -> digest of its image, "host" where jobs run on this host.
        model_image: format of a model -> likewise, for jobs about the model alone.
        content: sha256 of a declared file's content.
        boards: target -> where its cells run.
        groups: name of a group that backends ask for -> makes it for a cell; an empty one is left out.
    """

    stages: Callable[[str, str | None], StageContext]
    image: Mapping[str, str]
    model_image: Mapping[str, str]
    content: Callable[[FileSource], str]
    boards: Mapping[str, BoardAccess]
    groups: Mapping[str, Callable[[Cell], Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
