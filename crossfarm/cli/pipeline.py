"""What users type to run a pipeline, to see what it would do, and to see its reports again."""

from __future__ import annotations

from pathlib import Path

from crossfarm.cli.run_options import all_but, options, run_options
from crossfarm.cli.verbs import Given, verb
from crossfarm.util.paths import HOME

_BOARDS = ("boards", "board", "tag", "priority")


@verb(*all_but())
def pipeline(given: Given) -> int:
    """Compile, run and check every model on every target, and write the reports.

    Examples:
        ./inv pipeline --models models.yaml
        ./inv pipeline --pipeline smoke --jobs 2
        ./inv pipeline --only 'armv7-*' --skip '*-ppocr_rec-*'
    """
    from crossfarm.pipeline.run import run_pipeline

    return run_pipeline(options(given))


@verb(
    *run_options("models", "pipeline", "only", "skip", "targets", "stages", "store"),
    *run_options("boards", "board", "tag", "measure_again", "engine"),
)
def plan(given: Given) -> int:
    """Print what the next run would do, job by job, and why.

    Examples:
        ./inv plan
        ./inv plan --only '*-mnist_cnn-*' --stages compile
    """
    from crossfarm.pipeline.run import show_plan

    return show_plan(options(given))


@verb(*all_but("stages", "measure_again", "require_checks", *_BOARDS))
def compile(given: Given) -> int:
    """Make the bundles, and run nothing on any board.

    Example: ./inv compile --targets armv6
    """
    from crossfarm.pipeline.run import run_pipeline

    return run_pipeline(options({**given, "stages": ("bundle",)}))


@verb(*all_but("stages", "measure_again"))
def measure(given: Given) -> int:
    """Measure again, even what was measured before on this board.

    Example: ./inv measure --only 'x86_64-*'
    """
    from crossfarm.pipeline.run import run_pipeline

    return run_pipeline(options({**given, "measure_again": True}))


@verb(*run_options("out", "history", "store"))
def report(given: Given) -> int:
    """Write the reports of the last run again, from its results.jsonl, and show its table.

    Example: ./inv report --out out
    """
    from crossfarm.pipeline.run import report_again

    return report_again(Path(given["out"]) if given["out"] else HOME / "out", options(given).history_place)
