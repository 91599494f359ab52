"""The verbs of `./inv` and of `invoke` in this folder; crossfarm/cli/ says what each takes and does."""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
_HANDED_OVER = "CROSSFARM_HANDED_OVER"


def _hand_over() -> None:
    """Replace an `invoke` of another environment by ./inv, which has the versions of the lock; it makes them first."""
    os.environ[_HANDED_OVER] = "1"
    program = str(_ROOT / "inv")
    os.execv(program, [program, *sys.argv[1:]])  # noqa: S606 - our own program with what was typed, no shell


if (
    (_ROOT / ".venv").is_dir()
    and Path(sys.prefix).resolve() != (_ROOT / ".venv").resolve()
    and _HANDED_OVER not in os.environ
):
    _hand_over()
try:
    from crossfarm.cli.boards import inspect_boards
    from crossfarm.cli.ci import annotate, matrix, merge
    from crossfarm.cli.clean import clean
    from crossfarm.cli.containers import reproduce, shell
    from crossfarm.cli.develop import bench, conformance, fuzz, lint, mutants, test
    from crossfarm.cli.history import compare, history, history_export, history_import, history_prune
    from crossfarm.cli.images import images
    from crossfarm.cli.inspection import inspect
    from crossfarm.cli.packages import bundle, package
    from crossfarm.cli.pipeline import compile, measure, pipeline, plan, report
    from crossfarm.cli.setup import doctor, setup
    from crossfarm.cli.tuning import profile, tune
    from crossfarm.cli.virtual_boards import board_down, board_up
except ImportError:
    if _HANDED_OVER in os.environ:
        raise
    _hand_over()
os.environ.pop(_HANDED_OVER, None)

__all__ = [
    "annotate",
    "bench",
    "board_down",
    "board_up",
    "bundle",
    "clean",
    "compare",
    "compile",
    "conformance",
    "doctor",
    "fuzz",
    "history",
    "history_export",
    "history_import",
    "history_prune",
    "images",
    "inspect",
    "inspect_boards",
    "lint",
    "matrix",
    "measure",
    "merge",
    "mutants",
    "package",
    "pipeline",
    "plan",
    "profile",
    "report",
    "reproduce",
    "setup",
    "shell",
    "test",
    "tune",
]
