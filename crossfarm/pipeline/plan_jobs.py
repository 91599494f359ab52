"""Makes the jobs of a plan, each once, inputs first, with its key."""

from __future__ import annotations

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
from crossfarm.store.keys import KeyDocument, digest_json, tools_text

Fetchable = FileSource | UrlSource | Package


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
        self._stage_contexts: dict[tuple[str, str | None], tuple[StageContext, str]] = {}
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
        image = self._image(declared, cell)
        inputs = {
            role: (self._of_source(needed, source).id if source is not None else self._job(needed, cell).id)
            for role, (needed, source) in needs.inputs.items()
            if image == HOST or not self._declared[needed].in_images
        }
        native = self.native_cells.get((cell.model, cell.variant)) if needs.of_native_cell else None
        if native is not None and not self._context.boards[cell.target].exclusive:
            inputs |= {role: self._job(needed, native).id for role, needed in needs.of_native_cell.items()}
        backend = self._targets[cell.target].backend if per_cell else None
        groups = dict(needs.parameters)
        for name in self._stage_context(stage, backend)[0].groups:
            if group := self._context.groups[name](cell):
                groups[f"{name} {cell.id}"] = group
        board = self._context.boards[cell.target] if declared.board == "runs" else None
        if board is not None:
            groups["board"] = board.parameters
        about = cell if per_cell else None
        return self._add(
            identity, stage, groups, inputs, image=image, cell=about, model=cell.model, board=board, backend=backend
        )

    def _image(self, declared: Declaration, cell: Cell) -> str:
        if declared.runs_in == "host":
            return HOST
        if declared.scope == "cell":
            return self._context.image[cell.target]
        return self._context.model_image[self.models[cell.model].format]

    def _stage_context(self, stage: str, backend: str | None) -> tuple[StageContext, str]:
        """Return the context of a stage, and what a key is made of for its tools."""
        found = self._stage_contexts.get((stage, backend))
        if found is None:
            context = self._context.stages(stage, backend)
            found = self._stage_contexts[stage, backend] = (context, tools_text(context.tools))
        return found

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
        job = self._same_jobs.get(same) or self._add(f"{stage}:{target}", stage, groups, inputs, image=image)
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
        return self._add(identity, stage, groups, {}, image=HOST)

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
        stage: str,
        groups: dict[str, Any],
        inputs: dict[str, str],
        *,
        image: str,
        cell: Cell | None = None,
        model: str | None = None,
        board: BoardAccess | None = None,
        backend: str | None = None,
    ) -> PlannedJob:
        known = self._known_digests
        context, tools = self._stage_context(stage, backend)
        document = KeyDocument(
            stage=stage,
            version=self._declared[stage].version,
            parameters={name: known.get(id(group)) or self._digest(group) for name, group in groups.items()},
            sources=context.sources,
            inputs={role: self.jobs[name].key for role, name in inputs.items()},
            image=image,
            tools=context.tools,
        )
        job = PlannedJob(
            id=identity,
            stage=stage,
            cell=cell,
            model=model,
            key=document.key(tools=tools),
            document=document,
            groups=groups,
            inputs=inputs,
            exclusive=board is not None and board.exclusive,
            boards=board.boards if board is not None else (),
            declaration=self._declared[stage],
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
