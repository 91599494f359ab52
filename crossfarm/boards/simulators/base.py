"""What simulators share: a transport on this host that reads a bundle's cases and writes what the runner writes."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.boards.protocol import BoardState, DeployedBundle, ExitResult, Purpose, Timing
from crossfarm.boards.result import OUTPUTS, SIMULATED, OutputFile, RunResult, SimulatedRuns
from crossfarm.boards.transports import local
from crossfarm.bundles.manifest import Manifest
from crossfarm.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a bundle takes, in bytes; None for what there is not.

    Attributes:
        arena: of tensors and temporary memory.
        weights: of the model.
        program: code and constants beside the weights.
        workspace_peak: the most that was taken of the temporary memory.
        stack_peak: the most that was taken of the stack, below the caller of a run.
    """

    arena: int | None = None
    weights: int | None = None
    program: int | None = None
    workspace_peak: int | None = None
    stack_peak: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a simulator found out.

    Attributes:
        outputs: name -> what the functional model answers to all cases, stacked: shape (cases, ...), dtype as in the
            manifest.
        latency_ns: simulated or estimated time of one run, a sample for each that was simulated.
        timing: `simulated` where cycles were counted while it ran, `estimated` where they were computed, `emulated`
            where an emulator that counts none ran the processor's own code.
        cycles: of each case that the slow simulator ran, the first ones; empty where there is no such simulator.
        contains: what the cycles contain and what not, in a few words.
        simulated: name -> what the slow simulator answers to those cases, stacked.
        sizes: what the bundle takes.
        sandbox: what sandboxed the simulator; None where nothing was to be.
    """

    outputs: Mapping[str, Array]
    latency_ns: tuple[int, ...]
    timing: Timing = "simulated"
    cycles: tuple[int, ...] = ()
    contains: str = ""
    simulated: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    sizes: Sizes = Sizes()
    sandbox: str | None = None


class SimulatedBoard(abc.ABC):
    """A simulator on this host; nothing is kept between runs."""

    timing: Timing = "simulated"
    emulator: str | None
    """Name and version of the simulator."""

    def __init__(self, purpose: Purpose) -> None:
        """Keep what it is wanted for."""
        self._purpose = purpose

    @abc.abstractmethod
    def simulate(self, bundle: Path, inputs: Mapping[str, Array], *, cases: int, timeout: float) -> Simulated:
        """Run a bundle.

        Args:
            bundle: its folder.
            inputs: name -> the tensors of all cases, stacked: shape (cases, ...).
            cases: how many of the first cases a slow simulator runs; the functional model answers all.
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
        cases = min(self._purpose.simulated_cases, manifest.cases)
        found = self.simulate(folder, inputs, cases=cases, timeout=timeout)
        self.timing = found.timing
        files = _write(output / OUTPUTS, found.outputs, manifest, cases=manifest.cases)
        simulated = None
        if found.cycles:
            (output / SIMULATED).mkdir()
            simulated = SimulatedRuns(
                cycles=found.cycles,
                contains=found.contains,
                outputs=_write(output / SIMULATED, found.simulated, manifest, cases=len(found.cycles)),
            )
        RunResult(
            model=manifest.model,
            target=manifest.target,
            identity=manifest.identity,
            cases=manifest.cases,
            latency_ns=found.latency_ns,
            outputs=files,
            simulated=simulated,
            arena_bytes=found.sizes.arena,
            weights_bytes=found.sizes.weights,
            program_bytes=found.sizes.program,
            workspace_peak_bytes=found.sizes.workspace_peak,
            stack_peak_bytes=found.sizes.stack_peak,
        ).write(output)
        return ExitResult(code=0, tail="", state=local.probe(), sandbox=found.sandbox)

    def probe(self) -> BoardState:
        """Look at this host now."""
        return local.probe()


def _write(folder: Path, tensors: Mapping[str, Array], manifest: Manifest, *, cases: int) -> tuple[OutputFile, ...]:
    """Write the tensors of a bundle's outputs, K.bin each.

    Raises:
        BundleError: one of them has another dtype or shape than the manifest says.
    """
    files = []
    for number, port in enumerate(manifest.outputs):
        tensor, shape = tensors[port.name], (cases, *port.shape)
        if (tensor.dtype.name, tensor.shape) != (port.dtype, shape):
            raise BundleError(
                f"{manifest.cell}: the simulator's output {port.name} is {tensor.dtype.name} of {tensor.shape}, "
                f"not {port.dtype} of {shape}; mend the backend"
            )
        files.append(OutputFile(name=port.name, file=f"{number}.bin"))
        tensor.tofile(folder / f"{number}.bin")
    return tuple(files)
