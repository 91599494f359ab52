"""Where a model is an exception: targets that it is not built for, and failures of it that are known."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from crossfarm.config.accelerators import Variant
from crossfarm.config.base import Declared, Line, Name
from crossfarm.config.budgets import Budgets
from crossfarm.config.pipelines import StageName
from crossfarm.errors import nearest

Reason = Annotated[Line, Field(min_length=3)]

CELL_STAGES: tuple[StageName, ...] = ("compile", "bundle", "interfaces", "measure", "check")
"""Stages whose jobs are about a cell, so that one of them can be known to fail."""
ALL_OUTPUTS = "accuracy.output.*"
_OUTPUT = "accuracy.output."
_OF_DATA = ("accuracy.top1", "accuracy.top5", "text", "accuracy.map50", "accuracy.rank1")
_PLAIN = (
    *("accuracy.argmax", "accuracy.decision", "accuracy.ladder", "simulator.equal", "cycles"),
    *("accuracy.boxes", "accuracy.masks", "accuracy.embeddings", "accuracy.rank"),
    *(f"budget.{key}" for key in Budgets.model_fields if key != "cycles"),
    *CELL_STAGES,
)


class Skip(Declared):
    """A target that a model is not built for, and why."""

    target: Name
    reason: Reason
    """Stands in every report."""


class Expected(Declared):
    """A failure that is known: every report shows it as such, and it gates nothing."""

    check: Line
    """Name of the check, `simulator.equal` for instance, or `accuracy.output.*` for all outputs; or of a stage whose
    job fails: `compile`, `bundle`, `interfaces`, `measure`, `check`."""
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Where it fails."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] | None = None
    """Of these variants alone; of all else."""
    reason: Reason
    """Why; stands in every report."""
    link: Annotated[Line, Field(pattern=r"^https?://\S+$", description="an address, `https://...`")] | None = None
    """To what is known about it, such as an issue."""
    strict: bool = False
    """That it passes fails the run; else it is only told."""

    @property
    def words(self) -> str:
        """Return reason and link."""
        return f"{self.reason} ({self.link})" if self.link else self.reason

    def is_about(self, name: str) -> bool:
        """Return whether a check, or a stage, of this name is meant."""
        return name == self.check or (self.check == ALL_OUTPUTS and name.startswith(_OUTPUT))


def unknown_check(name: str, *, data: Collection[str]) -> str:
    """Return what is wrong with the name of a check that is to fail; empty where nothing is.

    Args:
        name: what was declared.
        data: names of the model's data sets.
    """
    if name in _PLAIN or (name.startswith(_OUTPUT) and len(name) > len(_OUTPUT)):
        return ""
    known = [*_PLAIN, ALL_OUTPUTS, *(f"{kind}.{dataset}" for kind in _OF_DATA for dataset in data)]
    if name in known:
        return ""
    hint = nearest(name, known) or f"; there are {', '.join(known)}"
    return f"no check or stage that may fail is called {name[:200]!r}{hint}"
