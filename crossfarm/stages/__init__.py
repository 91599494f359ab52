"""The stages of a pipeline, by name. Their modules import nothing heavy at the top, so that a plan costs little."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import cast

from crossfarm.config.pipelines import STAGES as NAMES
from crossfarm.stages.protocol import Stage


class _Stages(Mapping[str, Stage]):
    """Imports a stage's module when it is first asked for."""

    def __init__(self) -> None:
        self._imported: dict[str, Stage] = {}

    def __getitem__(self, name: str) -> Stage:
        stage = self._imported.get(name)
        if stage is None:
            if name not in NAMES:
                raise KeyError(name)
            stage = cast(Stage, importlib.import_module(f"crossfarm.stages.{name}.stage"))
            self._imported[name] = stage
        return stage

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


STAGES: Mapping[str, Stage] = _Stages()
