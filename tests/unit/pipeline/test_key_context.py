"""What keys depend on is read from this host for the targets of a plan, and for no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.boards.inventory import Inventory
from crossfarm.config.targets import Target
from crossfarm.pipeline import key_context
from crossfarm.pipeline.plan import Selection, make_plan
from crossfarm.pipeline.plan_types import BoardAccess
from crossfarm.stages import STAGES
from tests.unit.plans import write_project


def test_only_the_targets_of_a_plan_are_asked_what_runs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def access(target: Target, _: Inventory) -> BoardAccess:
        asked.append(target.name)
        return BoardAccess(parameters={}, exclusive=False)

    monkeypatch.setattr(key_context, "access", access)
    project = write_project(tmp_path)
    context = key_context.read_key_context(project, Inventory())
    make_plan(project, Selection(targets=("armv7",), only=("*-one-*",)), stages=STAGES, context=context)
    assert asked == ["armv7"]
