"""quantisation.json: how a model was quantised."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import Field, ValidationError

from crossfarm.config.base import Declared
from crossfarm.errors import StoreError

FILE_NAME = "quantisation.json"


class LayerError(Declared):
    """What quantising did to one layer that takes quantised tensors."""

    name: str
    """Of its node in the float32 graph."""
    operator: str
    error: float
    """Of its result: the Euclidean distance from float32, as a share of the length."""
    before: float
    """The largest error among what it reads."""

    @property
    def own(self) -> float:
        """Return what it added, as if errors of different layers were uncorrelated."""
        return math.sqrt(max(self.error**2 - self.before**2, 0.0))


class Quantised(Declared):
    """The whole of quantisation.json."""

    ready_made: bool
    """The model was quantised already, so there is no float32 model to compare it with."""
    calibrated_from: int
    """Inputs; 0 for a ready-made one."""
    operators: dict[str, int]
    """Operator -> number of its nodes that take quantised tensors."""
    layers: tuple[LayerError, ...] = ()
    """In the order of the graph; none for a ready-made model."""
    steps: dict[str, float] = Field(default_factory=dict)
    """Output -> distance of its neighbouring values, for those that are stored in integers."""

    def write(self, folder: Path) -> None:
        """Write quantisation.json into `folder`."""
        (folder / FILE_NAME).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Quantised:
        """Read quantisation.json of an artifact of the stage `quantize`.

        Raises:
            StoreError: the file is missing or is not what this version writes.
        """
        try:
            return cls.model_validate_json((folder / FILE_NAME).read_bytes())
        except (OSError, ValidationError) as error:
            raise StoreError(f"{FILE_NAME} is damaged: {error}; run the stage `quantize` again") from error
