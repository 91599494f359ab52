"""What users type to run a pipeline, to see what it would do, and to see its reports again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.cli.run_options import all_but, options, run_options
from crossfarm.cli.verbs import Given, verb

if TYPE_CHECKING:
    from crossfarm.reports.run_view import Overview

_BOARDS = ("boards", "board", "tag", "priority")


@verb(*all_but())
def pipeline(given: Given) -> int:
    """Compile, run and check every model on every target, and write the reports.

    Examples:
        ./inv pipeline --models models.yaml
        ./inv pipeline --pipeline smoke --jobs 2
        ./inv pipeline --only 'armv7-*' --skip '*-ppocr_rec-*'
    """
    return _run(given)


@verb(
    *run_options("models", "pipeline", "only", "skip", "targets", "stages", "store"),
    *run_options("boards", "board", "tag", "measure_again", "engine", "json"),
)
def plan(given: Given) -> int:
    """Print what the next run would do, job by job, and why.

    Examples:
        ./inv plan
        ./inv plan --only '*-mnist_cnn-*' --stages compile
    """
    from crossfarm.pipeline.run import show_plan

    return show_plan(options(given), given["json"].write if given["json"] else None)


@verb(*all_but("stages", "measure_again", "require_checks", *_BOARDS))
def compile(given: Given) -> int:
    """Make the bundles, and run nothing on any board.

    Example: ./inv compile --targets armv6
    """
    return _run({**given, "stages": ("bundle",)})


@verb(*all_but("stages", "measure_again"))
def measure(given: Given) -> int:
    """Measure again, even what was measured before on this board.

    Example: ./inv measure --only 'x86_64-*'
    """
    return _run({**given, "measure_again": True})


@verb(*run_options("out", "history", "store", "all", "json"))
def report(given: Given) -> int:
    """Write the reports of the last run again, from its results.jsonl, and show its table.

    Example: ./inv report --out out
    """
    from crossfarm.pipeline.show import report_again

    wanted = options(given)
    seen: list[Overview] = []
    code = report_again(wanted.out, wanted.history_place, everything=given["all"], tell=seen.append)
    _answer(given, seen, code, wanted.out)
    return code


def _run(given: Given) -> int:
    from crossfarm.pipeline.run import run_pipeline

    wanted = options(given)
    seen: list[Overview] = []
    code = run_pipeline(wanted, seen.append) if given["json"] else run_pipeline(wanted)
    _answer(given, seen, code, wanted.out)
    return code


def _answer(given: Given, seen: list[Overview], code: int, out: Path) -> None:
    """Write what became of a run as JSON, where that is asked for."""
    if given["json"] and seen:
        from crossfarm.pipeline.options import shown
        from crossfarm.pipeline.show import SHOWN
        from crossfarm.reports.outcome import outcome_json

        given["json"].write(outcome_json(seen[-1], code, {name: shown(out / name) for name in SHOWN}))
