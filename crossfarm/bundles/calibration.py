"""calibration.json and inputs/K.bin: inputs of a model's own data, for compilers that quantise by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from crossfarm.bundles.compile_report import Document, PortType
from crossfarm.config.base import Declared
from crossfarm.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

CALIBRATION = "calibration.json"


class CalibrationInput(Declared):
    """One input of the model."""

    port: PortType
    file: str
    """Its tensors of all cases, stacked: C order, little-endian, nothing else in the file."""


class Calibration(Document):
    """The whole of calibration.json."""

    cases: Annotated[int, Field(ge=1)]
    inputs: tuple[CalibrationInput, ...]


def write_calibration(folder: Path, cases: Sequence[Mapping[str, Array]]) -> None:
    """Write the artifact of the stage `calibration`.

    Args:
        folder: an empty one.
        cases: input name -> tensor, at least one; shapes and dtypes are those of the first.
    """
    import numpy as np

    (folder / "inputs").mkdir()
    inputs = []
    for number, (name, first) in enumerate(cases[0].items()):
        file = f"inputs/{number}.bin"
        little = first.dtype.newbyteorder("<")
        np.stack([case[name] for case in cases]).astype(little, copy=False).tofile(folder / file)
        port = PortType(name=name, dtype=first.dtype.name, shape=first.shape)
        inputs.append(CalibrationInput(port=port, file=file))
    Calibration(cases=len(cases), inputs=tuple(inputs)).write(folder / CALIBRATION)


def read_calibration(folder: Path, *, ports: Sequence[PortType], at_most: int | None = None) -> dict[str, Array]:
    """Read the artifact of the stage `calibration`.

    Args:
        folder: the artifact.
        ports: inputs of the prepared model, which these must fit.
        at_most: so many cases, at even distances; None for all.

    Returns:
        Name -> its tensors, stacked: shape (cases, ...), in the order of `ports`.

    Raises:
        BundleError: the artifact is damaged or empty, or was made for a model with other inputs.
    """
    import numpy as np

    document = Calibration.read(folder / CALIBRATION)
    found = {item.port.name: item for item in document.inputs}
    if {port.name: port for port in ports} != {name: item.port for name, item in found.items()}:
        raise BundleError(
            f"the calibration is of inputs {_shown([item.port for item in document.inputs])}, but the model takes "
            f"{_shown(ports)}; see to inputs and preprocess of the model in models.yaml, then make both again"
        )
    tensors = {}
    for port in ports:
        path = folder / found[port.name].file
        array = np.fromfile(path, np.dtype(port.dtype).newbyteorder("<")) if path.is_file() else np.empty(0, port.dtype)
        if array.size != document.cases * math.prod(port.shape):
            raise BundleError(
                f"{path.name} of the calibration holds no {document.cases} cases of {_shown([port])}; "
                "run the stage `calibration` again"
            )
        tensors[port.name] = array.reshape(document.cases, *port.shape)
    if at_most is None or at_most >= document.cases:
        return tensors
    chosen = [number * document.cases // at_most for number in range(at_most)]
    return {name: array[chosen] for name, array in tensors.items()}


def _shown(ports: Sequence[PortType]) -> str:
    return ", ".join(f"{port.name} {port.dtype} {list(port.shape)}" for port in ports)
