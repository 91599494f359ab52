"""What users type to see where time goes, and to have less of it go: `profile` and `tune`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.tasks import task

from crossfarm.cli.arguments import HELP, finish, number, options


def _profile(given: Mapping[str, Any], *, cell: str, threads: int, repeat: int, picture: str) -> int:
    from crossfarm.cli.show_profile import show_profile
    from crossfarm.config.cell import Cell
    from crossfarm.pipeline.run import load, make_cell

    wanted = options(given)
    parsed = Cell.parse(cell)
    code, artifacts = make_cell(wanted, parsed)
    if code:
        return code
    show_profile(
        parsed,
        target=load(wanted).targets[parsed.target],
        store=wanted.store,
        artifacts=artifacts,
        threads=threads,
        repeat=repeat,
        picture=Path(picture) if picture else None,
        stream=sys.stdout,
    )
    return 0


@task(
    help={
        "cell": "id of the cell: x86_64-mnist_cnn-float32",
        "threads": "threads of the model (1)",
        "repeat": "profiled runs; each follows a plain one (30)",
        "plot": "also draw it, as FILE.svg or FILE.html",
        **{name: HELP[name] for name in ("models", "pipeline", "store", "engine")},
    }
)
def profile(
    context: Context,
    cell: str,
    threads: str = "1",
    repeat: str = "30",
    plot: str = "",
    models: str = "",
    pipeline: str = "default",
    store: str = "",
    engine: str = "auto",
) -> None:
    """Print where the time of one cell goes: layer by layer, with GFLOP/s and the share of the measured peak.

    For an int8 cell it also prints where accuracy was lost: the layers of the model, the worst first, as the stage
    `quantize` measured them, and the accuracy after each step from float32 to the board, by the last check of the cell.

    Examples:
        ./inv profile x86_64-mnist_cnn-float32
        ./inv profile x86_64-ppocr_cls-int8
        ./inv profile x86_64-efficientnet_lite0-float32 --threads 2 --plot profile.svg
    """
    given = {"models": models, "pipeline": pipeline, "store": store, "engine": engine, "quiet": True}
    finish(
        lambda: _profile(
            given,
            cell=cell,
            threads=int(number("threads", threads)),
            repeat=int(number("repeat", repeat)),
            picture=plot,
        )
    )


_TUNE_HELP = (
    *("models", "pipeline", "only", "skip", "targets", "out", "store"),
    *("boards", "board", "tag", "priority", "engine"),
)


def _tune(given: Mapping[str, Any], *, budget: str, threads: int, emulated: bool, again: bool) -> int:
    import getpass

    from crossfarm.boards.pool import Pool
    from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, StoreError
    from crossfarm.pipeline.plan import select_cells
    from crossfarm.pipeline.run import inventory_of, load, make_cell
    from crossfarm.tuning.session import Session, budget_of, tune_cells
    from crossfarm.util.paths import HOME

    wanted = options(given)
    spent = budget_of(budget)
    project = load(wanted)

    def artifacts(cell: Any) -> Mapping[str, Any]:
        code, found = make_cell(wanted, cell, stages=("reference",))
        if code:
            raise StoreError(f"{cell.id}: its reference could not be made, see above")
        return found

    inventory = inventory_of(wanted, project)
    with Pool(inventory, targets=project.targets, user=getpass.getuser(), priority=wanted.priority) as pool:
        session = Session(
            project=project,
            store=wanted.store,
            artifacts=artifacts,
            budget=spent,
            threads=threads,
            emulated=emulated,
            again=again,
            inventory=inventory,
            pool=pool,
            records=HOME / "tuning",
            log=wanted.out / "logs" / "tune.log",
            stream=sys.stdout,
        )
        failures = tune_cells(select_cells(project, wanted.selection), session)
    return EXIT_CHECK_FAILED if failures else EXIT_GOOD


@task(
    help={
        "budget": "minutes for all cells together (30), or runs of programs (500runs); without it, to the end",
        "threads": "threads of the models during the search (1)",
        "again": "search cells too whose search came to its end before",
        "emulated": "search under an emulator too, whose times rank nothing",
        **{name: HELP[name] for name in _TUNE_HELP},
    }
)
def tune(
    context: Context,
    budget: str = "",
    threads: str = "1",
    emulated: bool = False,
    again: bool = False,
    models: str = "",
    pipeline: str = "default",
    only: str = "",
    skip: str = "",
    targets: str = "",
    out: str = "",
    store: str = "",
    boards: str = "",
    board: str = "",
    tag: str = "",
    priority: str = "",
    engine: str = "auto",
) -> None:
    """Search faster schedules layer by layer, and keep those that make a model faster in tuning/TARGET/.

    What was measured is kept at once: an interrupted search goes on where it was.

    Examples:
        ./inv tune --targets x86_64 --only '*-mnist_cnn-*'
        ./inv tune --targets x86_64 --budget 30
        ./inv tune --targets armv7 --boards boards.yaml
    """
    given = locals()
    wanted = {name: value for name, value in given.items() if name not in ("budget", "threads", "emulated", "again")}
    finish(
        lambda: _tune(
            {**wanted, "quiet": True},
            budget=budget,
            threads=int(number("threads", threads)),
            emulated=emulated,
            again=again,
        )
    )
