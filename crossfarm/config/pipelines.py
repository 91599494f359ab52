"""pipelines/NAME.yaml: which models on which targets, how far, and how they are measured."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from crossfarm.config.accelerators import VARIANTS, Variant
from crossfarm.config.base import Declared, Integer, Line, Name, refuse_repeated
from crossfarm.config.notices import Notice

StageName = Literal[
    "fetch",
    "prepare",
    "reference",
    "calibration",
    "quantize",
    "quantize_shift",
    "compile",
    "c_library",
    "runner",
    "bundle",
    "interfaces",
    "measure",
    "check",
]
"""In an order in which every stage stands behind those whose artifacts it takes."""
STAGES: tuple[StageName, ...] = get_args(StageName)
DEFAULT_STAGES: tuple[StageName, ...] = tuple(name for name in STAGES if name not in {"calibration", "interfaces"})
"""What a pipeline does: all but what is made when a compiler asks for it, or when somebody carries a bundle away."""


class Measure(Declared):
    """How latency is taken."""

    warmup: Annotated[Integer, Field(ge=0, le=10_000)] = 5
    """Runs before the timed ones."""
    repeat: Annotated[Integer, Field(ge=1, le=100_000)] = 50
    """Timed runs on silicon; every sample is kept."""
    emulated_repeat: Annotated[Integer, Field(ge=1, le=100_000)] = 3
    """Timed runs under an emulator or simulator, where time means little."""
    threads: Annotated[Integer, Field(ge=1, le=256)] = 1
    """Threads of the model; 1 uses the calling thread alone."""
    timeout: Annotated[Integer, Field(ge=1, le=7 * 24 * 3600)] = 1800
    """Seconds after which a run on a board is ended."""
    simulated_cases: Annotated[Integer, Field(ge=0, le=10_000)] = 1
    """Cases that the slow simulator of an accelerator runs, the first ones; its functional model answers all."""
    profile: bool = False
    """Time each call of every cell in a few runs of their own, for the time per layer; else only where no rule covers a
    function wholly."""
    data_limit: Annotated[Integer, Field(ge=1)] | None = None
    """At most so many cases of each data set, spread over its labels; what carries states is one whole and not cut."""


class Pipeline(Declared):
    """One file of pipelines/."""

    name: Name
    """As the file is called, without `.yaml`."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """One line for people."""
    models: Annotated[tuple[Line, ...], Field(min_length=1)] = ("*",)
    """Globs over model names."""
    without_tags: tuple[Name, ...] = ()
    """Models that have one of these tags are left out; no model need have one."""
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Names of toolchain files."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = VARIANTS
    """Variants of the models; others are left out."""
    stages: Annotated[tuple[StageName, ...], Field(min_length=1)] = DEFAULT_STAGES
    """How far; what a stage needs runs too."""
    tuned: bool = True
    """Compile with what searches took (tuning/); false leaves all to the rules."""
    measure: Measure = Measure()
    """How latency is taken."""
    notify: tuple[Notice, ...] = ()
    """Who is told when a run has ended."""

    @model_validator(mode="after")
    def _nothing_twice(self) -> Pipeline:
        refuse_repeated("targets", self.targets)
        refuse_repeated("variants", self.variants)
        refuse_repeated("stages", self.stages)
        refuse_repeated("names in notify", (notice.name for notice in self.notify))
        return self
