"""`./inv tune`: tunes one cell after the other within one budget."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from crossfarm.boards.inventory import Inventory
from crossfarm.boards.pool import Pool
from crossfarm.config.cell import Cell
from crossfarm.config.project import Project
from crossfarm.errors import ConfigError, CrossfarmError
from crossfarm.store.store import Artifact, Store
from crossfarm.tuning import records
from crossfarm.tuning.tune_cell import Budget, Task, tune
from crossfarm.tuning.tune_table import table
from crossfarm.tuning.where import boards_for, place_for
from crossfarm.util import sandbox
from crossfarm.util.scratch import scratch_folder
from crossfarm.util.text import write

VARIANTS = ("float32",)
"""What is searched; integer kernels have no choices yet."""


def budget_of(text: str) -> Budget:
    """Return the budget that a user asks for: `30` minutes, or `500runs` of programs; empty is without end.

    Raises:
        ConfigError: it says neither.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(runs|min)?", text.strip())
    if not text:
        return Budget()
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"--budget {text}: give minutes (30), or a number of runs (500runs)")
    if found[2] == "runs":
        return Budget(most_runs=int(float(found[1])))
    return Budget(deadline=time.monotonic() + 60 * float(found[1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """What all cells of one command share.

    Attributes:
        project: that the cells belong to.
        store: folder of the store.
        artifacts: makes `prepare` and `reference` of a cell, and returns the artifacts by stage.
        budget: of all cells together.
        threads: of the models during the search.
        emulated: search on an emulator where the code does not run natively.
        again: search cells too whose search came to its end before.
        inventory: the boards.
        pool: hands them out.
        records: the folder tuning/.
        log: file for what the compiler says.
        stream: where progress and tables go.
    """

    project: Project
    store: Path
    artifacts: Callable[[Cell], Mapping[str, Artifact]]
    budget: Budget
    threads: int
    emulated: bool
    again: bool
    inventory: Inventory
    pool: Pool
    records: Path
    log: Path
    stream: IO[str]


def tune_cells(cells: Sequence[Cell], session: Session) -> int:
    """Tune cells in order and print a table for each; returns how many could not be tuned.

    Raises:
        ConfigError: a number cannot be used.
    """
    if session.threads < 1:
        raise ConfigError(f"--threads {session.threads}: give 1 or more")
    here = [cell for cell in cells if not session.inventory.candidates(cell.target)]
    if here and (line := sandbox.warning()):
        session.stream.write(f"{line}\n")
    failures = 0
    session.log.parent.mkdir(parents=True, exist_ok=True)
    with session.log.open("wb") as said:
        for cell in cells:
            if cell.variant not in VARIANTS:
                write(session.stream, f"{cell.id}: only {', '.join(VARIANTS)} is searched\n")
                continue
            try:
                if not session.again and _is_complete(cell, session):
                    write(session.stream, f"{cell.id}: was searched to the end; --again searches anew\n")
                    continue
                _tune_one(cell, session, said)
            except CrossfarmError as error:
                failures += 1
                write(session.stream, f"{cell.id}: {error}\n")
            session.stream.flush()
    return failures


def _is_complete(cell: Cell, session: Session) -> bool:
    path = records.records_path(session.records, target=cell.target, model=cell.model, variant=cell.variant)
    taken = records.read(path, identity=records.identity(session.project.targets[cell.target].code)).taken
    return taken is not None and taken.complete


def _tune_one(cell: Cell, session: Session, said: IO[bytes]) -> None:
    target = session.project.targets[cell.target]
    boards = boards_for(target, inventory=session.inventory, emulated=session.emulated)
    model = next(model for model in session.project.models_file.models if model.name == cell.model)
    artifacts, store = session.artifacts(cell), Store(session.store.absolute())

    def progress(line: str) -> None:
        write(session.stream, f"{cell.id}: {line}\n")
        session.stream.flush()

    with (
        scratch_folder("tune") as folder,
        place_for(
            target,
            boards=boards,
            purpose=f"tune:{cell.id}",
            pool=session.pool,
            emulated=session.emulated,
        ) as place,
    ):
        prepared, reference = Path(folder) / "prepare", Path(folder) / "reference"
        store.restore(artifacts["prepare"], prepared)
        store.restore(artifacts["reference"], reference)
        task = Task(
            cell=cell,
            target=target,
            tolerance=model.checks.tolerance,
            prepared=prepared,
            reference=reference,
            records=session.records,
            threads=session.threads,
            place=place,
        )
        write(session.stream, table(tune(task, budget=session.budget, log=said, progress=progress)))
