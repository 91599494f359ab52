"""What users type to look into the containers that jobs run in: `shell` and `reproduce`."""

from __future__ import annotations

import dataclasses
import sys
import uuid

from invoke.context import Context
from invoke.tasks import task

from crossfarm.cli.arguments import HELP, finish, options


def _shell(target: str, store: str, command: str) -> int:
    from crossfarm.engines.container.shell import ShellPlace, open_shell
    from crossfarm.pipeline.engine_choice import image_of_target
    from crossfarm.pipeline.options import Options
    from crossfarm.pipeline.run import load
    from crossfarm.store.store import Store
    from crossfarm.util.paths import HOME

    wanted = options({"store": store, "engine": "container"})
    daemon, image = image_of_target(wanted, load(Options()), target, say=print)
    place = ShellPlace(daemon=daemon, image=image, home=HOME, store=Store(wanted.store).root)
    return open_shell(dataclasses.replace(place, command=("bash", "-c", command)) if command else place)


@task(
    help={
        "target": "whose image: a name in toolchains/",
        "command": "run this in place of a shell to type in",
        "store": HELP["store"],
    }
)
def shell(context: Context, target: str, command: str = "", store: str = "") -> None:
    """Open a shell in a target's image: no network, the project as /project and the store as /store, both read-only.

    Examples:
        ./inv shell --target armv7
        ./inv shell --target armv7 --command 'arm-linux-gnueabihf-gcc --version'
    """
    finish(lambda: _shell(target, store, command))


def _reproduce(cell: str, given: dict[str, str]) -> int:
    from crossfarm.config.cell import Cell
    from crossfarm.pipeline.engine_choice import choose_engine, start_engine, supply
    from crossfarm.pipeline.plan import Selection
    from crossfarm.pipeline.reproduce import Reproduction, reproduce
    from crossfarm.pipeline.run import WHOLE_BUNDLE, load, plan_and_decide
    from crossfarm.store.live_runs import live_run
    from crossfarm.store.store import Store

    parsed = Cell.parse(cell)
    selection = Selection(only=(parsed.id,), targets=(parsed.target,), stages=WHOLE_BUNDLE)
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
            return reproduce(task, work=work, stream=sys.stdout)


@task(
    help={
        "cell": "id of the cell: armv7-mnist_cnn-float32",
        **{name: HELP[name] for name in ("models", "pipeline", "store", "engine", "memory")},
    }
)
def reproduce(
    context: Context,
    cell: str,
    models: str = "",
    pipeline: str = "default",
    store: str = "",
    engine: str = "auto",
    memory: str = "",
) -> None:
    """Run the jobs of one cell again, up to its bundle, with their logs here, and compare all files with the store's.

    Examples:
        ./inv reproduce armv7-mnist_cnn-float32
        ./inv reproduce armv7-mnist_cnn-float32 --engine local
    """
    given = {"models": models, "pipeline": pipeline, "store": store, "engine": engine, "memory": memory}
    finish(lambda: _reproduce(cell, given))
