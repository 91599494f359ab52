"""pipelines/NAME.yaml: which models on which targets, how far, and how they are measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossfarm.spec.base import Declared, Name

StageName = Literal["fetch", "prepare", "reference", "compile", "bundle", "measure", "check"]
STAGES: tuple[StageName, ...] = ("fetch", "prepare", "reference", "compile", "bundle", "measure", "check")


class Measure(Declared):
    """How latency is taken."""

    warmup: Annotated[int, Field(ge=0, le=10_000)] = 5
    repeat: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Timed runs on silicon; every sample is kept."""
    emulated_repeat: Annotated[int, Field(ge=1, le=100_000)] = 3
    """Timed runs under an emulator, where time means little."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    timeout: Annotated[int, Field(ge=1)] = 1800
    """Seconds after which a run on a board is ended."""
    data_limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many cases of each data set; the first ones."""


class Pipeline(Declared):
    """One file of pipelines/."""

    name: Name
    description: str = ""
    models: tuple[str, ...] = ("*",)
    """Globs over model names."""
    targets: tuple[Name, ...] = Field(min_length=1)
    stages: tuple[StageName, ...] = STAGES
    measure: Measure = Measure()
