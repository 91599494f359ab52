"""Makes the jobs of a plan, each once, inputs first, with its key."""

from __future__ import annotations

import dataclasses
import marshal
import re
from collections.abc import Mapping
from typing import Any

from crossfarm.config.cell import Cell
from crossfarm.config.models import Dataset, Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.project import Project
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.config.targets import Target
from crossfarm.pipeline.plan_types import BoardAccess, KeyContext, PlannedJob, StageContext
from crossfarm.stages.job import HOST
from crossfarm.stages.protocol import Declaration, Stage, Subject
from crossfarm.store.keys import KeyDocument, KeyText, digest_json

Fetchable = FileSource | UrlSource | Package


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Common:
    """What jobs of a stage have in common: those of all cells of a target, or of all models of a form.

    Attributes:
        stage: its name.
        declared: what it says of itself.
        context: what all their keys depend on.
        image: in which they run.
        board: where they run, for jobs that run on boards.
        key_text: makes their keys.
    """

    stage: str
    declared: Declaration
    context: StageContext
    image: str
    board: BoardAccess | None
    key_text: KeyText


class JobBuilder:
    """Makes each job once, inputs first."""

    def __init__(self, project: Project, stages: Mapping[str, Stage], context: KeyContext) -> None:
        self.jobs: dict[str, PlannedJob] = {}
        self.models: dict[str, Model] = {model.name: model for model in project.models_file.models}
        self._datasets: dict[str, Dataset] = {item.name: item for item in project.models_file.datasets}
        self._pipeline: Pipeline = project.pipeline
        self._targets: Mapping[str, Target] = project.targets
        self._stages = dict(stages)
        self._declared = {name: stage.DECLARATION for name, stage in stages.items()}
        self._context = context
        self._digests: dict[bytes, str] = {}
        self._known_digests: dict[int, str] = {}
        self._groups: dict[tuple[str, ...], Any] = {}
        self._commons: dict[tuple[str, str], _Common] = {}
        self._subjects: dict[str, Subject] = {}
        self._target_jobs: dict[tuple[str, str], PlannedJob] = {}
        self._same_jobs: dict[tuple[str, ...], PlannedJob] = {}
        self._requested: dict[tuple[str, str], list[str]] = {}
        self.native_cells: Mapping[tuple[str, str], Cell] = {}
        """Model and variant -> a cell that this host runs natively, for stages that compare others with it."""

    def want(self, stage: str, cell: Cell) -> list[str]:
        """Make the jobs of a stage for a cell, with all that they need; returns their ids."""
        asks = self._declared[stage].requested_by
        if asks is None:
            return [self._job(stage, cell).id]
        about = (stage, cell.model if self._declared[asks].scope == "model" else cell.id)
        found = self._requested.get(about)
        if found is None:
            inputs = self._job(asks, cell).inputs.values()
            found = self._requested[about] = [name for name in inputs if name.startswith(f"{stage}:")]
        return found

    def _job(self, stage: str, cell: Cell) -> PlannedJob:
        declared = self._declared[stage]
        if declared.scope == "target":
            return self._of_target(stage, cell.target)
        per_cell = declared.scope == "cell"
        identity = f"{stage}:{cell.id if per_cell else cell.model}"
        known = self.jobs.get(identity)
        if known:
            return known
        needs = self._stages[stage].needs(self._subject(cell if per_cell else None, cell.model))
        common = self._common_of(stage, cell)
        inputs: dict[str, str] = {}
        for role, (needed, source) in needs.inputs.items():
            if common.image == HOST or not self._declared[needed].in_images:
                job = self._job(needed, cell) if source is None else self._of_source(needed, source)
                inputs[role] = job.id
        native = self.native_cells.get((cell.model, cell.variant)) if needs.of_native_cell else None
        if native is not None and not self._context.boards[cell.target].exclusive:
            inputs |= {role: self._job(needed, native).id for role, needed in needs.of_native_cell.items()}
        groups = dict(needs.parameters)
        for name in common.context.groups:
            if group := self._context.groups[name](cell):
                groups[f"{name} {cell.id}"] = group
        if common.board is not None:
            groups["board"] = common.board.parameters
        return self._add(identity, common, groups, inputs, cell=cell if per_cell else None, model=cell.model)

    def _common_of(self, stage: str, cell: Cell) -> _Common:
        """Return what the job of a cell, or of its model, shares with others."""
        declared = self._declared[stage]
        per_cell = declared.scope == "cell"
        about = (stage, cell.target if per_cell else self.models[cell.model].format)
        found = self._commons.get(about)
        if found is None:
            backend = self._targets[cell.target].backend if per_cell else None
            board = self._context.boards[cell.target] if declared.board == "runs" else None
            found = self._commons[about] = self._common(stage, self._image(declared, cell), backend, board)
        return found

    def _common(self, stage: str, image: str, backend: str | None = None, board: BoardAccess | None = None) -> _Common:
        context = self._context.stages(stage, backend)
        declared = self._declared[stage]
        return _Common(
            stage=stage,
            declared=declared,
            context=context,
            image=image,
            board=board,
            key_text=KeyText.of(stage, declared.version, context.sources, image, context.tools),
        )

    def _image(self, declared: Declaration, cell: Cell) -> str:
        if declared.runs_in == "host":
            return HOST
        if declared.scope == "cell":
            return self._context.image[cell.target]
        return self._context.model_image[self.models[cell.model].format]

    def _of_target(self, stage: str, target: str) -> PlannedJob:
        """Make a job about a target; targets that ask for the very same one share it, under the name of the first."""
        known = self._target_jobs.get((stage, target))
        if known:
            return known
        needs = self._stages[stage].needs(Subject(pipeline=self._pipeline, target=self._targets[target]))
        inputs = {role: self._of_target(needed, target).id for role, (needed, _) in needs.inputs.items()}
        image = self._context.image[target]
        groups = dict(needs.parameters)
        same = (stage, image, *map(self._digest, groups.values()))
        job = self._same_jobs.get(same)
        if job is None:
            job = self._add(f"{stage}:{target}", self._common(stage, image), groups, inputs)
        self._same_jobs[same] = self._target_jobs[stage, target] = job
        return job

    def _of_source(self, stage: str, source: Fetchable) -> PlannedJob:
        identity = f"{stage}:{source_label(source)}"
        known = self.jobs.get(identity)
        if known:
            return known
        needs = self._stages[stage].needs(Subject(pipeline=self._pipeline, source=source))
        groups = dict(needs.parameters)
        if isinstance(source, FileSource):
            groups["content"] = self._context.content(source)
        return self._add(identity, self._common(stage, HOST), groups, {})

    def _subject(self, cell: Cell | None, model_name: str) -> Subject:
        identity = cell.id if cell else f":{model_name}"
        subject = self._subjects.get(identity)
        if subject is None:
            model = self.models[model_name]
            subject = self._subjects[identity] = Subject(
                pipeline=self._pipeline,
                model=model,
                datasets=tuple(self._datasets[name] for name in dict.fromkeys((*model.data, *model.calibration_data))),
                target=self._targets[cell.target] if cell else None,
                variant=cell.variant if cell else None,
                groups=self._groups,
            )
        return subject

    def _add(
        self,
        identity: str,
        common: _Common,
        groups: dict[str, Any],
        inputs: dict[str, str],
        *,
        cell: Cell | None = None,
        model: str | None = None,
    ) -> PlannedJob:
        known, context, board = self._known_digests, common.context, common.board
        parameters = {name: known.get(id(group)) or self._digest(group) for name, group in groups.items()}
        keys = {role: self.jobs[name].key for role, name in inputs.items()}
        job = PlannedJob(
            id=identity,
            stage=common.stage,
            cell=cell,
            model=model,
            key=common.key_text.key(parameters, keys),
            document=KeyDocument(
                stage=common.stage,
                version=common.declared.version,
                parameters=parameters,
                sources=context.sources,
                inputs=keys,
                image=common.image,
                tools=context.tools,
            ),
            groups=groups,
            inputs=inputs,
            exclusive=board is not None and board.exclusive,
            boards=board.boards if board is not None else (),
            declaration=common.declared,
            preload=context.preload,
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


def source_label(source: Fetchable) -> str:
    """Return a name for a source that is safe as a file name and differs between sources."""
    if isinstance(source, Package):
        return re.sub(r"[^A-Za-z0-9._-]", "-", source.package.replace("==", "-"))
    if isinstance(source, UrlSource):
        base = re.sub(r"[^A-Za-z0-9._-]", "-", source.url.rsplit("/", 1)[-1])[:60]
        return f"{base}-{source.sha256[:12]}"
    base = re.sub(r"[^A-Za-z0-9._-]", "-", source.file.rsplit("/", 1)[-1])[:60]
    return f"{base}-{digest_json(source.file)[:12]}"
