"""Has NNgen make a core, in its own Python environment, and reads what it wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.bundles.compile_report import PortType
from crossfarm.bundles.rtl import CALIBRATION, ENVIRONMENT, MODEL, PARAMETERS, RTL, SCRIPT, VERILOG, CoreTensor, RtlCore
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, ToolMissingError
from crossfarm.util.tool_sandbox import run_sandboxed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossfarm.backends.rtl.backend import RtlCode

    Array = NDArray[Any]

PROCESSOR_SECONDS = 1200
HANGS_AFTER = 4
"""Times the cycles of the largest net that is simulated; the estimate is not off by that."""
FIRST = "first.npz"
"""What the functional model answers to the first case of the calibration."""


def scale_of(reals: Array, *, width: int) -> float:
    """Return the scale of an input: its largest magnitude in the calibration becomes the largest integer."""
    import numpy as np

    most = float(np.max(np.abs(reals), initial=0.0))
    return (2 ** (width - 1) - 1) / most if most > 0 else 1.0


def generate(
    calibration: Mapping[str, Array],
    *,
    cell: Cell,
    code: RtlCode,
    inputs: tuple[PortType, ...],
    outputs: tuple[PortType, ...],
    folder: Path,
) -> RtlCore:
    """Quantise core.onnx of a folder; write dut.v, parameters.bin, rtl.json and calibration.npz beside it.

    Args:
        calibration: input -> real numbers of all its cases, stacked.
        cell: for messages.
        code: width, parallelism and so on.
        inputs: of the model.
        outputs: of the model.
        folder: where NNgen runs; it leaves files of its own there.

    Raises:
        ModelError: NNgen refuses the model; its own last words are in the message.
        ToolError: NNgen is not there, or does not end.
    """
    import numpy as np

    python = ENVIRONMENT.interpreter()
    if python is None:
        raise ToolMissingError(f"{cell.id}: {ENVIRONMENT.missing()}")
    scales = {port.name: scale_of(calibration[port.name], width=code.width) for port in inputs}
    integers: dict[str, Any] = {}
    for number, port in enumerate(inputs):
        as_given = CoreTensor(
            name=port.name,
            shape=port.shape,
            order=tuple(range(len(port.shape))),
            aligned=port.shape,
            address=0,
            scale=scales[port.name],
        )
        integers[str(number)] = as_given.to_integers(calibration[port.name], width=code.width).astype(np.int16)
    np.savez_compressed(folder / CALIBRATION, **integers)
    request = folder / "request.json"
    request.write_text(json.dumps(nngen_request(code, scales=scales)), encoding="utf-8")
    done = run_sandboxed(
        [str(python), "-I", str(SCRIPT), "generate", request.name],
        folder=folder,
        reads=(*ENVIRONMENT.folders(), SCRIPT),
        processor_seconds=PROCESSOR_SECONDS,
    )
    written = folder / "core.json"
    if done.returncode or not written.exists():
        said = done.stdout.strip().splitlines()
        raise ModelError(
            f"{cell.id}: NNgen makes no core of it: {said[-1] if said else 'it said nothing'}; leave the cell out with "
            "`skip` in models.yaml, or see the log"
        )
    core = read_core(json.loads(written.read_text(encoding="utf-8")), code=code, inputs=inputs, outputs=outputs)
    core.write(folder / RTL)
    return core


def nngen_request(code: RtlCode, *, scales: Mapping[str, float]) -> dict[str, Any]:
    """Return the request of nngen_script.py for a core; files lie in its current folder."""
    return {
        "model": MODEL,
        "calibration": CALIBRATION,
        "width": code.width,
        "parallelism": code.parallelism,
        "bus": code.bus,
        "scales": dict(scales),
    }


def read_core(
    document: Mapping[str, Any], *, code: RtlCode, inputs: tuple[PortType, ...], outputs: tuple[PortType, ...]
) -> RtlCore:
    """Return what core.json says, with the shapes of the model."""
    shapes = {port.name: port.shape for port in (*inputs, *outputs)}
    tensors = {
        kind: tuple(CoreTensor.model_validate({**found, "shape": shapes[found["name"]]}) for found in document[kind])
        for kind in ("inputs", "outputs")
    }
    return RtlCore(
        width=code.width,
        parallelism=code.parallelism,
        bus=code.bus,
        megahertz=code.megahertz,
        most_cycles=HANGS_AFTER * code.most_cycles,
        inputs=tensors["inputs"],
        outputs=tensors["outputs"],
        parameters_address=document["parameters_address"],
        memory_bytes=document["memory_bytes"],
        state=document["state"],
    )


def copy_core(folder: Path, output: Path) -> None:
    """Copy what belongs to a core, and none of what NNgen left beside it."""
    for name in (VERILOG, PARAMETERS, RTL, MODEL, CALIBRATION):
        shutil.copyfile(folder / name, output / name)
