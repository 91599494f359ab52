"""Place to run of the backend ethos_u: LiteRT's reference kernels answer; the time is Vela's estimate."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.boards.protocol import Purpose
from crossfarm.boards.simulators.base import Simulated, SimulatedBoard
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport
from crossfarm.bundles.ethos_u import ENVIRONMENT, ORIGINAL, megahertz_of
from crossfarm.bundles.manifest import Manifest
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError
from crossfarm.util import sandbox
from crossfarm.util.paths import HOME
from crossfarm.util.processes import failure
from crossfarm.util.scratch import scratch_folder
from crossfarm.util.tool_sandbox import run_sandboxed

if TYPE_CHECKING:
    from crossfarm.boards.simulators.base import Array

SCRIPT = HOME / "crossfarm" / "backends" / "ethos_u" / "answers.py"
NAME = "LiteRT's reference kernels"
_GIVEN, _FOUND = "inputs.npz", "outputs.npz"


class EthosU(SimulatedBoard):
    """Answers with LiteRT."""

    emulator = NAME

    def simulate(self, bundle: Path, inputs: Mapping[str, Array], *, cases: int, timeout: float) -> Simulated:
        """Answer every case; each takes the estimated number of cycles."""
        import numpy as np

        manifest = Manifest.read(bundle / "manifest.json")
        report = AcceleratorReport.read(bundle / ACCELERATOR)
        python = ENVIRONMENT.interpreter()
        if python is None or report.estimate is None:
            raise BoardError(f"{manifest.cell}: {ENVIRONMENT.missing() or 'its bundle has no estimate'}")
        with scratch_folder("litert") as name:
            folder = Path(name) / "work"
            folder.mkdir()
            shutil.copyfile(bundle / ORIGINAL, folder / ORIGINAL)
            stacked: dict[str, Any] = {str(number): inputs[port.name] for number, port in enumerate(manifest.inputs)}
            np.savez(folder / _GIVEN, **stacked)
            done = run_sandboxed(
                [str(python), "-I", str(SCRIPT), ORIGINAL, _GIVEN, _FOUND],
                folder=folder,
                reads=(*ENVIRONMENT.folders(), SCRIPT),
                processor_seconds=max(1, int(timeout)),
                wall_seconds=timeout,
                slow="raise measure.timeout in the pipeline",
            )
            if done.returncode or not (folder / _FOUND).exists():
                raise BoardError(f"{manifest.cell}: LiteRT does not run it: {failure(done)}")
            with np.load(folder / _FOUND, allow_pickle=False) as stored:
                outputs = {port.name: stored[str(number)] for number, port in enumerate(manifest.outputs)}
        return Simulated(
            outputs=outputs,
            latency_ns=(report.estimate.cycles * 1000 // megahertz_of(report),),
            timing="estimated",
            sandbox=sandbox.available(),
        )


def open_board(board: Board, purpose: Purpose, *, token: int) -> EthosU:
    """Return it; it needs no lease."""
    return EthosU(purpose)


def fingerprint() -> Mapping[str, str]:
    """Return what measurements depend on."""
    return {"simulator": f"{NAME}, {ENVIRONMENT.folder_name}"}


def missing() -> str | None:
    """Return why it cannot run here."""
    return ENVIRONMENT.missing()
