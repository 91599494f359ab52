"""The targets of a run as jobs of a CI server, one each. Which runner reaches the boards of one says boards.yaml."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from crossfarm.boards.inventory import Inventory
from crossfarm.config.project import Project
from crossfarm.errors import ConfigError
from crossfarm.pipeline.plan import Selection, declared_refusal, select_cells

MOST_GITHUB, MOST_GITLAB = 256, 200
"""Jobs that one matrix may have."""
_LABELS = ("self-hosted", "crossfarm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One job.

    Attributes:
        target: its name.
        cells: how many it has.
        boards: names of the boards that serve it, where boards were asked for.
        labels: of the runner that reaches them: what all runners of boards have, and the tags that these boards share.
    """

    target: str
    cells: int
    boards: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def matrix(project: Project, selection: Selection, inventory: Inventory | None) -> tuple[Entry, ...]:
    """Return the targets that have cells, in their order.

    Args:
        project: what is declared.
        selection: what of it is asked for.
        inventory: only targets that its boards serve are there; None for all targets and no boards.

    Raises:
        ConfigError: the selection names what does not exist, or nothing is left.
    """
    models = {model.name: model for model in project.models_file.models}
    counts: Counter[str] = Counter()
    for cell in select_cells(project, selection):
        # What this machine cannot build is kept: another one has the job.
        if declared_refusal(project, models[cell.model], cell) is None:
            counts[cell.target] += 1
    if not counts:
        raise ConfigError("no target has a cell that is not skipped; ./inv plan lists all cells and why")
    if inventory is None:
        return tuple(Entry(target=target, cells=number) for target, number in counts.items())
    served = {target: inventory.candidates(target) for target in counts}
    return tuple(
        Entry(
            target=target,
            cells=counts[target],
            boards=tuple(board.name for board in boards),
            labels=(*_LABELS, *sorted(set.intersection(*(set(board.tags) for board in boards)) - set(_LABELS))),
        )
        for target, boards in served.items()
        if boards
    )


def for_github(entries: Sequence[Entry]) -> str:
    """Return one line of JSON for `strategy.matrix`.

    Raises:
        ConfigError: GitHub takes fewer jobs.
    """
    _refuse_too_many(entries, MOST_GITHUB, "GitHub")
    include: list[dict[str, Any]] = []
    for entry in entries:
        found: dict[str, Any] = {"target": entry.target, "cells": entry.cells}
        if entry.boards:
            found |= {"boards": ",".join(entry.boards), "labels": list(entry.labels)}
        include.append(found)
    return json.dumps({"include": include}) + "\n"


def for_gitlab(entries: Sequence[Entry]) -> str:
    """Return the jobs of a child pipeline as YAML, to stand behind docs/templates/gitlab-jobs.yml in one file.

    Raises:
        ConfigError: GitLab takes fewer jobs, or there are none.
    """
    _refuse_too_many(entries, MOST_GITLAB, "GitLab")
    if not entries:
        raise ConfigError("no board serves a target of this pipeline; ./inv boards lists them")
    targets = [entry.target for entry in entries]
    jobs: dict[str, Any] = {
        "crossfarm": {"extends": ".crossfarm", "parallel": {"matrix": [{"TARGET": targets}]}},
        "crossfarm-merge": {
            "extends": ".crossfarm-merge",
            "needs": [{"job": "crossfarm", "artifacts": True}],
            "variables": {"PARTS": " ".join(f"parts/{target}" for target in targets)},
        },
    }
    # JSON is YAML, and needs no other library to be written.
    return "".join(f"{name}: {json.dumps(job)}\n" for name, job in jobs.items())


def as_lines(entries: Sequence[Entry]) -> str:
    """Return the names of the targets, a line each, for shells and other servers."""
    return "".join(f"{entry.target}\n" for entry in entries)


def _refuse_too_many(entries: Sequence[Entry], most: int, server: str) -> None:
    if len(entries) > most:
        raise ConfigError(f"{len(entries)} targets: {server} takes {most} jobs of a matrix; choose some by --targets")
