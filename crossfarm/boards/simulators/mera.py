"""MERA's functional model, InterpreterHw, answers all cases; its Simulator runs the first ones and counts cycles."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.boards.cpu_features import cpu_flags
from crossfarm.boards.protocol import Purpose
from crossfarm.boards.simulators.base import Simulated, SimulatedBoard
from crossfarm.bundles.manifest import Manifest
from crossfarm.bundles.mera import write_inputs
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError, BundleError
from crossfarm.util import sandbox
from crossfarm.util.mera.calls import INTERPRETER, MERA, SIMULATOR, VERSION, Step, call, order_of_axes
from crossfarm.util.scratch import scratch_folder

if TYPE_CHECKING:
    from crossfarm.boards.simulators.base import Array

_CPUINFO = Path("/proc/cpuinfo")
_CONTAINS = (
    "of {regions} on the array; neither operators left to the CPU nor transfers; MERA's estimate of latency, not cycle-"
    "accurate by its vendor's word"
)


class MeraBoard(SimulatedBoard):
    """MERA on this host."""

    emulator = f"MERA {VERSION}"

    def simulate(self, bundle: Path, inputs: Mapping[str, Array], *, cases: int, timeout: float) -> Simulated:
        """Run a bundle; see SimulatedBoard. One case is simulated at least: what it takes is known from there alone.

        Raises:
            ModelError: MERA refuses the model or crashes over it.
            ToolError: MERA is not there, or takes too long.
            BoardError: its simulator counts no cycles.
        """
        manifest = Manifest.read(bundle / "manifest.json")
        with scratch_folder("mera") as scratch:
            folder = scratch / "work"
            folder.mkdir()
            shutil.copytree(bundle / "deploy", folder / "deploy", copy_function=shutil.copyfile)
            write_inputs(bundle, folder)
            steps = [
                _step(folder, manifest, INTERPRETER, first=manifest.cases),
                _step(folder, manifest, SIMULATOR, first=max(cases, 1)),
            ]
            answers = call(
                steps,
                cell=manifest.cell,
                folder=folder,
                processor_seconds=max(1, round(timeout)),
                wall_seconds=timeout,
            )
            functional, simulated = (
                _outputs(manifest, step.request, answer["outputs"]) for step, answer in zip(steps, answers, strict=True)
            )
        metrics = answers[1]["metrics"]
        regions = [_regions(case, manifest.cell) for case in metrics]
        count = len(regions[0])
        return Simulated(
            outputs=functional,
            latency_ns=tuple(_nanoseconds(case) for case in regions),
            cycles=tuple(sum(int(region["total_sim_cycles"]) for region in case) for case in regions),
            contains=_CONTAINS.format(regions="one region" if count == 1 else f"{count} regions"),
            simulated=simulated,
            sandbox=sandbox.available(),
        )


def open_board(board: Board, purpose: Purpose, *, token: int) -> MeraBoard:
    """Return MERA on this host; see boards.protocol.TransportModule."""
    return MeraBoard(purpose)


def fingerprint() -> Mapping[str, str]:
    """Return the version; see boards.protocol.Simulator."""
    return {"simulator": MeraBoard.emulator}


def missing() -> str | None:
    """Return why it cannot run here; see boards.protocol.Simulator."""
    if "avx2" not in cpu_flags(_CPUINFO.read_text(encoding="utf-8")):
        return "MERA's libraries are for processors with AVX2, and this one has none; measure on another machine"
    return MERA.missing()


def _step(folder: Path, manifest: Manifest, target: str, *, first: int) -> Step:
    """Return the run of the first cases on one of MERA's targets, in a folder that holds what it needs of a bundle.

    A folder for the outputs is made there.
    """
    output = folder / target
    output.mkdir()
    return Step(
        doing=f"running {target} of",
        request={
            "action": "run",
            "deployed": str(folder / "deploy" / target),
            "inputs": [
                {
                    "name": port.name,
                    "dtype": port.dtype,
                    "shape": [port.shape[axis] for axis in order_of_axes(len(port.shape), variant=manifest.variant)],
                    "file": str(folder / port.file),
                }
                for port in manifest.inputs
            ],
            "cases": manifest.cases,
            "first": first,
            "metrics": target == SIMULATOR,
            "output": str(output),
        },
    )


def _outputs(manifest: Manifest, request: Mapping[str, Any], described: Sequence[Any]) -> dict[str, Array]:
    """Return what a run answered: name -> its tensors, stacked.

    Raises:
        BundleError: it has another number of outputs than the model.
    """
    import numpy as np

    folder, cases = Path(request["output"]), request["first"]
    if len(described) != len(manifest.outputs):
        raise BundleError(
            f"{manifest.cell}: MERA's {folder.name} has {len(described)} outputs, and the model "
            f"{len(manifest.outputs)}; compile it again"
        )
    return {
        port.name: np.fromfile(folder / f"{number}.bin", item["dtype"]).reshape(cases, *_shape(item, port.shape))
        for number, (port, item) in enumerate(zip(manifest.outputs, described, strict=True))
    }


def _shape(item: Any, declared: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an output: MERA may leave out axes of extent 1, which changes nothing of what lies where."""
    found = tuple(item["shape"])
    return declared if [n for n in found if n != 1] == [n for n in declared if n != 1] else found


def _regions(metrics: Any, cell: str) -> Sequence[Mapping[str, Any]]:
    """Return what a run says of each region of the model that went to the array.

    Raises:
        BoardError: it counted nothing.
    """
    found = metrics if isinstance(metrics, list) else [metrics]
    regions = [item for item in found if isinstance(item, Mapping) and "total_sim_cycles" in item]
    if not regions:
        raise BoardError(f"{cell}: MERA's simulator says no cycles: {str(metrics)[:200]}; see the log")
    return regions


def _nanoseconds(regions: Sequence[Mapping[str, Any]]) -> int:
    return round(sum(int(region["total_sim_cycles"]) * 1e3 / float(region["freq_mhz"]) for region in regions))
