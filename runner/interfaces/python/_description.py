"""What the model is: model.json beside this file, read into objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: as in the model file.
        dtype: NumPy's name of the type: `float32`.
        shape: extent of each axis.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Return it as messages show it: `image: float32 [1, 3, 224, 224]`."""
        return f"{self.name}: {self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class Description:
    """The model.

    Attributes:
        name: of the model.
        description: one line for people.
        licence: SPDX expression.
        target: what it was compiled for.
        variant: float32 or int8.
        identity: sha256 over code, tables and weights.
        version: of this package.
        inputs: what `predict` takes.
        outputs: what `predict` returns.
        classes: their names, in the order of the scores; None where none are known.
        characters: what the scores of a text model stand for, in their order; None for other models.
        preprocess: how an image becomes an input; None where nobody says.
        image_input: which of the inputs that is.
        threshold: scores above it count as class 1; None for models that are not read so.
    """

    name: str
    description: str
    licence: str
    target: str
    variant: str
    identity: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    classes: tuple[str, ...] | None
    characters: tuple[str, ...] | None
    preprocess: Mapping[str, Any] | None
    image_input: int
    threshold: float | None


def find(name: str) -> Path:
    """Return a file of the model: beside this package in a wheel, in the folder of the bundle otherwise.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    for folder in (HERE, HERE.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name}: not found beside {HERE}; install or copy the model again")


def _read(path: Path) -> Description:
    raw = json.loads(path.read_text(encoding="utf-8"))
    for key in ("inputs", "outputs"):
        raw[key] = tuple(Port(port["name"], port["dtype"], tuple(port["shape"])) for port in raw[key])
    for key in ("classes", "characters"):
        raw[key] = None if raw[key] is None else tuple(raw[key])
    return Description(**raw)


MODEL = _read(HERE / "model.json")
