"""Place to run of the backend ethos_u: LiteRT's reference kernels answer; the time is Vela's estimate."""

from __future__ import annotations

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
from crossfarm.util.paths import HOME
from crossfarm.util.processes import failure, run_tool
from crossfarm.util.scratch import scratch_folder

if TYPE_CHECKING:
    from crossfarm.boards.simulators.base import Array

SCRIPT = HOME / "crossfarm" / "backends" / "ethos_u" / "answers.py"
NAME = "LiteRT's reference kernels"


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
            given, found = Path(name) / "inputs.npz", Path(name) / "outputs.npz"
            stacked: dict[str, Any] = {str(number): inputs[port.name] for number, port in enumerate(manifest.inputs)}
            np.savez(given, **stacked)
            command = [str(python), "-I", str(SCRIPT), str(bundle / ORIGINAL), str(given), str(found)]
            done = run_tool(command, processor_seconds=int(timeout), wall_seconds=timeout, merged=True)
            if done.returncode or not found.exists():
                raise BoardError(f"{manifest.cell}: LiteRT does not run it: {failure(done)}")
            with np.load(found, allow_pickle=False) as stored:
                outputs = {port.name: stored[str(number)] for number, port in enumerate(manifest.outputs)}
        return Simulated(
            outputs=outputs,
            latency_ns=(report.estimate.cycles * 1000 // megahertz_of(report),),
            timing="estimated",
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
