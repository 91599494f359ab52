"""rtl.json: how a core of the backend rtl is spoken to, and what its integers stand for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from crossfarm.bundles.compile_report import Document
from crossfarm.config.base import Declared, Sha256
from crossfarm.util.environments import ToolEnvironment
from crossfarm.util.paths import HOME

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

ENVIRONMENT = ToolEnvironment(
    name="rtl",
    packages=("verilator", "iverilog", "yosys", "g++", "make"),
    programs=("verilator", "iverilog", "yosys", "g++", "make"),
)
"""Holds NNgen; the packages make its Verilog into a simulator, check it and estimate its size."""
SCRIPT = HOME / "crossfarm" / "backends" / "rtl" / "nngen_script.py"
"""Runs in that environment."""

RTL = "rtl.json"
VERILOG = "dut.v"
SIMULATOR = "simulator"
PARAMETERS = "parameters.bin"
"""The part of the core's memory that holds weights, biases and scales."""
MODEL = "core.onnx"
"""The model in the form that NNgen reads."""
CALIBRATION = "calibration.npz"
"""The integers from which the shifts of all layers follow, by the number of the input."""

MEMORY_LATENCY = 10
"""Cycles from an address to the first word of a burst, and from the last word written to the response."""
CONTAINS = (
    f"the whole core and its memory over AXI, {MEMORY_LATENCY} cycles to the first word of a burst, then a word a "
    "cycle; from the write that starts it to its interrupt"
)


class CoreTensor(Declared):
    """An input or output of the core."""

    name: str
    shape: tuple[int, ...]
    """As in the model."""
    order: tuple[int, ...]
    """Axis k of the core is the model's axis order[k]."""
    aligned: tuple[int, ...]
    """Shape in memory, in the core's order: the last axis is padded to whole words."""
    address: int
    scale: Annotated[float, Field(gt=0)]
    """An integer stands for itself divided by this."""

    def to_integers(self, reals: Array, *, width: int) -> Array:
        """Return the integers of real numbers: rint(x * scale), cut off symmetrically to `width` bits.

        Args:
            reals: shape (cases, ...).
            width: bits of an integer.
        """
        import numpy as np

        most = 2 ** (width - 1) - 1
        return np.clip(np.rint(reals.astype(np.float64) * self.scale), -most, most).astype(np.int32)

    def to_reals(self, integers: Array) -> Array:
        """Return the float32 numbers that integers stand for."""
        import numpy as np

        return (integers.astype(np.float64) / self.scale).astype(np.float32)

    def to_memory(self, integers: Array, *, width: int) -> bytes:
        """Return what lies in the core's memory for each case, one after another.

        Args:
            integers: shape (cases, ...), axes as in the model.
            width: bits of an integer.
        """
        import numpy as np

        ordered = integers.transpose(0, *(axis + 1 for axis in self.order))
        padded = np.zeros((len(integers), *self.aligned), f"<i{width // 8}")
        padded[..., : ordered.shape[-1]] = ordered
        return padded.tobytes()

    def from_memory(self, content: bytes, *, width: int) -> Array:
        """Return the integers of each case, axes as in the model, from what `to_memory` gives."""
        import numpy as np

        padded = np.frombuffer(content, f"<i{width // 8}").reshape(-1, *self.aligned)
        ordered = padded[..., : self.shape[self.order[-1]]]
        back = [self.order.index(axis) + 1 for axis in range(len(self.shape))]
        return ordered.transpose(0, *back).astype(np.int32)

    def memory_bytes(self, *, width: int) -> int:
        """Return how much of the memory one case takes."""
        return math.prod(self.aligned) * width // 8


class RtlCore(Document):
    """The whole file."""

    format: Literal[1] = 1
    width: Literal[8, 16]
    """Bits of weights and activations."""
    parallelism: int
    """Input channels, and output channels, that are computed in one cycle."""
    bus: int
    """Bits of the memory port."""
    megahertz: int
    most_cycles: int
    """Of one case; a core that takes more is taken to hang."""
    inputs: tuple[CoreTensor, ...]
    outputs: tuple[CoreTensor, ...]
    parameters_address: int
    memory_bytes: int
    state: Sha256
    """Over all quantised numbers: the functional model must be the very one that the core was made from."""


def simulator_words(core: RtlCore, *, cases: int, folder: str, output: str) -> list[str]:
    """Return the arguments of a core's simulator.

    Args:
        core: the core.
        cases: how many images its input files hold.
        folder: with parameters.bin, and inputK.bin for each input, as the simulator sees it.
        output: gets `cycles.txt`, a line for each case, and outputK.bin for each output.
    """
    words = [str(core.memory_bytes), str(MEMORY_LATENCY), str(core.most_cycles), str(cases), f"{output}/cycles.txt"]
    words += ["parameters", str(core.parameters_address), "0", f"{folder}/{PARAMETERS}"]
    for kind, tensors, place in (("input", core.inputs, folder), ("output", core.outputs, output)):
        for number, tensor in enumerate(tensors):
            length = tensor.memory_bytes(width=core.width)
            words += [kind, str(tensor.address), str(length), f"{place}/{kind}{number}.bin"]
    return words


def write_inputs(core: RtlCore, integers: Mapping[str, Array], folder: Path, *, cases: int) -> None:
    """Write inputK.bin for each input: what lies in memory for the first cases."""
    for number, tensor in enumerate(core.inputs):
        content = tensor.to_memory(integers[tensor.name][:cases], width=core.width)
        (folder / f"input{number}.bin").write_bytes(content)
