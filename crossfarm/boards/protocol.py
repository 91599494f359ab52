"""The interface of a transport: the connection to one board, from its health check to the result of a run.

A transport is entered as a context manager and serves one job of one lease. What it raises is a BoardError when the
board is at fault, so that the schedule may try another one, and a BundleError when what is sent is.
"""

from __future__ import annotations

import dataclasses
import importlib
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, cast

from crossfarm.config.boards import Board
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.targets import Emulator
from crossfarm.errors import BoardError

Timing = Literal["silicon", "emulated", "simulated", "estimated"]

THIS_HOST = "local"
"""Id of this host as a board, where no other is declared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardState:
    """What a board is and how it is now.

    Attributes:
        machine: as `uname -m` says.
        cpu_model: None where the kernel does not say.
        kernel: release of the kernel.
        governor: frequency governor of the first CPU, None where there is none (virtual machines).
        temperature: degrees Celsius of the hottest zone, None where there is no sensor.
        processors: how many CPUs are on, None where that is not said.
        virtualisation: name of the hypervisor or emulator that the machine runs under; None on bare metal.
    """

    machine: str
    cpu_model: str | None
    kernel: str
    governor: str | None
    temperature: float | None
    processors: int | None = None
    virtualisation: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Purpose:
    """What a board is wanted for: bundles of one target.

    Attributes:
        target: its name.
        machine: what `uname -m` says where its code runs natively.
        emulator: runs its code on this host; boards that are reached over ssh have no use for it.
        code: which instructions its programs hold; None where they are not programs of a processor.
        simulated_cases: how many cases a slow simulator runs, the first ones.
    """

    target: str
    machine: tuple[str, ...]
    emulator: Emulator | None
    code: LlvmCode | None
    simulated_cases: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeployedBundle:
    """A bundle on a board.

    Attributes:
        place: its folder there.
        files_sent: how many files had to be sent.
        bytes_sent: how many bytes of them.
    """

    place: str
    files_sent: int = 0
    bytes_sent: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExitResult:
    """A program that ended by itself.

    Attributes:
        code: its exit code.
        tail: the last 4 KiB of what it said.
        state: how the board was then.
        throttled: how the board slowed down while the program ran, in a few words; None when it was not seen to.
        sandbox: what sandboxed the program on this host, `none` where nothing did; None on a board.
    """

    code: int
    tail: str
    state: BoardState
    throttled: str | None = None
    sandbox: str | None = None


class Transport(Protocol):
    """The connection to one board."""

    timing: Timing
    """What its clock is worth; sure after `preflight`, that of a simulator after `run`."""
    emulator: str | None
    """Name and version of what emulates the target there."""

    def __enter__(self) -> Transport:
        """Connect.

        Raises:
            BoardError: the board cannot be reached, or is not the one that is declared.
        """

    def __exit__(self, *_: object) -> None:
        """Close the connection."""

    def preflight(self) -> BoardState:
        """Make sure that the board is fit for use: the right machine, cool, with free disk; end old programs of ours.

        Raises:
            BoardError: it is not; the message says in what.
        """

    def deploy(self, bundle: Path) -> DeployedBundle:
        """Put a bundle where the board can run it, sending only what is not there.

        Raises:
            BundleError: it does not fit the board.
            BoardError: the board has no room or dies, or the lease went to another holder.
        """

    def run(
        self, bundle: DeployedBundle, options: Sequence[str], *, output: Path, timeout: float, profile: bool = False
    ) -> ExitResult:
        """Run a bundle's program.

        Args:
            bundle: what `deploy` returned.
            options: of the program, without those that name files.
            output: existing folder on this host that gets `result.json` and `outputs/`.
            timeout: seconds; then the program and all that it started are ended.
            profile: whether every call is timed too, and `output` gets `profile.json`.

        Raises:
            BoardError: it does not start, is killed, takes too long, or the board dies or the lease is lost meanwhile.
        """

    def probe(self) -> BoardState:
        """Look at the board now.

        Raises:
            BoardError: it does not answer.
        """


class TransportModule(Protocol):
    """A module that is a transport."""

    def open_board(self, board: Board, purpose: Purpose, *, token: int) -> Transport:
        """Return the transport of a board, not yet connected."""


class Simulator(TransportModule, Protocol):
    """A transport that a backend brings along, for this host."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return what of this host its measurements depend on: the simulator's version."""

    def missing(self) -> str | None:
        """Return why it cannot run here, and what to do; None when it can."""


TRANSPORTS: Mapping[str, str] = {
    "local": "crossfarm.boards.transports.local",
    "ssh": "crossfarm.boards.transports.ssh",
    "virtual": "crossfarm.boards.transports.ssh",
}
"""Transport of boards.yaml -> module; imported when a job runs."""


def load_simulator(module: str) -> Simulator:
    """Import a simulator that a backend brings along."""
    return cast(Simulator, importlib.import_module(module))


def this_host(target: str) -> Board:
    """Return this host as the board of a target for which no other is declared."""
    return Board(name=THIS_HOST, transport="local", targets=(target,))


def open_board(board: Board, purpose: Purpose, *, token: int, simulator: str | None = None) -> Transport:
    """Return the transport of a board; entering it connects.

    Args:
        board: the board; its key is an absolute path.
        purpose: what it is wanted for.
        token: fencing token of the lease; a board refuses whoever comes with a lower one than it has seen.
        simulator: the module that runs these bundles on this host, where their backend brings one.
    """
    name = simulator if simulator and board.transport == "local" else TRANSPORTS[board.transport]
    module = cast(TransportModule, importlib.import_module(name))
    return module.open_board(board, purpose, token=token)


def overdue(name: str, *, timeout: float, tail: str) -> BoardError:
    """Return the error for a program that was ended after `timeout` seconds; `tail` is the end of what it said."""
    return BoardError(
        f"{name} did not end within {timeout:g} s and was stopped; raise measure.timeout in the pipeline, or "
        f"lower its repeat{_quoted(tail)}"
    )


def killed(name: str, *, number: int, tail: str) -> BoardError:
    """Return the error for a program that a signal ended, with what that signal usually means."""
    return BoardError(f"{name} was killed by {_signal_name(number)}{_advice(number)}{_quoted(tail)}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _advice(number: int) -> str:
    if number == signal.SIGILL:
        return "; this CPU lacks an instruction that the toolchain file allows: lower code.cpu or code.features"
    if number == signal.SIGKILL:
        return "; the machine ran out of memory, or someone killed it: run it again"
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE):
        return "; it crashed: run it again with the bundle's program under a debugger, and report it"
    return "; run it again"


def _quoted(tail: str) -> str:
    lines = tail.strip().splitlines()
    return f" (its last line: {lines[-1].strip()})" if lines else ""
