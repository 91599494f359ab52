"""The verbs of `./inv` and of `invoke` in this folder; crossfarm/cli/ says what each takes and does."""

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
