"""What users type to look into the containers that jobs run in: `shell` and `reproduce`."""

from __future__ import annotations

import dataclasses
import sys
import uuid

from crossfarm.cli.run_options import options, run_options
from crossfarm.cli.verbs import Given, Option, verb


@verb(
    Option(name="target", help="whose image: a name in toolchains/", required=True),
    Option(name="command", help="run this in place of a shell to type in"),
    *run_options("store"),
)
def shell(given: Given) -> int:
    """Open a shell in a target's image: no network, the project as /project and the store as /store, both read-only.

    Examples:
        ./inv shell --target armv7
        ./inv shell --target armv7 --command 'arm-linux-gnueabihf-gcc --version'
    """
    from crossfarm.engines.container.shell import ShellPlace, open_shell
    from crossfarm.pipeline.declared import load
    from crossfarm.pipeline.engine_choice import image_of_target
    from crossfarm.pipeline.options import Options
    from crossfarm.store.store import Store
    from crossfarm.util.paths import HOME

    wanted = options({**given, "engine": "container"})
    daemon, image = image_of_target(wanted, load(Options()), given["target"], say=print)
    place = ShellPlace(daemon=daemon, image=image, home=HOME, store=Store(wanted.store).root)
    return open_shell(
        dataclasses.replace(place, command=("bash", "-c", given["command"])) if given["command"] else place
    )


@verb(
    Option(name="cell", help="id of the cell: armv7-mnist_cnn-float32", required=True),
    *run_options("models", "pipeline", "store", "engine", "memory"),
)
def reproduce(given: Given) -> int:
    """Run the jobs of one cell again, up to its bundle, with their logs here, and compare all files with the store's.

    Examples:
        ./inv reproduce armv7-mnist_cnn-float32
        ./inv reproduce armv7-mnist_cnn-float32 --engine local
    """
    from crossfarm.config.cell import Cell
    from crossfarm.pipeline.declared import load
    from crossfarm.pipeline.engine_choice import choose_engine, start_engine, supply
    from crossfarm.pipeline.make_cell import WHOLE_BUNDLE
    from crossfarm.pipeline.plan import Selection
    from crossfarm.pipeline.reproduce import Reproduction, reproduce_cell
    from crossfarm.pipeline.run import plan_and_decide
    from crossfarm.store.live_runs import live_run
    from crossfarm.store.store import Store

    cell = Cell.parse(given["cell"])
    selection = Selection(only=(cell.id,), targets=(cell.target,), stages=WHOLE_BUNDLE)
    wanted = dataclasses.replace(options(given), selection=selection, jobs=1)
    project, store = load(wanted), Store(wanted.store.absolute())
    choice = choose_engine(wanted, project)
    plan, _ = plan_and_decide(wanted, project, store)
    supply(choice, (job.document.image for job in plan.jobs.values()), say=print)
    run = f"reproduce-{uuid.uuid4().hex[:8]}"
    with live_run(store, run, [job.key for job in plan.jobs.values()]) as work:
        environment = {"ZIG_GLOBAL_CACHE_DIR": str(store.root / "zig")}
        with start_engine(choice, wanted, places=1, run=run, work=work, environment=environment) as engine:
            task = Reproduction(
                plan=plan, store=store, engine=engine, references=choice.references, root=project.root.resolve()
            )
            return reproduce_cell(task, work=work, stream=sys.stdout)
