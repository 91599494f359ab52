"""The face: one task per verb. Each parses its arguments and calls one function of crossfarm."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from invoke import Context, Exit, task

from crossfarm.cli.arguments import HELP, finish, options
from crossfarm.cli.boards import inspect_boards  # noqa: F401 (invoke finds tasks by name)
from crossfarm.cli.clean import clean  # noqa: F401 (invoke finds tasks by name)
from crossfarm.cli.containers import reproduce, shell  # noqa: F401 (invoke finds tasks by name)
from crossfarm.cli.images import images  # noqa: F401 (invoke finds tasks by name)
from crossfarm.cli.packages import bundle, package  # noqa: F401 (invoke finds tasks by name)
from crossfarm.cli.tuning import profile, tune  # noqa: F401 (invoke finds tasks by name)
from crossfarm.cli.virtual_boards import board_down, board_up  # noqa: F401 (invoke finds tasks by name)
from crossfarm.errors import EXIT_BAD_CONFIG, EXIT_INTERRUPTED, nearest
from crossfarm.util.paths import HOME

BOARDS = ("boards", "board", "tag", "priority")
"""Options about boards; a verb that uses none does not take them."""
NO_PART_OF_COMPILE = ("stages", "measure_again", "require_checks")
"""Options about what `compile` never does."""
UNIT_TESTS = ("tests/unit", *(("-n", "auto", "--dist", "worksteal") if find_spec("xdist") else ()))
"""Without `./inv setup` there is no pytest-xdist."""
INTEGRATION_TESTS = ("tests/integration",)


def _run_pipeline(given: Mapping[str, Any]) -> int:
    from crossfarm.pipeline.run import run_pipeline

    return run_pipeline(options(given))


def _report_again(out: Path) -> int:
    from crossfarm.pipeline.run import report_again

    return report_again(out)


def _set_up(given: Mapping[str, Any], *, yes: bool, tests: bool) -> int:
    from crossfarm.pipeline.run import load
    from crossfarm.setup.container_host import prepare_host
    from crossfarm.setup.requirements import run_setup
    from crossfarm.util.console import Console

    console = Console(sys.stdout)
    return run_setup(load(options(given)), yes=yes, tests=tests, console=console) or prepare_host(console)


def _examine(given: Mapping[str, Any]) -> int:
    from crossfarm.pipeline.run import load
    from crossfarm.setup.cleaning import Ground, holdings
    from crossfarm.setup.container_host import host_requirements
    from crossfarm.setup.requirements import run_doctor
    from crossfarm.util.console import Console

    wanted = options(given)
    project, console = load(wanted), Console(sys.stdout)
    code = run_doctor(project, console=console, tests=True, more=host_requirements())
    for line in holdings(Ground(store=wanted.store, out=wanted.out, home=HOME, project=project)):
        console.line(line)
    return code


def _show_plan(given: Mapping[str, Any]) -> int:
    from crossfarm.pipeline.run import show_plan

    return show_plan(options(given))


@task(help=HELP)
def pipeline(
    context: Context,
    models: str = "",
    pipeline: str = "default",
    only: str = "",
    skip: str = "",
    targets: str = "",
    stages: str = "",
    jobs: str = "",
    fail_fast: bool = False,
    require_checks: bool = False,
    out: str = "",
    store: str = "",
    boards: str = "",
    board: str = "",
    tag: str = "",
    priority: str = "",
    measure_again: bool = False,
    engine: str = "auto",
    memory: str = "",
    verbose: bool = False,
    quiet: bool = False,
) -> None:
    """Compile, run and check every model on every target, and write the reports.

    Examples:
        ./inv pipeline --models models.yaml
        ./inv pipeline --pipeline smoke --jobs 2
        ./inv pipeline --only 'armv7-*' --skip '*-ppocr_rec-*'
    """
    given = locals()
    finish(lambda: _run_pipeline(given))


@task(
    help={
        name: HELP[name]
        for name in (
            "models",
            "pipeline",
            "only",
            "skip",
            "targets",
            "stages",
            "store",
            "measure_again",
            "boards",
            "board",
            "tag",
            "engine",
        )
    }
)
def plan(
    context: Context,
    models: str = "",
    pipeline: str = "default",
    only: str = "",
    skip: str = "",
    targets: str = "",
    stages: str = "",
    store: str = "",
    boards: str = "",
    board: str = "",
    tag: str = "",
    measure_again: bool = False,
    engine: str = "auto",
) -> None:
    """Print what the next run would do, job by job, and why.

    Examples:
        ./inv plan
        ./inv plan --only '*-mnist_cnn-*' --stages compile
    """
    given = locals()
    finish(lambda: _show_plan(given))


@task(help={name: text for name, text in HELP.items() if name not in (*NO_PART_OF_COMPILE, *BOARDS)})
def compile(
    context: Context,
    models: str = "",
    pipeline: str = "default",
    only: str = "",
    skip: str = "",
    targets: str = "",
    jobs: str = "",
    fail_fast: bool = False,
    out: str = "",
    store: str = "",
    engine: str = "auto",
    memory: str = "",
    verbose: bool = False,
    quiet: bool = False,
) -> None:
    """Make the bundles, and run nothing on any board.

    Example: ./inv compile --targets armv6
    """
    given = {**locals(), "stages": "bundle"}
    finish(lambda: _run_pipeline(given))


@task(help={name: text for name, text in HELP.items() if name not in ("stages", "measure_again")})
def measure(
    context: Context,
    models: str = "",
    pipeline: str = "default",
    only: str = "",
    skip: str = "",
    targets: str = "",
    jobs: str = "",
    fail_fast: bool = False,
    require_checks: bool = False,
    out: str = "",
    store: str = "",
    boards: str = "",
    board: str = "",
    tag: str = "",
    priority: str = "",
    engine: str = "auto",
    memory: str = "",
    verbose: bool = False,
    quiet: bool = False,
) -> None:
    """Measure again, even what was measured before on this board.

    Example: ./inv measure --only 'x86_64-*'
    """
    given = {**locals(), "measure_again": True}
    finish(lambda: _run_pipeline(given))


@task(help={"out": HELP["out"]})
def report(context: Context, out: str = "") -> None:
    """Write the reports of the last run again, from its results.jsonl, and show its table.

    Example: ./inv report --out out
    """
    finish(lambda: _report_again(Path(out) if out else HOME / "out"))


@task(
    help={
        "models": HELP["models"],
        "pipeline": HELP["pipeline"],
        "yes": "use sudo for Debian packages when not root, without asking",
        "tests": "also what the tests need (on; --no-tests leaves it out)",
    }
)
def setup(context: Context, models: str = "", pipeline: str = "default", yes: bool = False, tests: bool = True) -> None:
    """Install what this machine lacks: Debian packages, Python packages of the chosen models, a container engine.

    Examples:
        ./inv setup
        ./inv setup --yes pipeline --models models.yaml
    """
    given = {"models": models, "pipeline": pipeline}
    finish(lambda: _set_up(given, yes=yes, tests=tests))


@task(help={"models": HELP["models"], "pipeline": HELP["pipeline"]})
def doctor(context: Context, models: str = "", pipeline: str = "default") -> None:
    """Say what is found on this machine, what is missing, and what that costs.

    Example: ./inv doctor
    """
    given = {"models": models, "pipeline": pipeline}
    finish(lambda: _examine(given))


@task(help={"arguments": "handed to pytest as they are, in place of the whole suite"})
def test(context: Context, arguments: str = "") -> None:
    """Check style and types, then run the unit tests and those integration tests that this machine can do.

    The unit tests share the processors; integration tests, which use ports, boards and containers, run one by one.

    Examples:
        ./inv test
        ./inv test --arguments 'tests/unit -k store'
    """
    if arguments:
        _run("pytest", *shlex.split(arguments))
        return
    lint(context)
    # Whatever the unit tests find, the integration tests are run too, so that one run tells all.
    codes = [_code_of("pytest", *words, "--integration", "-q") for words in (UNIT_TESTS, INTEGRATION_TESTS)]
    _end_with(next(filter(None, codes), 0))


@task
def lint(context: Context) -> None:
    """Check style with ruff and types with mypy --strict.

    Example: ./inv lint
    """
    _run("ruff", "check", "--quiet", ".")
    _run("mypy", "--no-error-summary")


@task(help={"name": "a file of benchmarks/, or all", "arguments": "for it"})
def bench(context: Context, name: str, arguments: str = "") -> None:
    """Measure crossfarm itself; the last line is `NAME value unit (goal ...)`, exit code 1 when short of the goal.

    `all` runs one after another, and writes the figures to docs/benchmarks.md.

    Examples:
        ./inv bench warm
        ./inv bench warm --arguments --small
        ./inv bench all
    """
    names = sorted(path.stem for path in (HOME / "benchmarks").glob("[a-z]*.py"))
    if name not in (*names, "all"):
        sys.stderr.write(f"there is no benchmark {name!r}{nearest(name, names)}; benchmarks: {', '.join(names)}, all\n")
        raise Exit(code=EXIT_BAD_CONFIG)
    _run("benchmarks._all" if name == "all" else f"benchmarks.{name}", *shlex.split(arguments))


@task(help={"arguments": "modules, and options: --sample, --seed, --like; see tests/mutants"})
def mutants(context: Context, arguments: str = "") -> None:
    """Change modules in many small ways and see whether their unit tests notice; exit code 1 when short of the goal.

    Examples:
        ./inv mutants
        ./inv mutants --arguments 'keys plan --sample 50 --seed 1'
    """
    _run("tests.mutants", *shlex.split(arguments))


@task(
    help={
        "kind": "of input; all by default",
        "count": "so many inputs of each kind, in place of the usual number",
        "seed": "the same seed makes the same inputs",
    }
)
def fuzz(context: Context, kind: str = "", count: str = "", seed: str = "0") -> None:
    """Feed hostile input of many kinds and see that each is refused in one line, in time, and writes nothing elsewhere.

    Examples:
        ./inv fuzz
        ./inv fuzz --kind yaml --count 100 --seed 7
    """
    _run("tests.fuzz", *([kind] if kind else ()), *(["--count", count] if count else ()), "--seed", seed)


def _run(module: str, *arguments: str) -> None:
    """Run a Python module of this environment in the project's folder; its failure ends the program with its code."""
    _end_with(_code_of(module, *arguments))


def _code_of(module: str, *arguments: str) -> int:
    """Run a Python module of this environment in the project's folder, and return its exit code."""
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=HOME, check=False).returncode


def _end_with(code: int) -> None:
    if code:
        raise Exit(code=code if code > 0 else EXIT_INTERRUPTED)
