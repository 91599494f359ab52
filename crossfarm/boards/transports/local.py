"""This host as a board: what it is, and programs run on it, natively or under the target's emulator.

Nothing has to be sent, so preflight and deploy do next to nothing. Imports the standard library and the config only:
`fingerprint` is part of keys, so a warm run calls it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossfarm.boards import cpu_features
from crossfarm.boards.protocol import BoardState, DeployedBundle, ExitResult, Purpose, Timing
from crossfarm.boards.transports.virtualisation import Signs, recognise
from crossfarm.config.boards import Board
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.targets import Emulator
from crossfarm.errors import BoardError, BundleError
from crossfarm.util.processes import output_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionMode:
    """How a program for a target runs here.

    Attributes:
        timing: emulated time means little and is marked.
        prefix: what stands before the program; empty when it runs natively.
    """

    timing: Timing
    prefix: tuple[str, ...] = ()


class LocalBoard:
    """This host as a transport."""

    def __init__(self, purpose: Purpose) -> None:
        self._mode = execution_mode(machines=purpose.machine, emulator=purpose.emulator, code=purpose.code)
        self.timing: Timing = self._mode.timing
        self.emulator = emulator_version(self._mode.prefix[0]) if self._mode.prefix else None

    def __enter__(self) -> LocalBoard:
        """Do nothing: this host is here."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: what a run leaves goes with the run."""

    def preflight(self) -> BoardState:
        """Look at this host; it is used as it is."""
        return probe()

    def deploy(self, bundle: Path) -> DeployedBundle:
        """Leave a bundle where it is."""
        if not (bundle / "program").is_file():
            raise BundleError("the bundle has no program; make the bundle again")
        return DeployedBundle(place=str(bundle))

    def run(
        self, bundle: DeployedBundle, options: Sequence[str], *, output: Path, timeout: float, profile: bool = False
    ) -> ExitResult:
        """Run a bundle's program, in a sandbox where this machine can make one; see Transport."""
        from crossfarm.boards.transports.bundle_run import run_bundle

        ran = run_bundle(
            Path(bundle.place),
            options,
            output=output,
            timeout=timeout,
            prefix=self._mode.prefix,
            profile=profile,
        )
        return ExitResult(code=ran.code, tail=ran.tail, state=probe(), sandbox=ran.sandbox)

    def probe(self) -> BoardState:
        """Look at this host now."""
        return probe()


def open_board(board: Board, purpose: Purpose, *, token: int) -> LocalBoard:
    """Return the transport for this host; it has no tokens of its own to check.

    Raises:
        BoardError: the target's code runs neither natively nor emulated here.
    """
    opened = LocalBoard(purpose)
    if board.timing == "emulated":
        opened.timing = "emulated"
    return opened


def probe() -> BoardState:
    """Look at this host now."""
    return BoardState(
        machine=platform.machine(),
        cpu_model=_cpu_model(),
        kernel=platform.release(),
        governor=_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        temperature=_temperature(),
        processors=len(os.sched_getaffinity(0)),
        virtualisation=_virtualisation(),
    )


def fingerprint(*, machines: Sequence[str], emulator: Emulator | None) -> Mapping[str, str]:
    """Return the facts about this host that decide a measurement for a target; equal hosts return equal facts.

    Args:
        machines: what `uname -m` says where the target's code runs natively.
        emulator: of the target.

    Returns:
        machine, cpu and kernel; and, where the target is emulated, the emulator's path, size and time of change, or
        `missing`. No name or number of this very machine.
    """
    facts = {"machine": platform.machine(), "cpu": _cpu_model() or "unknown", "kernel": platform.release()}
    if platform.machine() not in machines:
        found = _find(emulator) if emulator is not None else None
        status = Path(found).stat() if found is not None else None
        facts["emulator"] = f"{found} {status.st_size} {status.st_mtime_ns}" if status is not None else "missing"
    return facts


def execution_mode(
    *, machines: Sequence[str], emulator: Emulator | None, code: LlvmCode | None = None
) -> ExecutionMode:
    """Decide how code for a target runs here.

    Args:
        machines: what `uname -m` says where it runs natively.
        emulator: of the target, None when it has none.
        code: what it was generated for; a CPU that lacks some of its instructions would only kill the program.

    Raises:
        BoardError: this CPU lacks instructions; or it does not run natively, and the emulator or the C library that it
            needs is not installed.
    """
    if platform.machine() in machines:
        missing = cpu_features.lacking(code, cpu_features.cpu_flags(_cpuinfo())) if code is not None else ()
        if missing:
            needed = cpu_features.explained(missing)
            raise BoardError(
                f"needs {needed}, which this CPU ({_cpu_model() or 'unknown'}) has not; run it on one that has"
            )
        return ExecutionMode(timing="silicon")
    native = " or ".join(machines)
    if emulator is None:
        raise BoardError(
            f"this machine is {platform.machine()}, the target runs on {native} and declares no emulator; "
            "run it on a board, or declare an emulator in the toolchain file"
        )
    found = _find(emulator)
    if found is None:
        names = " or ".join(_candidates(emulator))
        raise BoardError(
            f"this machine is {platform.machine()}, the target runs on {native}, and its emulator ({names}) is not on "
            f"PATH; install it: apt-get install {emulator.package}"
        )
    library = _library_folder(emulator)
    if library is not None and not library.is_dir():
        package = emulator.library_package
        advice = f"install it: apt-get install {package}" if package else "correct -L in the toolchain file"
        raise BoardError(f"the target's C library is not in {library}, where {found} looks for it; {advice}")
    return ExecutionMode(timing="emulated", prefix=(found, *emulator.command[1:]))


def emulator_version(path: str) -> str:
    """Return name and version of an emulator, `qemu-arm-static 7.2.22`; the name alone when it does not say."""
    name = Path(path).name
    said = output_of([path, "--version"], wall_seconds=120) or ""
    words = said.partition("\n")[0].split()
    version = next((word for word in words if word[0].isdigit()), "")
    return f"{name} {version}".strip()


def _candidates(emulator: Emulator) -> tuple[str, ...]:
    return emulator.names or (emulator.command[0],)


def _library_folder(emulator: Emulator) -> Path | None:
    """Return the folder that `-L` names in the emulator's command, for dynamically linked programs."""
    words = emulator.command
    return next((Path(words[place + 1]) for place, word in enumerate(words[:-1]) if word == "-L"), None)


def _find(emulator: Emulator) -> str | None:
    """Return the path of the first of an emulator's names that is on PATH."""
    return next((found for name in _candidates(emulator) if (found := shutil.which(name)) is not None), None)


@functools.cache
def _cpu_model() -> str | None:
    """Return the CPU's name: x86 says `model name`, some ARM boards `Hardware` or the device tree's `model`."""
    lines = _cpuinfo().splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value.strip()}
    return facts.get("model name") or facts.get("Hardware") or _line(Path("/proc/device-tree/model"))


@functools.cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@functools.cache
def _virtualisation() -> str | None:
    """Return the hypervisor that this host runs under; its time counts all the same."""
    firmware = [_line(Path("/sys/class/dmi/id", name)) or "" for name in ("sys_vendor", "product_name")]
    devices = Path("/sys/devices/system")
    signs = Signs(
        machine=platform.machine(),
        cpu_model=_cpu_model() or "",
        features=cpu_features.cpu_flags(_cpuinfo()),
        processor=_line(devices / "cpu" / "modalias") or "",
        firmware=" ".join(firmware).strip(),
        hypervisor=_line(Path("/sys/hypervisor/type")) or "",
        clocks=_line(devices / "clocksource" / "clocksource0" / "available_clocksource") or "",
    )
    return recognise(signs).name


def _temperature() -> float | None:
    """Return the hottest thermal zone; the kernel gives thousandths of a degree."""
    readings = [_line(path) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    degrees = [int(text) / 1000 for text in readings if text is not None and text.lstrip("-").isdecimal()]
    return max(degrees, default=None)


def _line(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return None
    return text or None
