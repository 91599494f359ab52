"""The plan: which cells there are, which jobs they need, and the key of every job, before anything runs.

Pure: nothing is read but what is handed in. `find_stale` (crossfarm.pipeline.staleness) then asks the store which jobs
are hits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import functools
import gc
import re
from collections.abc import Iterator, Mapping, Sequence

from crossfarm.config.cell import Cell
from crossfarm.config.models import Model
from crossfarm.config.pipelines import STAGES as STAGE_ORDER
from crossfarm.config.project import Project
from crossfarm.errors import ConfigError, nearest
from crossfarm.pipeline.plan_jobs import JobBuilder
from crossfarm.pipeline.plan_types import BoardAccess, KeyContext, Plan, SkippedCell
from crossfarm.stages.protocol import Stage


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
    left_out = frozenset(project.pipeline.without_tags)
    models = [
        model
        for model in project.models_file.models
        if any(fnmatch.fnmatchcase(model.name, glob) for glob in project.pipeline.models)
        and left_out.isdisjoint(model.tags)
    ]
    cells = [
        Cell(model=model.name, target=target, variant=variant)
        for model in models
        for target in targets
        for variant in model.variants
        if variant in project.pipeline.variants
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


def make_plan(project: Project, selection: Selection, *, stages: Mapping[str, Stage], context: KeyContext) -> Plan:
    """Return the plan of the selected cells.

    Args:
        project: what is declared.
        selection: what of it is asked for.
        stages: every stage by name.
        context: what keys depend on beside the declaration.

    Raises:
        ConfigError: the selection names what does not exist.
    """
    with without_collector():
        return _make_plan(project, selection, stages, context)


def _make_plan(project: Project, selection: Selection, stages: Mapping[str, Stage], context: KeyContext) -> Plan:
    names = _wanted_stages(selection.stages or project.pipeline.stages, stages)
    wanted_stages = {name: stages[name].DECLARATION for name in names}
    builder = JobBuilder(project, stages, context)
    cells = select_cells(project, selection)
    builder.native_cells = _native_cells(cells, builder.models, context.boards)
    wanted: set[str] = set()
    skipped: list[SkippedCell] = []
    asked: set[tuple[str, str, bool]] = set()

    @functools.cache
    def stages_of(variant: str, is_missing: bool, of_cell: bool) -> list[str]:
        """Return the wanted stages of a cell, without those of boards where that is missing; `of_cell`: of no model."""
        return [
            stage
            for stage, declared in wanted_stages.items()
            if (declared.variants is None or variant in declared.variants)
            and not (is_missing and declared.board)
            and not (of_cell and declared.scope == "model")
        ]

    planned_cells: list[Cell] = []
    for cell in cells:
        model = builder.models[cell.model]
        reason = declared_refusal(project, model, cell) or context.boards[cell.target].unbuilt
        if reason:
            skipped.append(SkippedCell(cell=cell, stage=None, reason=reason))
            continue
        planned_cells.append(cell)
        missing = context.boards[cell.target].missing
        # What is about a model alone was asked for with its first cell.
        about = (cell.model, cell.variant, missing is None)
        for stage in stages_of(cell.variant, missing is not None, about in asked):
            wanted.update(builder.want(stage, cell))
        asked.add(about)
        if missing and any(declared.board for declared in wanted_stages.values()):
            skipped.append(SkippedCell(cell=cell, stage=_board_stage(stages), reason=missing))
    return Plan(jobs=builder.jobs, wanted=frozenset(wanted), cells=tuple(planned_cells), skipped=tuple(skipped))


def declared_refusal(project: Project, model: Model, cell: Cell) -> str | None:
    """Return why a cell is not made on any machine: it is declared under `skip`, or its target takes no such model."""
    reason = next((skip.reason for skip in model.skip if skip.target == cell.target), None)
    return reason or project.targets[cell.target].refuses(variant=cell.variant, form=model.format)


def _native_cells(
    cells: Sequence[Cell], models: Mapping[str, Model], boards: Mapping[str, BoardAccess]
) -> dict[tuple[str, str], Cell]:
    """Return model and variant -> the first of their cells that this host runs natively."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        board = boards[cell.target]
        is_skipped = any(skip.target == cell.target for skip in models[cell.model].skip)
        if board.exclusive and not board.missing and not board.boards and not is_skipped:
            found.setdefault((cell.model, cell.variant), cell)
    return found


def _board_stage(stages: Mapping[str, Stage]) -> str:
    """Return the first stage that runs on a board."""
    return next(name for name in STAGE_ORDER if stages[name].DECLARATION.board == "runs")


def _wanted_stages(names: Sequence[str], stages: Mapping[str, Stage]) -> list[str]:
    for name in names:
        if name not in stages:
            raise ConfigError(
                f"--stages {name}: there is no such stage{nearest(name, stages)}; stages: {', '.join(STAGE_ORDER)}"
            )
    return [name for name in STAGE_ORDER if name in names]


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keep the cycle collector from walking a growing plan again and again; plans and decisions make no cycles.

    What was made meanwhile is not walked afterwards either: it counts as old, and is freed by its reference count.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()
