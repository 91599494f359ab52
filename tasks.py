"""The face: one task per verb. Each parses its arguments and calls one function of crossfarm."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke import Context, Exit, task

from crossfarm.errors import EXIT_INTERRUPTED, CrossfarmError

HELP = {
    "models": "the file that lists the models (models.yaml)",
    "pipeline": "name of a file in pipelines/, or path of one (default)",
    "only": "globs over cell ids, separated by commas: 'armv7-*,*-mnist_cnn-*'",
    "skip": "globs over cell ids that are left out",
    "targets": "names of targets, separated by commas, in place of the pipeline's",
    "stages": "names of stages, separated by commas: fetch,prepare,reference,compile,bundle,measure,check",
    "jobs": "how many jobs run at once (one per CPU)",
    "fail_fast": "start nothing more after the first failure",
    "out": "folder for reports and logs (out)",
    "store": "folder of the store (.crossfarm/store)",
    "measure_again": "measure even what was measured before on this board",
    "verbose": "show every job, up to date ones too",
    "quiet": "show failures and the table only",
}


def _finish(action: Callable[[], int]) -> None:
    """Run an action and end the program with its exit code; our own errors are shown without a traceback."""
    try:
        code = action()
    except CrossfarmError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = EXIT_INTERRUPTED
    if code:
        raise Exit(code=code)


def _options(arguments: dict[str, Any]) -> Any:
    from crossfarm.pipeline import Options
    from crossfarm.plan import Selection

    lists = {
        name: tuple(part for part in (arguments.pop(name, None) or "").split(",") if part)
        for name in ("only", "skip", "targets", "stages")
    }
    paths = {name: Path(arguments.pop(name)) for name in ("models", "out", "store") if arguments.get(name)}
    given = {name: value for name, value in arguments.items() if value not in (None, "")}
    return Options(selection=Selection(**lists), **paths, **given)


@task(help={name: text for name, text in HELP.items()})
def pipeline(
    context: Context, models: str = "", pipeline: str = "default", only: str = "", skip: str = "", targets: str = "",
    stages: str = "", jobs: int = 0, fail_fast: bool = False, out: str = "", store: str = "",
    measure_again: bool = False, verbose: bool = False, quiet: bool = False,
) -> None:  # fmt: skip
    """Compile, run and check every model on every target, and write the reports.

    Examples:
        ./inv pipeline --models models.yaml
        ./inv pipeline --pipeline smoke --jobs 2
        ./inv pipeline --only 'armv7-*' --skip '*-ppocr_rec-*'
    """
    from crossfarm.pipeline import run_pipeline

    arguments = {
        "models": models, "pipeline": pipeline, "only": only, "skip": skip, "targets": targets, "stages": stages,
        "jobs": jobs, "fail_fast": fail_fast, "out": out, "store": store, "measure_again": measure_again,
        "verbose": verbose, "quiet": quiet,
    }  # fmt: skip
    _finish(lambda: run_pipeline(_options(arguments)))


@task(help={name: HELP[name] for name in ("models", "pipeline", "only", "skip", "targets", "stages", "store", "measure_again")})
def plan(
    context: Context, models: str = "", pipeline: str = "default", only: str = "", skip: str = "", targets: str = "",
    stages: str = "", store: str = "", measure_again: bool = False,
) -> None:  # fmt: skip
    """Print what the next run would do, job by job, and why.

    Examples:
        ./inv plan
        ./inv plan --only '*-mnist_cnn-*' --stages compile
    """
    from crossfarm.pipeline import show_plan

    arguments = {
        "models": models, "pipeline": pipeline, "only": only, "skip": skip, "targets": targets, "stages": stages,
        "store": store, "measure_again": measure_again,
    }  # fmt: skip
    _finish(lambda: show_plan(_options(arguments)))
