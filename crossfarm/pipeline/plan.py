"""The plan: which cells there are, which jobs they need, and the key of every job, before anything runs.

Pure: nothing is read but what is handed in. `decide` (crossfarm.pipeline.staleness) then asks the store which jobs are
hits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import gc
import marshal
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from crossfarm.config.cell import Cell
from crossfarm.config.models import Dataset, Model
from crossfarm.config.pipelines import QUANTISED_ONLY, Pipeline
from crossfarm.config.pipelines import STAGES as STAGE_ORDER
from crossfarm.config.project import Project
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.config.targets import Target
from crossfarm.errors import ConfigError, nearest
from crossfarm.stages.job import HOST
from crossfarm.stages.protocol import IN_IMAGES, ON_HOST, Needs, Stage, Subject
from crossfarm.store.keys import KeyDocument, digest_json, tools_text

Fetchable = FileSource | UrlSource | Package


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
        boards: names of the boards that would do; empty when it is this host without a lease.
    """

    parameters: Mapping[str, Any]
    exclusive: bool
    missing: str | None = None
    boards: tuple[str, ...] = ()


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
class Selection:
    """What of the project is asked for. Empty means all.

    Attributes:
        only: globs over cell ids; a cell must match one.
        skip: globs over cell ids; a cell that matches one is left out.
        targets: names of targets, in place of the pipeline's.
        stages: names of stages, in place of the pipeline's.
    """

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What keys depend on beside the declaration.

    Attributes:
        sources: stage -> sha256 over its source files.
        tools: stage -> distribution -> version.
        image: target -> digest of its image, "host" where jobs run on this host.
        model_image: format of a model -> likewise, for jobs about the model alone.
        content: sha256 of a declared file's content.
        boards: target -> where its cells run.
        tuned: cell -> layer -> choice that was taken from a search; empty where there was none.
    """

    sources: Mapping[str, str]
    tools: Mapping[str, Mapping[str, str]]
    image: Mapping[str, str]
    model_image: Mapping[str, str]
    content: Callable[[FileSource], str]
    boards: Mapping[str, BoardAccess]
    tuned: Callable[[Cell], Mapping[str, Any]] = lambda _: {}


def select_cells(project: Project, selection: Selection) -> tuple[Cell, ...]:
    """Return the cells of the project's pipeline that are asked for, in the order of models.yaml.

    Raises:
        ConfigError: a target does not exist, a glob matches nothing, or nothing is left.
    """
    targets = tuple(dict.fromkeys(selection.targets)) or project.pipeline.targets
    for name in targets:
        if name not in project.targets:
            raise ConfigError(
                f"--targets {name}: there is no toolchains/{name}.yaml{nearest(name, project.targets)}; "
                f"known targets: {', '.join(sorted(project.targets))}"
            )
    models = [
        model
        for model in project.models_file.models
        if any(fnmatch.fnmatchcase(model.name, glob) for glob in project.pipeline.models)
    ]
    cells = [
        Cell(model=model.name, target=target, variant=variant)
        for model in models
        for target in targets
        for variant in model.variants
    ]
    return tuple(_matching(cells, selection))


def _matching(cells: list[Cell], selection: Selection) -> list[Cell]:
    ids = [cell.id for cell in cells]
    for option, globs in (("--only", selection.only), ("--skip", selection.skip)):
        for glob in globs:
            if not fnmatch.filter(ids, glob):
                example = nearest(glob, ids) or (f"; cells are named like {ids[0]!r}" if ids else "")
                raise ConfigError(f"{option} {glob}: no cell matches{example}; ./inv plan lists all cells")
    only = re.compile("|".join(map(fnmatch.translate, selection.only)) if selection.only else "")
    skip = re.compile("|".join(map(fnmatch.translate, selection.skip)) if selection.skip else r"(?!)")
    chosen = [cell for cell in cells if only.match(cell.id) and not skip.match(cell.id)]
    if cells and not chosen:
        raise ConfigError(
            f"nothing is left of {len(cells)} cells: --only and --skip together leave none; ./inv plan lists all cells"
        )
    return chosen


def make_plan(
    project: Project, selection: Selection, *, stages: Mapping[str, Stage], surroundings: Surroundings
) -> Plan:
    """Return the plan of the selected cells.

    Args:
        project: what is declared.
        selection: what of it is asked for.
        stages: every stage by name.
        surroundings: what keys depend on beside the declaration.

    Raises:
        ConfigError: the selection names what does not exist.
    """
    with without_collector():
        return _make_plan(project, selection, stages, surroundings)


def _make_plan(project: Project, selection: Selection, stages: Mapping[str, Stage], surroundings: Surroundings) -> Plan:
    wanted_stages = _wanted_stages(selection.stages or project.pipeline.stages, stages)
    builder = _Builder(project, stages, surroundings)
    cells = select_cells(project, selection)
    builder.compiled_here = _compiled_here(cells, builder.models, surroundings.boards)
    wanted: set[str] = set()
    skipped: list[SkippedCell] = []
    planned_cells: list[Cell] = []
    for cell in cells:
        model = builder.models[cell.model]
        reason = next((skip.reason for skip in model.skip if skip.target == cell.target), None)
        if reason:
            skipped.append(SkippedCell(cell=cell, stage=None, reason=reason))
            continue
        planned_cells.append(cell)
        missing = surroundings.boards[cell.target].missing
        for stage in wanted_stages:
            if missing and stage in ("measure", "check"):
                continue
            if stage in QUANTISED_ONLY and cell.variant != "int8":
                continue
            wanted.update(builder.want(stage, cell))
        if missing and {"measure", "check"} & set(wanted_stages):
            skipped.append(SkippedCell(cell=cell, stage="measure", reason=missing))
    return Plan(jobs=builder.jobs, wanted=frozenset(wanted), cells=tuple(planned_cells), skipped=tuple(skipped))


def _compiled_here(
    cells: Sequence[Cell], models: Mapping[str, Model], boards: Mapping[str, BoardAccess]
) -> dict[str, Cell]:
    """Return model -> the first of its int8 cells that this host runs natively."""
    found: dict[str, Cell] = {}
    for cell in cells:
        board = boards[cell.target]
        is_skipped = any(skip.target == cell.target for skip in models[cell.model].skip)
        if cell.variant == "int8" and board.exclusive and not board.missing and not board.boards and not is_skipped:
            found.setdefault(cell.model, cell)
    return found


def _wanted_stages(names: Sequence[str], stages: Mapping[str, Stage]) -> list[str]:
    for name in names:
        if name not in stages:
            raise ConfigError(
                f"--stages {name}: there is no such stage{nearest(name, stages)}; stages: {', '.join(STAGE_ORDER)}"
            )
    return [name for name in STAGE_ORDER if name in names]


class _Builder:
    """Makes each job once, inputs first."""

    def __init__(self, project: Project, stages: Mapping[str, Stage], surroundings: Surroundings) -> None:
        self.jobs: dict[str, PlannedJob] = {}
        self.models: dict[str, Model] = {model.name: model for model in project.models_file.models}
        self._datasets: dict[str, Dataset] = {item.name: item for item in project.models_file.datasets}
        self._pipeline: Pipeline = project.pipeline
        self._targets: Mapping[str, Target] = project.targets
        self._stages = dict(stages)
        self._surroundings = surroundings
        self._digests: dict[bytes, str] = {}
        self._known_digests: dict[int, str] = {}
        self._groups: dict[tuple[str, ...], Any] = {}
        self._tools = {name: tools_text(tools) for name, tools in surroundings.tools.items()}
        self._per_cell = {name: stage.SCOPE == "cell" for name, stage in stages.items()}
        self._subjects: dict[str, Subject] = {}
        self._target_jobs: dict[tuple[str, str], PlannedJob] = {}
        self._same_jobs: dict[tuple[str, ...], PlannedJob] = {}
        self.compiled_here: Mapping[str, Cell] = {}
        """Model -> an int8 cell that is measured on this host, for the accuracy ladder of the cells that are not."""

    def want(self, stage: str, cell: Cell) -> list[str]:
        """Make the jobs of a stage for a cell, with all that they need; returns their ids."""
        user = {"source": "prepare", "target": "bundle"}.get(self._stages[stage].SCOPE)
        if user is not None:
            inputs = self._job(user, cell).inputs.values()
            return [name for name in inputs if name.startswith(f"{stage}:")]
        return [self._job(stage, cell).id]

    def _job(self, stage: str, cell: Cell) -> PlannedJob:
        if self._stages[stage].SCOPE == "target":
            return self._of_target(stage, cell.target)
        per_cell = self._per_cell[stage]
        identity = f"{stage}:{cell.id if per_cell else cell.model}"
        known = self.jobs.get(identity)
        if known:
            return known
        needs = self._stages[stage].needs(self._subject(cell if per_cell else None, cell.model))
        image = self._image(stage, cell, per_cell=per_cell)
        inputs = {
            role: (self._fetch(source).id if source is not None else self._job(needed, cell).id)
            for role, (needed, source) in needs.inputs.items()
            if image == HOST or needed not in IN_IMAGES
        }
        here = self.compiled_here.get(cell.model) if stage == "check" and cell.variant == "int8" else None
        if here is not None and not self._surroundings.boards[cell.target].exclusive:
            inputs["compiled"] = self._job("measure", here).id
        groups = dict(needs.parameters)
        if stage == "compile" and (tuned := self._surroundings.tuned(cell)):
            groups[f"tuning {cell.id}"] = tuned
        board = self._surroundings.boards[cell.target] if stage == "measure" else None
        if board is not None:
            groups["board"] = board.parameters
        about = cell if per_cell else None
        return self._add(identity, stage, groups, inputs, image=image, cell=about, model=cell.model, board=board)

    def _image(self, stage: str, cell: Cell, *, per_cell: bool) -> str:
        about = self._surroundings.image[cell.target] if per_cell else None
        return HOST if stage in ON_HOST else about or self._surroundings.model_image[self.models[cell.model].format]

    def _of_target(self, stage: str, target: str) -> PlannedJob:
        """Make a job about a target; targets that ask for the very same one share it, under the name of the first."""
        known = self._target_jobs.get((stage, target))
        if known:
            return known
        needs = self._stages[stage].needs(Subject(pipeline=self._pipeline, target=self._targets[target]))
        inputs = {role: self._of_target(needed, target).id for role, (needed, _) in needs.inputs.items()}
        image = self._surroundings.image[target]
        groups = dict(needs.parameters)
        same = (stage, image, *map(self._digest, groups.values()))
        job = self._same_jobs.get(same) or self._add(
            f"{stage}:{target}", stage, groups, inputs, image=image, cell=None, model=None
        )
        self._same_jobs[same] = self._target_jobs[stage, target] = job
        return job

    def _fetch(self, source: Fetchable) -> PlannedJob:
        identity = f"fetch:{source_label(source)}"
        known = self.jobs.get(identity)
        if known:
            return known
        needs: Needs = self._stages["fetch"].needs(Subject(pipeline=self._pipeline, source=source))
        groups = dict(needs.parameters)
        if isinstance(source, FileSource):
            groups["content"] = self._surroundings.content(source)
        return self._add(identity, "fetch", groups, {}, image=HOST, cell=None, model=None)

    def _subject(self, cell: Cell | None, model_name: str) -> Subject:
        identity = cell.id if cell else f":{model_name}"
        subject = self._subjects.get(identity)
        if subject is None:
            model = self.models[model_name]
            subject = self._subjects[identity] = Subject(
                pipeline=self._pipeline,
                model=model,
                datasets=tuple(self._datasets[name] for name in model.data),
                target=self._targets[cell.target] if cell else None,
                variant=cell.variant if cell else None,
                groups=self._groups,
            )
        return subject

    def _add(
        self,
        identity: str,
        stage: str,
        groups: dict[str, Any],
        inputs: dict[str, str],
        *,
        image: str,
        cell: Cell | None,
        model: str | None,
        board: BoardAccess | None = None,
    ) -> PlannedJob:
        known = self._known_digests
        document = KeyDocument(
            stage=stage,
            version=self._stages[stage].VERSION,
            parameters={name: known.get(id(group)) or self._digest(group) for name, group in groups.items()},
            sources=self._surroundings.sources[stage],
            inputs={role: self.jobs[name].key for role, name in inputs.items()},
            image=image,
            tools=self._surroundings.tools[stage],
        )
        job = PlannedJob(
            id=identity,
            stage=stage,
            cell=cell,
            model=model,
            key=document.key(tools=self._tools[stage]),
            document=document,
            groups=groups,
            inputs=inputs,
            exclusive=board is not None and board.exclusive,
            boards=board.boards if board is not None else (),
        )
        self.jobs[identity] = job
        return job

    def _digest(self, group: Any) -> str:
        """Digest a group. Most groups are the same for many cells: often one object, which the jobs keep alive.

        Where it is another, marshal finds out cheaper than JSON does that it is equal.
        """
        same = marshal.dumps(group, 2)
        digest = self._digests.get(same)
        if digest is None:
            digest = self._digests[same] = digest_json(group)
        self._known_digests[id(group)] = digest
        return digest


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keep the cycle collector from walking a growing plan again and again; plans and decisions make no cycles.

    What was made meanwhile is not walked afterwards either: it counts as old, and is freed when nobody needs it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


def source_label(source: Fetchable) -> str:
    """Return a name for a source that is safe as a file name and differs between sources."""
    if isinstance(source, Package):
        return re.sub(r"[^A-Za-z0-9._-]", "-", source.package.replace("==", "-"))
    if isinstance(source, UrlSource):
        base = re.sub(r"[^A-Za-z0-9._-]", "-", source.url.rsplit("/", 1)[-1])[:60]
        return f"{base}-{source.sha256[:12]}"
    base = re.sub(r"[^A-Za-z0-9._-]", "-", source.file.rsplit("/", 1)[-1])[:60]
    return f"{base}-{digest_json(source.file)[:12]}"
