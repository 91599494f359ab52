"""manifest.json: what a bundle says about itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crossfarm.bundles.compile_report import Document, PortType
from crossfarm.config.base import Declared, Name, Sha256


class InputFile(PortType):
    """An input with the file that holds it for every case, stacked."""

    file: str
    carry_from: str | None = None
    """The output that a case of a sequence takes here from the case before it."""


class Sequence(Declared):
    """Cases of which each but the first takes outputs of the one before."""

    first: int
    cases: int


class WeightsFile(Declared):
    """The weights, and the memory that a handle takes beside them."""

    file: str
    bytes: int
    """Size of the file with its header."""
    arena_bytes: int


class BundleFile(Declared):
    """A file of the bundle."""

    path: str
    bytes: int
    sha256: Sha256


class Manifest(Document):
    """manifest.json: everything that the runner and a reader must know about a bundle."""

    format: Literal[1] = 1
    model: Name
    target: Name
    variant: str
    cell: str
    identity: Sha256
    cases: int
    inputs: tuple[InputFile, ...]
    outputs: tuple[PortType, ...]
    sequences: tuple[Sequence, ...] = ()
    """Rising, none within another."""
    weights: WeightsFile | None = None
    """None in a bundle that is no program; the runner refuses that."""
    files: tuple[BundleFile, ...]
    """Every file that goes onto a board, but the manifest itself."""
    unscheduled: tuple[str, ...] = ()
    """As in compile.json."""
    left_in_float: dict[str, int] = Field(default_factory=dict)
    """As in compile.json."""
    work: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Function -> operations and bytes of all its calls in a run, as in compile.json."""
    provenance: dict[str, str]
    """What made it -> version."""
