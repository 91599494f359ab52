"""Place to run of the backend rtl: NNgen evaluates all cases, the Verilated core runs the first of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.boards.protocol import Purpose, killed
from crossfarm.boards.simulators.base import Simulated, SimulatedBoard
from crossfarm.boards.transports import programs
from crossfarm.bundles.rtl import (
    CALIBRATION,
    CONTAINS,
    ENVIRONMENT,
    MODEL,
    PARAMETERS,
    RTL,
    SCRIPT,
    SIMULATOR,
    RtlCore,
    simulator_words,
    write_inputs,
)
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError, BundleError
from crossfarm.util import sandbox
from crossfarm.util.processes import failure
from crossfarm.util.scratch import scratch_folder
from crossfarm.util.tool_sandbox import run_sandboxed

if TYPE_CHECKING:
    from crossfarm.boards.simulators.base import Array

NAME = "RTL in Verilator, beside NNgen's evaluation"
_OTHER_STATE = 3
"""Exit code of nngen_script.py: it quantised otherwise than when the core was made."""
_CYCLES = "cycles.txt"
_MOST_TEXT = 1 << 20


class Rtl(SimulatedBoard):
    """Runs a core."""

    emulator = NAME

    def simulate(self, bundle: Path, inputs: Mapping[str, Array], *, cases: int, timeout: float) -> Simulated:
        """Evaluate every case, and simulate the first ones in one core.

        Raises:
            BundleError: the bundle is damaged, or its model is quantised otherwise here.
            BoardError: NNgen is not there; it or the simulator fails, or takes too long.
        """
        core = RtlCore.read(bundle / RTL)
        integers = {tensor.name: tensor.to_integers(inputs[tensor.name], width=core.width) for tensor in core.inputs}
        answers = evaluate(bundle, core, integers, timeout=timeout)
        cycles, found = run_core(bundle, core, integers, cases=cases, timeout=timeout)
        return Simulated(
            outputs={tensor.name: tensor.to_reals(answers[tensor.name]) for tensor in core.outputs},
            latency_ns=tuple(count * 1000 // core.megahertz for count in cycles),
            cycles=cycles,
            contains=CONTAINS,
            simulated={tensor.name: tensor.to_reals(found[tensor.name]) for tensor in core.outputs},
            sandbox=sandbox.available(),
        )


def evaluate(bundle: Path, core: RtlCore, integers: Mapping[str, Array], *, timeout: float) -> dict[str, Array]:
    """Return what the functional model answers: output -> integers of all cases, stacked.

    Args:
        bundle: with core.onnx and calibration.npz.
        core: the core.
        integers: input -> integers of all cases, stacked.
        timeout: seconds that it may take.

    Raises:
        BundleError: the model was quantised otherwise when the core was made.
        BoardError: NNgen is not there, fails or takes too long.
    """
    import numpy as np

    python = ENVIRONMENT.interpreter()
    if python is None:
        raise BoardError(f"the functional model cannot be run: {ENVIRONMENT.missing()}")
    with scratch_folder("nngen") as name:
        folder = name / "work"
        folder.mkdir()
        for file in (MODEL, CALIBRATION):
            shutil.copyfile(bundle / file, folder / file)
        request = {
            "model": MODEL,
            "calibration": CALIBRATION,
            "width": core.width,
            "parallelism": core.parallelism,
            "bus": core.bus,
            "scales": {tensor.name: tensor.scale for tensor in core.inputs},
            "state": core.state,
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        given: dict[str, Any] = {str(number): integers[item.name] for number, item in enumerate(core.inputs)}
        np.savez(folder / "inputs.npz", **given)
        done = run_sandboxed(
            [str(python), "-I", str(SCRIPT), "evaluate", "request.json"],
            folder=folder,
            reads=(*ENVIRONMENT.folders(), SCRIPT),
            processor_seconds=max(1, int(timeout)),
            wall_seconds=timeout,
            slow="raise measure.timeout in the pipeline",
        )
        if done.returncode == _OTHER_STATE:
            raise BundleError(
                "the model is quantised otherwise here than when its core was made, so its answers would say nothing; "
                "make the bundle again"
            )
        if done.returncode or not (folder / "outputs.npz").exists():
            raise BoardError(f"NNgen does not evaluate the model: {failure(done)}")
        with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
            return {tensor.name: stored[str(number)] for number, tensor in enumerate(core.outputs)}


def run_core(
    bundle: Path, core: RtlCore, integers: Mapping[str, Array], *, cases: int, timeout: float
) -> tuple[tuple[int, ...], dict[str, Array]]:
    """Run the first cases through the simulated core, in a sandbox; its whole process group ends with it.

    Returns:
        The cycles of each case; output -> integers of these cases, stacked.

    Raises:
        BundleError: it wrote something else than so many cases.
        BoardError: it cannot be started, fails, hangs or takes too long.
    """
    with scratch_folder("core") as name:
        shown, written = Path(name) / "bundle", Path(name) / "out"
        for folder in (shown, written):
            folder.mkdir()
            folder.chmod(0o755)
        shutil.copyfile(bundle / PARAMETERS, shown / PARAMETERS)
        shutil.copyfile(bundle / SIMULATOR, shown / SIMULATOR)
        (shown / SIMULATOR).chmod(0o755)
        write_inputs(core, integers, shown, cases=cases)
        files = (_CYCLES, *(f"output{number}.bin" for number in range(len(core.outputs))))
        sandbox.offer(written, files)
        _run(core, shown, written, files, cases=cases, timeout=timeout)
        lines = (written / _CYCLES).read_text(encoding="ascii", errors="replace").split()
        if len(lines) != cases or not all(line.isdecimal() and len(line) < 16 for line in lines):
            raise BundleError(f"the simulator tells no cycles of {cases} cases; make the bundle again")
        found = {}
        for number, tensor in enumerate(core.outputs):
            content = (written / f"output{number}.bin").read_bytes()
            if len(content) != cases * tensor.memory_bytes(width=core.width):
                raise BundleError(
                    f"the simulator wrote {len(content)} bytes of output {tensor.name} for {cases} cases; "
                    "make the bundle again"
                )
            found[tensor.name] = tensor.from_memory(content, width=core.width)
        return tuple(map(int, lines)), found


def _run(core: RtlCore, shown: Path, written: Path, files: tuple[str, ...], *, cases: int, timeout: float) -> None:
    kind = sandbox.available()
    if kind == "none":
        words = simulator_words(core, cases=cases, folder=str(shown), output=str(written))
        code, tail = programs.wait_for(
            [str(shown / SIMULATOR), *words],
            name=SIMULATOR,
            environment=sandbox.ENVIRONMENT,
            timeout=timeout,
            politely=False,
        )
    else:
        largest = max(tensor.memory_bytes(width=core.width) for tensor in core.outputs)
        contents = sandbox.SandboxContents(
            bundle=shown, output=written, files=files, most_bytes=max(_MOST_TEXT, largest * cases)
        )
        words = simulator_words(core, cases=cases, folder=sandbox.BUNDLE, output=sandbox.OUTPUT)
        command = [f"{sandbox.BUNDLE}/{SIMULATOR}", *words]
        try:
            command = sandbox.sandbox_command(kind, contents, command, scratch=written.parent)
        except FileNotFoundError as error:
            raise BoardError(f"the simulator cannot be sandboxed: {error}; {sandbox.ADVICE}") from error
        code, tail = programs.wait_for(
            command, name=SIMULATOR, environment=sandbox.ENVIRONMENT, timeout=timeout, politely=False
        )
    if code < 0 or code > 128:
        raise killed(SIMULATOR, number=-code if code < 0 else code - 128, tail=tail)
    if code:
        said = tail.strip().splitlines()
        raise BoardError(
            f"the simulated core failed (exit code {code}): {said[-1] if said else 'it said nothing'}; its RTL "
            "is wrong, or the bundle damaged: make the bundle again, or leave the cell out with `skip` in models.yaml"
        )


def open_board(board: Board, purpose: Purpose, *, token: int) -> Rtl:
    """Return it; it needs no lease."""
    return Rtl(purpose)


def fingerprint() -> Mapping[str, str]:
    """Return what measurements depend on."""
    return {"simulator": f"{NAME}, {ENVIRONMENT.folder_name}"}


def missing() -> str | None:
    """Return why it cannot run here."""
    return ENVIRONMENT.missing()
