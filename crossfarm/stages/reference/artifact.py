"""reference.json: which cases a model is tried on, what the files beside it hold, and the names of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from crossfarm.config.base import Declared
from crossfarm.config.models import Box, DType
from crossfarm.errors import StoreError

FILE_NAME = "reference.json"


class Case(Declared):
    """One set of inputs."""

    name: str
    """Unique among the cases: `random 0`, `imagenet20 imagenet_00_243`."""
    kind: Literal["random", "data"]
    dataset: str | None = None
    label: int | str | None = None
    """What the answer should be, in the data set's own numbering; None where nobody knows."""
    boxes: tuple[Box, ...] | None = None
    """Around what it shows, in pixels of the first input; None where nobody knows."""
    continues: bool = False
    """The inputs that are carried are outputs of the case before."""


class TensorFile(Declared):
    """One input or output of the model: `file` holds the tensor of every case, stacked."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    file: str
    carry_from: str | None = None
    """Of an input: the output that a case which continues the one before takes here, whoever runs the model. None too
    where every run is given the reference's own."""


class Reference(Declared):
    """The whole of reference.json."""

    cases: tuple[Case, ...]
    inputs: tuple[TensorFile, ...]
    outputs: tuple[TensorFile, ...]
    classes: tuple[str, ...] | None = None
    characters: tuple[str, ...] | None = None

    def write(self, folder: Path) -> None:
        """Write reference.json into `folder`."""
        (folder / FILE_NAME).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Reference:
        """Read reference.json of an artifact of the stage `reference`.

        Raises:
            StoreError: the file is missing or is not what this version writes.
        """
        try:
            return cls.model_validate_json((folder / FILE_NAME).read_bytes())
        except (OSError, ValidationError) as error:
            raise StoreError(f"{FILE_NAME} is damaged: {error}; run the stage `reference` again") from error
