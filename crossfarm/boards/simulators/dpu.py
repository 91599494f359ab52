"""Simulator of the DPU-style array: a C program answers every case, the Verilated core the first ones of small nets.

What the array leaves over runs in ONNX Runtime on this host, in the order that plan.json gives.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.boards.protocol import Purpose
from crossfarm.boards.simulators.base import Simulated, SimulatedBoard
from crossfarm.boards.transports import programs
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError, BundleError, ToolError
from crossfarm.util.files import replacing
from crossfarm.util.paths import HOME
from crossfarm.util.processes import failure, run_tool
from crossfarm.util.scratch import scratch_folder

if TYPE_CHECKING:
    from crossfarm.boards.simulators.base import Array

VERSION = "dpu functional model 1"
CORES = HOME / ".crossfarm" / "cores"
"""Verilated cores by what they were built from."""
MOST_MACS = 50_000_000
"""Of a run; larger nets are not simulated, which would take minutes a case."""
_BUILD_PROCESSOR_SECONDS = 1800
_REFUSED = 3
_PARAMETERS = ("pixels", "channels", "alu_pixels", "feature_words", "weight_words")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Bundle:
    """What of a bundle a run needs: its folder and plan.json."""

    folder: Path
    plan: Mapping[str, Any]

    def port(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Return dtype and shape of a value."""
        port = self.plan["ports"][name]
        return port["dtype"], tuple(port["shape"])


class DpuSimulator(SimulatedBoard):
    """The array on this host."""

    emulator = VERSION

    def simulate(self, bundle: Path, inputs: Mapping[str, Array], *, cases: int, timeout: float) -> Simulated:
        """Answer every case by the functional model, and the first ones by the core where it can be had."""
        read = _read(bundle)
        ends = time.monotonic() + timeout
        program = [str(bundle / "program")]
        outputs, _ = _run(read, inputs, program, ends)
        plan = read.plan
        estimate = _nanoseconds(plan["cycles"], plan)
        core = None
        why = _not_simulated(read)
        if cases and why is None:
            core = build_core(bundle / "core", {name: plan[name] for name in _PARAMETERS})
        if core is None:
            self.emulator = VERSION if why is None else f"{VERSION}; core not simulated: {why}"
            return Simulated(outputs=outputs, latency_ns=(estimate,), timing="estimated")
        some = {name: array[:cases] for name, array in inputs.items()}
        simulated, cycles = _run(read, some, [str(core)], ends)
        return Simulated(
            outputs=outputs,
            latency_ns=tuple(_nanoseconds(each, plan) for each in cycles),
            cycles=tuple(cycles),
            contains=plan["contains"],
            simulated=simulated,
        )


def open_board(board: Board, purpose: Purpose, *, token: int) -> DpuSimulator:
    """Return the simulator; it needs no lease."""
    return DpuSimulator(purpose)


def fingerprint() -> Mapping[str, str]:
    """Return what measurements depend on: the model's version, and whether and which Verilator is there."""
    return {"simulator": VERSION, "verilator": verilator_version() or "none"}


def missing() -> str | None:
    """Return None: without Verilator the cells are measured all the same, their cycles estimated."""
    return None


def verilator_version() -> str | None:
    """Return the version of Verilator; None when it cannot build a core here."""
    found = [shutil.which(name) for name in ("verilator", "gcc", "g++", "make")]
    return None if None in found else _version_of(str(found[0]))


@functools.cache
def _version_of(verilator: str) -> str | None:
    """Ask once: plans ask for each cell."""
    done = run_tool([verilator, "--version"], wall_seconds=60.0)
    words = done.stdout.split()
    return words[1] if done.returncode == 0 and len(words) > 1 else None


def build_core(sources: Path, parameters: Mapping[str, int]) -> Path:
    """Return the Verilated core with these parameters, built once for these sources.

    Args:
        sources: folder of the core's SystemVerilog and its testbench.
        parameters: name -> value, as in plan.json.

    Raises:
        ToolError: Verilator refuses the sources, or the C++ compiler fails.
    """
    files = sorted(path for path in sources.iterdir() if path.is_file())
    digest = hashlib.sha256(json.dumps([verilator_version(), dict(parameters)], sort_keys=True).encode())
    for path in files:
        digest.update(f"{path.name}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    CORES.mkdir(parents=True, exist_ok=True)
    program = CORES / digest.hexdigest()[:32]
    with (CORES / f"{program.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            with tempfile.TemporaryDirectory(prefix="build-", dir=CORES) as folder, replacing(program) as new:
                shutil.copyfile(_verilate(Path(folder), files, parameters), new)
                new.chmod(0o755)
    return program


def _verilate(folder: Path, files: Iterable[Path], parameters: Mapping[str, int]) -> Path:
    for path in files:
        shutil.copyfile(path, folder / path.name)
    names = sorted(path.name for path in folder.iterdir())
    objects = []
    for name in names:
        if name.endswith(".c"):
            objects.append(str(folder / f"{name}.o"))
            _build(["gcc", "-std=c17", "-O2", "-Wall", "-Wextra", "-Werror", "-c", name, "-o", objects[-1]], folder)
    macros = " ".join(f"-DCORE_{name.upper()}={int(value)}" for name, value in parameters.items())
    command = [
        *(
            "verilator",
            "--cc",
            "--exe",
            "--build",
            "-Wall",
            "-O3",
            "-CFLAGS",
            f"-O2 -std=c++17 -I.. {macros}",
            "-j",
            "1",
        ),
        *("--top-module", "dpu_core", "-Mdir", "made", "-o", "core"),
        *(f"-G{name.upper()}={int(value)}" for name, value in parameters.items()),
        *sorted((name for name in names if name.endswith(".sv")), key=lambda name: not name.endswith("_pkg.sv")),
        *(name for name in names if name.endswith(".cpp")),
        *objects,
    ]
    _build(command, folder)
    return folder / "made" / "core"


def _build(command: Sequence[str], folder: Path) -> None:
    done = run_tool(command, folder=folder, processor_seconds=_BUILD_PROCESSOR_SECONDS, merged=True)
    if done.returncode != 0:
        raise ToolError(
            f"the core cannot be built: {failure(done)}\n\nMend runner/dpu/rtl, or install another Verilator."
        )


def _not_simulated(bundle: _Bundle) -> str | None:
    """Return why the core does not run this bundle; None when it does."""
    if bundle.plan["macs"] > MOST_MACS:
        return f"{bundle.plan['macs']:,} MACs a case, at most {MOST_MACS:,} are simulated"
    if verilator_version() is None:
        return "Verilator, g++ or make is not installed (apt-get install verilator g++ make)"
    return None


def _read(folder: Path) -> _Bundle:
    try:
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        if not isinstance(plan, dict) or not isinstance(plan["parts"], list):
            raise KeyError("parts")
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"plan.json cannot be used: {error}; make the bundle again") from error
    return _Bundle(folder=folder, plan=plan)


def _run(
    bundle: _Bundle, inputs: Mapping[str, Array], program: list[str], ends: float
) -> tuple[dict[str, Array], list[int]]:
    """Run all parts over some cases; returns the model's outputs, and cycles of each case where the program counts."""
    values = dict(inputs)
    count = len(next(iter(inputs.values())))
    cycles = [0] * count
    for part in bundle.plan["parts"]:
        if part["side"] == "cpu":
            values |= _on_cpu(bundle, part, values, count)
            continue
        with scratch_folder("board-run") as folder:
            call = _Call(program=program, folder=folder, ends=ends)
            found, taken = _on_array(bundle, part, values, count, call)
        values |= found
        cycles = [one + other for one, other in zip(cycles, taken, strict=True)]
    names = json.loads((bundle.folder / "manifest.json").read_text(encoding="utf-8"))["outputs"]
    return {port["name"]: values[port["name"]] for port in names}, cycles


def _on_cpu(bundle: _Bundle, part: Mapping[str, Any], values: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Run a part in ONNX Runtime, case by case, as the reference is run."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = (bundle.folder / part["model"]).read_bytes()
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        answers = [
            session.run(part["outputs"], {name: values[name][case] for name in part["inputs"]}) for case in range(count)
        ]
    except Exception as error:
        # ONNX Runtime raises errors of many types here, and what the user can do about them is the same.
        raise BundleError(f"{part['model']} does not run in ONNX Runtime: {error}; make the bundle again") from error
    return {
        name: np.stack([np.asarray(answer[number]) for answer in answers])
        for number, name in enumerate(part["outputs"])
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Call:
    """How a program is called: with these words first, in this folder, until this time."""

    program: Sequence[str]
    folder: Path
    ends: float


def _on_array(
    bundle: _Bundle, part: Mapping[str, Any], values: Mapping[str, Array], count: int, call: _Call
) -> tuple[dict[str, Array], list[int]]:
    """Run a part by the functional model or the core, all cases in one call."""
    import numpy as np

    files = []
    for number, name in enumerate(part["inputs"]):
        files.append(call.folder / f"in{number}")
        np.ascontiguousarray(values[name]).tofile(files[-1])
    outputs = [call.folder / f"out{number}" for number in range(len(part["outputs"]))]
    command = [*call.program, str(bundle.folder / part["commands"]), str(bundle.folder / part["constants"]), str(count)]
    done = programs.run(
        [*command, *map(str, files), *map(str, outputs)], timeout=max(1.0, call.ends - time.monotonic())
    )
    if done.code == _REFUSED:
        raise BundleError(f"{part['commands']}: {done.tail.strip()}; make the bundle again")
    if done.code != 0:
        raise BoardError(f"the functional model ended with exit code {done.code}: {done.tail.strip()}; see the log")
    found = {}
    for name, path in zip(part["outputs"], outputs, strict=True):
        dtype, shape = bundle.port(name)
        found[name] = np.fromfile(path, dtype).reshape(count, *shape)
    cycles = [int(line.split()[1]) for line in done.tail.splitlines() if line.startswith("cycles ")]
    return found, cycles or [0] * count


def _nanoseconds(cycles: int, plan: Mapping[str, Any]) -> int:
    return int(cycles * 1000 // plan["megahertz"])
