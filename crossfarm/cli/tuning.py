"""What users type to see where time and accuracy go, and to have less time go: `profile` and `tune`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfarm.cli.run_options import options, run_options
from crossfarm.cli.verbs import Given, Option, verb


@verb(
    Option(name="cell", help="id of the cell: x86_64-mnist_cnn-float32", required=True),
    Option(name="threads", help="threads of the model (1)", kind="count", default="1"),
    Option(name="repeat", help="profiled runs; each follows a plain one (30)", kind="count", default="30"),
    Option(name="plot", help="also draw it, as FILE.svg or FILE.html"),
    *run_options("models", "pipeline", "store", "engine"),
)
def profile(given: Given) -> int:
    """Print where the time of one cell goes: layer by layer, with GFLOP/s and the share of the measured peak.

    For an int8 cell it also prints where accuracy was lost: the layers of the model, the worst first, as the stage
    `quantize` measured them, and the accuracy after each step from float32 to the board, by the last check of the cell.

    Examples:
        ./inv profile x86_64-mnist_cnn-float32
        ./inv profile x86_64-ppocr_cls-int8
        ./inv profile x86_64-efficientnet_lite0-float32 --threads 2 --plot profile.svg
    """
    from crossfarm.cli.show_profile import show_profile
    from crossfarm.config.cell import Cell
    from crossfarm.pipeline.declared import load
    from crossfarm.pipeline.make_cell import make_cell

    cell, picture = Cell.parse(given["cell"]), given["plot"]
    wanted = options({**given, "quiet": True})
    code, artifacts = make_cell(wanted, cell)
    if code:
        return code
    show_profile(
        cell,
        target=load(wanted).targets[cell.target],
        store=wanted.store,
        artifacts=artifacts,
        threads=given["threads"],
        repeat=given["repeat"],
        picture=Path(picture) if picture else None,
        stream=sys.stdout,
    )
    return 0


@verb(
    Option(
        name="budget", help="minutes for all cells together (30), or runs of programs (500runs); without it, to the end"
    ),
    Option(name="threads", help="threads of the models during the search (1)", kind="count", default="1"),
    Option(name="emulated", help="search under an emulator too, whose times rank nothing", kind="flag"),
    Option(name="again", help="search cells too whose search came to its end before", kind="flag"),
    *run_options("models", "pipeline", "only", "skip", "targets", "out", "store"),
    *run_options("boards", "board", "tag", "priority", "engine"),
)
def tune(given: Given) -> int:
    """Search faster schedules layer by layer, and keep those that make a model faster in tuning/TARGET/.

    What was measured is kept at once: an interrupted search goes on where it was.

    Examples:
        ./inv tune --targets x86_64 --only '*-mnist_cnn-*'
        ./inv tune --targets x86_64 --budget 30
        ./inv tune --targets armv7 --boards boards.yaml
    """
    import getpass

    from crossfarm.boards.pool import Pool
    from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, StoreError
    from crossfarm.pipeline.declared import inventory_of, load
    from crossfarm.pipeline.make_cell import make_cell
    from crossfarm.pipeline.plan import select_cells
    from crossfarm.tuning.session import Session, budget_of, tune_cells
    from crossfarm.util.paths import HOME

    wanted = options({**given, "quiet": True})
    spent = budget_of(given["budget"])
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
            threads=given["threads"],
            emulated=given["emulated"],
            again=given["again"],
            inventory=inventory,
            pool=pool,
            records=HOME / "tuning",
            log=wanted.out / "logs" / "tune.log",
            stream=sys.stdout,
        )
        failures = tune_cells(select_cells(project, wanted.selection), session)
    return EXIT_CHECK_FAILED if failures else EXIT_GOOD
