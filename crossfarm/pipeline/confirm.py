"""Confirms a regression of the latency: the old and the new bundle take turns on one board, in one lease."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from crossfarm.boards.inventory import Inventory
from crossfarm.boards.pool import Granted, Pool
from crossfarm.boards.protocol import THIS_HOST, DeployedBundle, Purpose, Transport, open_board, this_host
from crossfarm.boards.result import RESULT, RunnerResult
from crossfarm.config.pipelines import Measure
from crossfarm.config.targets import Target
from crossfarm.errors import BundleError, CrossfarmError
from crossfarm.pipeline.declared import inventory_of, load
from crossfarm.pipeline.options import Options
from crossfarm.reports.history.kept_run import KeptCell, board_of
from crossfarm.reports.regression.comparison import Confirm
from crossfarm.reports.regression.verdicts import Confirmation
from crossfarm.stages.measure.artifact import read_file
from crossfarm.store.export import copy_files
from crossfarm.store.store import Store
from crossfarm.util.scratch import scratch_folder
from crossfarm.util.text import one_line

ROUNDS = 10
"""In each both bundles are started once, in turns the one and the other first."""
_REPEAT = 5
"""Timed runs of each start; with ROUNDS 50 samples of each bundle."""
_WARMUP = 3


def confirm(old: Path, new: Path, transport: Transport, *, settings: Measure, rounds: int = ROUNDS) -> Confirmation:
    """Measure two bundles in turns on a board.

    What happens to the board during this, such as getting hot, then falls on both alike.

    Args:
        old: folder of the old bundle; `new` likewise.
        transport: the board, entered and looked at, and ours for as long as this takes.
        settings: threads and time limit as the pipeline measures.
        rounds: how often both are started.

    Raises:
        BundleError: a program fails.
        BoardError: the board fails.
    """
    samples: dict[Path, list[float]] = {old: [], new: []}
    for number in range(rounds):
        for bundle in (old, new) if number % 2 == 0 else (new, old):
            # A board with little room drops what was used least lately, so each start offers its bundle anew.
            samples[bundle] += times(transport, transport.deploy(bundle), settings, repeat=_REPEAT)
    return Confirmation(old=tuple(samples[old]), new=tuple(samples[new]))


@contextlib.contextmanager
def confirming(options: Options) -> Iterator[Confirm]:
    """Yield what measures the bundles of an old and a new cell in turns on the board that measured the new one.

    It returns why not, and the verdict stays `unconfirmed`, when a bundle is gone from the store, the board is not
    declared any more or not to be had, its clock is not a real one, or a bundle fails.

    Raises:
        ConfigError: the project cannot be loaded.
    """
    project = load(options)
    inventory = inventory_of(options, project)
    store = Store(options.store.absolute())
    with Pool(inventory, targets=project.targets, user=getpass.getuser(), priority=options.priority) as pool:
        yield _Confirmer(
            store=store,
            targets=project.targets,
            settings=project.pipeline.measure,
            inventory=inventory,
            pool=pool,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Confirmer:
    store: Store
    targets: Mapping[str, Target]
    settings: Measure
    inventory: Inventory
    pool: Pool

    def __call__(self, old: KeptCell, new: KeptCell) -> Confirmation | str:
        """Return the samples of both; in words why they cannot be measured."""
        target = self.targets.get(new.target)
        if target is None or new.board is None:
            return f"not confirmed: the target {new.target} or its board is not declared any more"
        try:
            with scratch_folder("confirm") as name, self._board(new.board, target, new.cell) as transport:
                folders = [self._bundle(cell, Path(name, which)) for cell, which in ((old, "old"), (new, "new"))]
                if transport is None:
                    return f"not confirmed: the board {new.board} is not to be had"
                if None in folders:
                    return "not confirmed: the store has a bundle no more"
                transport.preflight()
                if transport.timing != "silicon":
                    return f"not confirmed: the clock of the board {new.board} is {transport.timing}"
                before, now = (folder for folder in folders if folder is not None)
                return confirm(before, now, transport, settings=self.settings)
        except CrossfarmError as error:
            return f"not confirmed: {one_line(str(error))}"

    def _bundle(self, cell: KeptCell, folder: Path) -> Path | None:
        """Lay the bundle of a cell out; None when the store has it no more."""
        artifact = self.store.read(cell.bundle) if cell.bundle else None
        if artifact is None or self.store.damage(artifact):
            return None
        folder.mkdir()
        copy_files(self.store, artifact, folder)
        return folder

    @contextlib.contextmanager
    def _board(self, name: str, target: Target, cell: str) -> Iterator[Transport | None]:
        """Yield the transport of a board under a lease of this process; None when the lease is not granted."""
        purpose = Purpose(
            target=target.name, machine=target.machine, emulator=target.emulator, code=target.instructions
        )
        declared = {board.name for board in self.inventory.candidates(target.name)}
        if name == board_of(THIS_HOST, platform.node()):
            name = THIS_HOST
        if name == THIS_HOST and name not in declared:
            with open_board(this_host(target.name), purpose, token=0) as transport:
                yield transport
            return
        granted = self.pool.obtain(f"confirm:{cell}", [name]) if name in declared else None
        if not isinstance(granted, Granted):
            yield None
            return
        try:
            with open_board(granted.board, purpose, token=granted.lease.token) as transport:
                yield transport
            self.pool.confirm(granted)
        finally:
            self.pool.release(granted)


def times(transport: Transport, placed: DeployedBundle, settings: Measure, *, repeat: int) -> Sequence[float]:
    """Start a bundle's program once and return the nanoseconds of each timed run.

    Raises:
        BundleError: it fails.
        BoardError: the board fails.
    """
    numbers = {"--threads": settings.threads, "--warmup": _WARMUP, "--repeat": repeat, "--cases": 1}
    options = [*(word for name, value in numbers.items() for word in (name, str(value))), "--no-verify"]
    with scratch_folder("confirm") as name:
        folder = Path(name)
        ended = transport.run(placed, options, output=folder, timeout=settings.timeout)
        if ended.code != 0:
            raise BundleError(f"the program ended with {ended.code}: {ended.tail.strip()}; make the bundle again")
        return [float(sample) for sample in read_file(RunnerResult, folder / RESULT).latency_ns]
