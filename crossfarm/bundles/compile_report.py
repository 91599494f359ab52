"""compile.json: what an artifact of `compile` says about itself.

It stands apart from the rest of the package because compilers write it: a change here compiles every model again.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from crossfarm.config.base import Declared, Name, Sha256
from crossfarm.errors import BundleError


class PortType(Declared):
    """An input or output of the compiled model."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Document(Declared):
    """A JSON file of one artifact."""

    def write(self, path: Path) -> None:
        """Write the file; equal documents give equal bytes."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            BundleError: it is missing, or not what this version of crossfarm writes.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise BundleError(f"{path.name} cannot be used: {error}; make the artifact again") from error


class FunctionCost(Declared):
    """What one call of a compiled function computes."""

    name: str
    operations: int
    """Of numbers; a multiplication and an addition are two. 0 where they could not be counted."""
    scheduled: bool
    layer: str | None = None
    """Key of the layer, for the functions whose schedule may be searched."""
    calls: int = 1
    """In one run of the model."""
    bytes: int = 0
    """Of the tensors that all calls of a run read and write, each of a call counted once. 0 where that is not known."""


class CompileReport(Document):
    """compile.json: what the compiler made."""

    identity: Sha256
    model: Name
    target: Name
    variant: str
    inputs: tuple[PortType, ...]
    outputs: tuple[PortType, ...]
    operators: dict[str, int]
    """ONNX operator -> number of its nodes."""
    arena_bytes: int = 0
    """Of the one block that holds all tensors of a run; this and what follows is 0 where there is no such thing."""
    storage_bytes: int = 0
    """What TVM's own planner would take instead of the arena, inputs not counted."""
    weights_bytes: int = 0
    """Without the header."""
    functions: int = 0
    calls: int = 0
    unscheduled: tuple[str, ...] = ()
    """Functions that no rule of crossfarm.backends.tvm covered, or covered in part: they are right, and slow."""
    left_in_float: dict[str, int] = Field(default_factory=dict)
    """Operator between DequantizeLinear and QuantizeLinear that no integer kernel covers -> how many there are."""
    costs: tuple[FunctionCost, ...] = ()
    """Of every function, by name."""
    tools: dict[str, str]
    """Distribution -> version."""


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution."""
    return {name: importlib.metadata.version(name) for name in distributions}
