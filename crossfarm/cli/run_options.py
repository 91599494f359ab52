"""The options of a run, which all verbs that run something share; and from them to crossfarm.pipeline.options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfarm.cli.verbs import JSON, Option

RUN_OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        Option(name="models", help="the file that lists the models (models.yaml)"),
        Option(name="pipeline", help="name of a file in pipelines/, or path of one (default)", default="default"),
        Option(name="only", help="globs over cell ids, separated by commas: 'armv7-*,*-mnist_cnn-*'", kind="list"),
        Option(name="skip", help="globs over cell ids that are left out", kind="list"),
        Option(name="targets", help="names of targets, separated by commas, in place of the pipeline's", kind="list"),
        Option(
            name="stages",
            help="names of stages, separated by commas: fetch,prepare,reference,compile,bundle,measure,check",
            kind="list",
        ),
        Option(name="jobs", help="how many jobs run at once (one per CPU)", kind="count"),
        Option(name="fail_fast", help="start nothing more after the first failure", kind="flag"),
        Option(
            name="require_checks",
            help="end with 3 when a cell was not checked, unless its model's `skip` leaves it out, or none was",
            kind="flag",
        ),
        Option(name="out", help="folder for reports and logs (out)"),
        Option(name="store", help="folder of the store (.crossfarm/store)"),
        Option(
            name="history",
            help="file or postgresql:// URL that keeps the results of all runs, or none (history.db beside the store)",
        ),
        Option(name="boards", help="the file that declares the boards (boards.yaml, where there is one)"),
        Option(name="board", help="names of boards to use, separated by commas (all)", kind="list"),
        Option(name="tag", help="tags that a board must have, separated by commas", kind="list"),
        Option(name="priority", help="of measurements that wait for a board; higher goes first (0)", kind="count"),
        Option(name="measure_again", help="measure even what was measured before on this board", kind="flag"),
        Option(
            name="engine",
            help="where jobs run: container, local, or auto: containers where a container engine answers (auto)",
            default="auto",
        ),
        Option(
            name="memory",
            help="GiB that a job in a container may take (the machine's, shared, at most 8)",
            kind="number",
        ),
        Option(name="verbose", help="show every job, up to date ones too", kind="flag"),
        Option(name="quiet", help="show failures and the table only", kind="flag"),
        Option(name="all", help="show every row of the table and every failure, however many screens", kind="flag"),
        JSON,
    )
}
"""By name, in the order of the help."""

_SELECTION = ("only", "skip", "targets", "stages")
_FIELDS = {"boards": "boards_file", "board": "boards", "tag": "tags", "all": "everything"}
"""Options whose field in pipeline.options.Options has another name."""
_PATHS = ("models", "out", "store", "boards")


def run_options(*names: str) -> tuple[Option, ...]:
    """Return options of a run by name."""
    return tuple(RUN_OPTIONS[name] for name in names)


def all_but(*names: str) -> tuple[Option, ...]:
    """Return the options of a run but for some."""
    return tuple(option for name, option in RUN_OPTIONS.items() if name not in names)


def options(given: Mapping[str, Any]) -> Any:
    """Return the Options that a verb's arguments ask for.

    Args:
        given: arguments by name; those that are no option of a run are left out, and an empty one asks for the default.
    """
    from crossfarm.pipeline.options import Options
    from crossfarm.pipeline.plan import Selection

    said = {name: value for name, value in given.items() if name in RUN_OPTIONS and value not in (None, "", ())}
    said.pop(JSON.name, None)
    selection = {name: said.pop(name) for name in _SELECTION if name in said}
    fields: dict[str, Any] = {
        _FIELDS.get(name, name): Path(value) if name in _PATHS else value for name, value in said.items()
    }
    return Options(selection=Selection(**selection), **fields)
