"""The stages of a pipeline, by name. Their modules import nothing heavy at the top, so that a plan costs little."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from crossfarm.config.pipelines import STAGES as NAMES
from crossfarm.stages.protocol import Stage
from crossfarm.util.lazy_mapping import LazyMapping


def _import(name: str) -> Stage:
    return cast(Stage, importlib.import_module(f"crossfarm.stages.{name}.stage"))


STAGES: Mapping[str, Stage] = LazyMapping(NAMES, _import)
"""A stage's module is imported when it is first asked for."""
