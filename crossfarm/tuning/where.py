"""Where a search runs its programs: on this host, natively or under an emulator, or on a board."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from crossfarm.boards.inventory import Inventory
from crossfarm.boards.pool import Granted, Pool, Refused
from crossfarm.boards.protocol import BoardState, Purpose, Transport, open_board
from crossfarm.boards.result import RESULT
from crossfarm.boards.transports import local
from crossfarm.config.boards import Board
from crossfarm.config.targets import Target
from crossfarm.errors import BoardError, BundleError, ConfigError, LeaseError
from crossfarm.stages.measure.artifact import PROFILE
from crossfarm.tuning.layer_times import TIME_LIMIT, Run, read_run, run_profiled, runner_options
from crossfarm.util.scratch import scratch_folder

NO_SILICON = "emulated: not measured on silicon"


class ProgramRunner(Protocol):
    """Runs programs."""

    @property
    def machine(self) -> str:
        """Return what it is, in words, as records keep it."""

    @property
    def is_emulated(self) -> bool:
        """Return whether its times rank nothing."""

    @property
    def processors(self) -> int:
        """Return how many there are."""

    def run(
        self, program: Path, *, threads: int, repeat: int, warmup: int = 3, cases: int = 1, outputs: Path | None = None
    ) -> Run:
        """Run a program; see profile.run_profiled.

        Raises:
            BoardError: the program does not start, is killed, or takes too long; or the board fails.
            BundleError: it refuses the bundle, or fails.
        """

    def confirm(self) -> None:
        """Make sure that what was measured counts.

        Raises:
            LeaseError: the board went to another holder.
        """


class HostRunner:
    """This host.

    Args:
        prefix: emulator and its arguments; empty where the code runs natively.
    """

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._prefix = tuple(prefix)

    @property
    def machine(self) -> str:
        """Return the name of the processor, an emulator's where one stands before the programs."""
        if self._prefix:
            return f"{local.emulator_version(self._prefix[0])}, {NO_SILICON}"
        return local.probe().cpu_model or "unknown"

    @property
    def is_emulated(self) -> bool:
        """Return whether an emulator runs the programs."""
        return bool(self._prefix)

    @property
    def processors(self) -> int:
        """Return how many this process may use."""
        return len(os.sched_getaffinity(0))

    def run(
        self, program: Path, *, threads: int, repeat: int, warmup: int = 3, cases: int = 1, outputs: Path | None = None
    ) -> Run:
        """Run a program, bound to the last processors; see ProgramRunner."""
        processors = sorted(os.sched_getaffinity(0))[-threads:]
        return run_profiled(
            program,
            threads=threads,
            repeat=repeat,
            warmup=warmup,
            prefix=self._prefix,
            processors=processors if len(processors) == threads and not self._prefix else (),
            outputs=outputs,
            cases=cases,
        )

    def confirm(self) -> None:
        """Do nothing: nobody takes this host away."""


class BoardRunner:
    """A board that was granted and looked at.

    Args:
        name: of the board.
        transport: the way to it, entered.
        state: of the board.
        confirm: makes sure that the lease lives.
    """

    def __init__(self, name: str, transport: Transport, state: BoardState, confirm: Callable[[], None]) -> None:
        self._name, self._transport, self._state, self._confirm = name, transport, state, confirm

    @property
    def machine(self) -> str:
        """Return the name of the processor and the board's; an emulator's where one is the board."""
        what = self._state.cpu_model or self._state.machine
        said = f"{what}, board {self._name}"
        return f"{said}, {self._transport.emulator or 'emulator'}, {NO_SILICON}" if self.is_emulated else said

    @property
    def is_emulated(self) -> bool:
        """Return whether the board's clock counts for nothing."""
        return self._transport.timing != "silicon"

    @property
    def processors(self) -> int:
        """Return how many the board has; 1 where it does not say."""
        return self._state.processors or 1

    def run(
        self, program: Path, *, threads: int, repeat: int, warmup: int = 3, cases: int = 1, outputs: Path | None = None
    ) -> Run:
        """Send what the board lacks of a program, and run it there; see ProgramRunner.

        A board with little room drops what was used least lately, so each run offers its program anew.
        """
        placed = self._transport.deploy(program)
        options = runner_options(threads=threads, repeat=repeat, warmup=warmup, cases=cases)
        with scratch_folder("board-run") as name:
            folder = Path(name)
            ended = self._transport.run(placed, options, output=folder, timeout=TIME_LIMIT, profile=True)
            if ended.code != 0:
                raise BundleError(f"the program ended with {ended.code}: {ended.tail.strip()}; make the bundle again")
            if outputs is not None:
                shutil.copytree(folder / "outputs", outputs, dirs_exist_ok=True)
            return read_run(folder / RESULT, folder / PROFILE)

    def confirm(self) -> None:
        """Make sure that the lease still lives; see ProgramRunner."""
        self._confirm()


def boards_for(target: Target, *, inventory: Inventory, emulated: bool) -> tuple[Board, ...]:
    """Return the boards that a search for a target may use; none where it runs on this host.

    Args:
        target: which.
        inventory: the boards.
        emulated: an emulator will do.

    Raises:
        ConfigError: there is only an emulator, and it was not asked for; or the chosen boards do not serve the target.
        BoardError: no board is declared for it, and its code does not run here either.
    """
    missing = inventory.missing(target.name)
    if missing is not None:
        raise ConfigError(f"{target.name}: {missing}")
    declared = inventory.candidates(target.name)
    boards = tuple(
        board for board in declared if emulated or (board.transport != "virtual" and board.timing != "emulated")
    )
    if not declared:
        _refuse_emulator(target.name, is_emulated=_way(target).timing != "silicon", emulated=emulated)
    else:
        _refuse_emulator(target.name, is_emulated=not boards, emulated=emulated)
    return boards


@contextmanager
def place_for(
    target: Target, *, boards: Sequence[Board], purpose: str, pool: Pool, emulated: bool
) -> Iterator[HostRunner | BoardRunner]:
    """Yield where programs of a target run: one of some boards, which is ours meanwhile, or without any this host.

    Args:
        target: which.
        boards: as from `boards_for`.
        purpose: what a board is wanted for, one line.
        pool: hands boards out.
        emulated: an emulator will do.

    Raises:
        ConfigError: the board turns out to be emulated, and that was not asked for.
        BoardError: no board is granted, or it fails.
    """
    if not boards:
        yield HostRunner(_way(target).prefix)
        return
    granted = pool.obtain(purpose, [board.name for board in boards])
    if isinstance(granted, Refused):
        raise BoardError(granted.reason)
    try:
        with _opened(granted, target, pool) as place:
            _refuse_emulator(target.name, is_emulated=place.is_emulated, emulated=emulated)
            yield place
    except BoardError as error:
        if _holds(granted, pool):
            pool.failed(granted.board.name, str(error))
        raise
    finally:
        pool.release(granted)


def _way(target: Target) -> local.ExecutionMode:
    return local.execution_mode(machines=target.machine, emulator=target.emulator, code=target.instructions)


@contextmanager
def _opened(granted: Granted, target: Target, pool: Pool) -> Iterator[BoardRunner]:
    wanted = Purpose(target=target.name, machine=target.machine, emulator=target.emulator, code=target.instructions)
    with open_board(granted.board, wanted, token=granted.lease.token) as transport:
        state = transport.preflight()
        yield BoardRunner(granted.board.name, transport, state, lambda: pool.confirm(granted))


def _holds(granted: Granted, pool: Pool) -> bool:
    """Say whether a board is still ours: what fails after it went to another holder is no fault of it."""
    try:
        pool.confirm(granted)
    except LeaseError:
        return False
    return True


def _refuse_emulator(target: str, *, is_emulated: bool, emulated: bool) -> None:
    if is_emulated and not emulated:
        raise ConfigError(
            f"{target} does not run natively here, and times of an emulator rank nothing; its rules carry the "
            "speed. To search all the same, say --emulated"
        )
