"""accelerator.json: what the compiler of an accelerator says of a cell beside its code; the bundle carries it along."""

from __future__ import annotations

from crossfarm.bundles.compile_report import Document
from crossfarm.config.base import Declared

ACCELERATOR = "accelerator.json"


class Estimate(Declared):
    """Cycles of a run that were computed, not simulated."""

    cycles: int
    contains: str
    """What the cycles contain and what not, in a few words."""
    accuracy: str
    """How far it is known to be off, in a few words; shown beside it wherever it is."""


class Part(Declared):
    """What of a model runs on one side."""

    operators: int
    macs: int
    """Multiply-accumulates of a run."""
    parameter_bytes: int


class LeftOver(Declared):
    """An operator that the accelerator does not run."""

    operator: str
    node: str
    rule: str
    """The rule that it broke, with the number that broke it."""


class Partition(Declared):
    """Which part of a model runs where."""

    accelerator: Part
    cpu: Part
    crossings: int
    """Tensors that go from one side to the other, in a run."""
    crossing_bytes: int
    left_over: tuple[LeftOver, ...]


class Quantity(Declared):
    """A number that the compiler knows."""

    name: str
    """As in the names of measurements: `sram`."""
    value: float
    unit: str


class AcceleratorReport(Document):
    """The whole file."""

    estimate: Estimate | None = None
    partition: Partition | None = None
    quantities: tuple[Quantity, ...] = ()
    notes: tuple[str, ...] = ()
    """Further lines for people."""
    card: str | None = None
    """Card for which something was built that does not run here, by its name in boards.yaml; None where nothing was."""
    card_files: str = ""
    """What that is, in a few words."""
