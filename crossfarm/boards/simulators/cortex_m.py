"""Simulator of the backend mcu: qemu-system-arm runs a bundle's test image, which reads the cases by semihosting.

Semihosting opens files with the rights of the emulator, so the emulator runs in the sandbox that programs of bundles
run in. Its clock counts instructions, one a nanosecond, so that times are the same on every host; they are no times of
a real processor, which waits for its flash and takes more than one cycle for some instructions.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from crossfarm.boards.protocol import Purpose, killed
from crossfarm.boards.result import Size, Written
from crossfarm.boards.simulators.base import Simulated, SimulatedBoard, Sizes
from crossfarm.boards.transports import local, programs, written
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport
from crossfarm.bundles.manifest import Manifest
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError, BundleError, CrossfarmError, ModelError
from crossfarm.util import sandbox

if TYPE_CHECKING:
    from crossfarm.boards.simulators.base import Array

PROGRAM = "qemu-system-arm"
PACKAGE = "qemu-system-arm"
"""Of Debian."""
IMAGE = "image.elf"
MACHINES = {"cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500"}
"""LLVM's name of a processor -> the emulated board that has it."""
_SHELL_CODES = 128
"""A sandbox ends with this and the number of the signal that ended the program."""
_FAILURES: Mapping[int, tuple[type[CrossfarmError], str]] = {
    2: (BundleError, "make the bundle again"),
    3: (BundleError, "make the bundle again"),
    4: (ModelError, "see the log; if the reference runs, report it"),
    5: (BoardError, "see to this machine's disk"),
    6: (ModelError, "report it: the compiler counted too little memory"),
    7: (ModelError, "its stack may be too small, or code.cpu and code.features of the toolchain file wrong"),
}
"""The image's exit codes (runner/mcu/image/image.h)."""


class _Result(Written):
    """What the image says of a run."""

    nanoseconds: tuple[Size, ...]
    workspace_peak_bytes: Size
    stack_peak_bytes: Size


class CortexM(SimulatedBoard):
    """An emulated Cortex-M."""

    timing = "emulated"

    def __init__(self, purpose: Purpose) -> None:
        super().__init__(purpose)
        self.emulator = version()

    def simulate(self, bundle: Path, inputs: Mapping[str, Array], *, cases: int, timeout: float) -> Simulated:
        """Run all cases; what the emulator answers is what the code does, so nothing stands beside it.

        Raises:
            BoardError: the emulator is missing, is killed or takes too long.
            BundleError: the image is missing, or refuses what it is given.
            ModelError: the model's code fails.
        """
        manifest = Manifest.read(bundle / "manifest.json")
        files = written.declared(bundle, profile=False)
        with tempfile.TemporaryDirectory(prefix="crossfarm-run-", ignore_cleanup_errors=True) as name:
            folder = Path(name, "out")
            folder.mkdir()
            sandbox.offer(folder, tuple(files))
            (folder / written.OUTPUTS).mkdir(exist_ok=True)
            kind = _run(bundle, self._machine(), folder, files=files, timeout=timeout, cell=manifest.cell)
            taken = Path(name, "taken")
            taken.mkdir()
            written.take(folder, files, taken)
            result = _read(taken / written.RESULT, manifest)
            outputs = _outputs(taken / written.OUTPUTS, manifest)
        return Simulated(
            outputs=outputs,
            latency_ns=result.nanoseconds,
            timing="emulated",
            sizes=_sizes(bundle, result),
            sandbox=kind,
        )

    def _machine(self) -> tuple[str, str]:
        """Return emulated board and processor."""
        processor = self._purpose.code.cpu if self._purpose.code is not None else ""
        if processor not in MACHINES:
            raise BoardError(
                f"{self._purpose.target}: no board is emulated for the processor {processor!r}, only for "
                f"{', '.join(MACHINES)}; leave out the stages measure and check"
            )
        return MACHINES[processor], processor


def open_board(board: Board, purpose: Purpose, *, token: int) -> CortexM:
    """Return the emulator; it needs no lease.

    Raises:
        BoardError: it is not installed.
    """
    lacking = missing()
    if lacking:
        raise BoardError(lacking)
    return CortexM(purpose)


def fingerprint() -> Mapping[str, str]:
    """Return what measurements depend on: which emulator it is."""
    found = shutil.which(PROGRAM)
    if found is None:
        return {"emulator": "missing"}
    status = Path(found).stat()
    return {"emulator": f"{found} {status.st_size} {status.st_mtime_ns}"}


def missing() -> str | None:
    """Return why it cannot run here, and what to do; None when it can."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not on PATH; install it: apt-get install {PACKAGE}"
    return None


@functools.cache
def version() -> str:
    """Return name and version of the emulator."""
    found = shutil.which(PROGRAM)
    return local.emulator_version(found) if found is not None else PROGRAM


def _run(
    bundle: Path, machine: tuple[str, str], folder: Path, *, files: Mapping[str, int], timeout: float, cell: str
) -> sandbox.SandboxKind:
    """Run the image, whose outputs go into a folder that has the files; return what sandboxed the emulator."""
    kind = sandbox.available()
    emulator = shutil.which(PROGRAM) or PROGRAM
    readable = _readable(bundle, folder.parent)
    if kind == "none":
        words = _words(machine, str(readable), str(folder))
        code, tail = programs.wait_for(
            [emulator, *words], name=PROGRAM, environment=os.environ | {"LC_ALL": "C"}, timeout=timeout, politely=False
        )
    else:
        contents = sandbox.SandboxContents(
            bundle=readable,
            output=folder,
            files=tuple(files),
            most_bytes=max(files.values()),
            prefix=(emulator,),
        )
        words = _words(machine, sandbox.BUNDLE, sandbox.OUTPUT)
        try:
            command = sandbox.sandbox_command(kind, contents, words, scratch=folder.parent)
        except FileNotFoundError as error:
            raise BoardError(f"the emulator cannot be sandboxed: {error}; {sandbox.ADVICE}") from error
        code, tail = programs.wait_for(
            command, name=PROGRAM, environment=sandbox.ENVIRONMENT, timeout=timeout, politely=False
        )
    if code != 0:
        raise _failure(cell, code, tail)
    return kind


def _readable(bundle: Path, scratch: Path) -> Path:
    """Return a copy of the image and the inputs that another user may read: a sandbox runs as the user `nobody`."""
    if not (bundle / IMAGE).is_file():
        raise BundleError(f"the bundle has no {IMAGE}; make the bundle again")
    copy = scratch / "bundle"
    copy.mkdir(mode=0o755)
    shutil.copyfile(bundle / IMAGE, copy / IMAGE)
    shutil.copytree(bundle / "inputs", copy / "inputs")
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copy


def _words(machine: tuple[str, str], bundle: str, output: str) -> list[str]:
    """Return the emulator's arguments, with the paths that it sees."""
    image = ("image", f"{bundle}/inputs", f"{output}/{written.OUTPUTS}", f"{output}/{written.RESULT}")
    arguments = ",".join(f"arg={word.replace(',', ',,')}" for word in image)
    board, processor = machine
    words = ["-M", board, "-cpu", processor, "-nodefaults", "-display", "none", "-icount", "shift=0"]
    words += ["-semihosting-config", f"enable=on,target=native,{arguments}"]
    return [*words, "-kernel", f"{bundle}/{IMAGE}"]


def _failure(cell: str, code: int, tail: str) -> CrossfarmError:
    """Return the error for an emulator that ended with another code than 0."""
    if code < 0 or code > _SHELL_CODES:
        return killed(PROGRAM, number=-code if code < 0 else code - _SHELL_CODES, tail=tail)
    lines = tail.strip().splitlines()
    said = lines[-1].strip() if lines else "it said nothing"
    kind, advice = _FAILURES.get(code, (BoardError, "see the log"))
    return kind(f"{cell}: {PROGRAM} ended with exit code {code}: {said}; {advice}")


def _read(path: Path, manifest: Manifest) -> _Result:
    """Read what the image says of a run."""
    try:
        result = _Result.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{manifest.cell}: the image wrote no result ({error}); make the bundle again") from error
    if len(result.nanoseconds) != manifest.cases:
        raise BundleError(
            f"{manifest.cell}: the image ran {len(result.nanoseconds)} of {manifest.cases} cases; make the bundle again"
        )
    return result


def _outputs(folder: Path, manifest: Manifest) -> dict[str, Array]:
    """Read what the image answered to all cases."""
    import numpy as np

    found = {}
    for number, port in enumerate(manifest.outputs):
        shape = (manifest.cases, *port.shape)
        path = folder / f"{number}.bin"
        tensor = np.fromfile(path, port.dtype) if path.exists() else np.zeros(0, port.dtype)
        if tensor.size != math.prod(shape):
            raise BundleError(
                f"{manifest.cell}: the image wrote {tensor.size} numbers of output {port.name}, not "
                f"{math.prod(shape)}; make the bundle again"
            )
        found[port.name] = tensor.reshape(shape)
    return found


def _sizes(bundle: Path, result: _Result) -> Sizes:
    """Return what the bundle takes: counted when it was made, and seen while it ran."""
    counted = {item.name: int(item.value) for item in AcceleratorReport.read(bundle / ACCELERATOR).quantities}
    return Sizes(
        arena=counted.get("ram_arena"),
        weights=counted.get("flash_weights"),
        program=counted.get("flash_code"),
        workspace_peak=result.workspace_peak_bytes,
        stack_peak=result.stack_peak_bytes,
    )
