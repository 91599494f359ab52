"""What simulators share: a transport on this host that reads a bundle's cases and writes what the runner writes."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.boards.protocol import BoardState, DeployedBundle, ExitResult, Timing
from crossfarm.boards.result import OUTPUTS, OutputFile, RunResult
from crossfarm.boards.transports import local
from crossfarm.bundles.manifest import Manifest
from crossfarm.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a simulator found out.

    Attributes:
        outputs: name -> the tensors of all cases, stacked: shape (cases, ...), dtype as in the manifest.
        latency_ns: simulated time of one run, a sample for each that was simulated.
    """

    outputs: Mapping[str, Array]
    latency_ns: tuple[int, ...]


class SimulatedBoard(abc.ABC):
    """A simulator on this host; nothing is kept between runs."""

    timing: Timing = "simulated"
    emulator: str | None
    """Name and version of the simulator."""

    @abc.abstractmethod
    def simulate(self, bundle: Path, inputs: Mapping[str, Array], *, timeout: float) -> Simulated:
        """Run a bundle.

        Args:
            bundle: its folder.
            inputs: name -> the tensors of all cases, stacked: shape (cases, ...).
            timeout: seconds that it may take.

        Raises:
            BoardError: the simulator fails or takes too long.
        """

    def __enter__(self) -> SimulatedBoard:
        """Do nothing: this host is here."""
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 (a simulator may have something to end)
        """Do nothing: what a run leaves goes with the run."""

    def preflight(self) -> BoardState:
        """Look at this host."""
        return local.probe()

    def deploy(self, bundle: Path) -> DeployedBundle:
        """Leave a bundle where it is."""
        return DeployedBundle(place=str(bundle))

    def run(
        self, bundle: DeployedBundle, options: Sequence[str], *, output: Path, timeout: float, profile: bool = False
    ) -> ExitResult:
        """Run all cases of a bundle; see Transport. The runner's options say nothing to a simulator."""
        import numpy as np

        folder = Path(bundle.place)
        manifest = Manifest.read(folder / "manifest.json")
        inputs = {
            port.name: np.fromfile(folder / port.file, port.dtype).reshape(manifest.cases, *port.shape)
            for port in manifest.inputs
        }
        found = self.simulate(folder, inputs, timeout=timeout)
        files = []
        for number, port in enumerate(manifest.outputs):
            tensor, shape = found.outputs[port.name], (manifest.cases, *port.shape)
            if (tensor.dtype.name, tensor.shape) != (port.dtype, shape):
                raise BundleError(
                    f"{manifest.cell}: the simulator's output {port.name} is {tensor.dtype.name} of {tensor.shape}, "
                    f"not {port.dtype} of {shape}; mend the backend"
                )
            files.append(OutputFile(name=port.name, file=f"{number}.bin"))
            tensor.tofile(output / OUTPUTS / f"{number}.bin")
        RunResult(
            model=manifest.model,
            target=manifest.target,
            identity=manifest.identity,
            cases=manifest.cases,
            latency_ns=found.latency_ns,
            outputs=tuple(files),
        ).write(output)
        return ExitResult(code=0, tail="", state=local.probe())

    def probe(self) -> BoardState:
        """Look at this host now."""
        return local.probe()
