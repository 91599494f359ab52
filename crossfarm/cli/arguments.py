"""What all tasks share: the texts of the options, from arguments to options, and how a task ends."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit

from crossfarm.errors import EXIT_GOOD, EXIT_INTERRUPTED, ConfigError, CrossfarmError

HELP = {
    "models": "the file that lists the models (models.yaml)",
    "pipeline": "name of a file in pipelines/, or path of one (default)",
    "only": "globs over cell ids, separated by commas: 'armv7-*,*-mnist_cnn-*'",
    "skip": "globs over cell ids that are left out",
    "targets": "names of targets, separated by commas, in place of the pipeline's",
    "stages": "names of stages, separated by commas: fetch,prepare,reference,compile,bundle,measure,check",
    "jobs": "how many jobs run at once (one per CPU)",
    "fail_fast": "start nothing more after the first failure",
    "require_checks": "end with 3 when a cell was not checked, unless its model's `skip` leaves it out, or none was",
    "out": "folder for reports and logs (out)",
    "store": "folder of the store (.crossfarm/store)",
    "boards": "the file that declares the boards (boards.yaml, where there is one)",
    "board": "names of boards to use, separated by commas (all)",
    "tag": "tags that a board must have, separated by commas",
    "priority": "of measurements that wait for a board; higher goes first (0)",
    "measure_again": "measure even what was measured before on this board",
    "engine": "where jobs run: container, local, or auto: containers where a container engine answers (auto)",
    "memory": "GiB that a job in a container may take (the machine's, shared, at most 8)",
    "verbose": "show every job, up to date ones too",
    "quiet": "show failures and the table only",
}


def finish(action: Callable[[], int]) -> None:
    """Run an action and end the program with its exit code; our own errors are shown without a traceback.

    What an action imports it imports in here, so that Ctrl-C ends an import like everything else.
    """
    try:
        code = action()
    except CrossfarmError as error:
        from crossfarm.util.text import write

        sys.stdout.flush()
        write(sys.stderr, f"{error}\n")
        code = error.exit_code
    except BrokenPipeError:
        # The reader has gone (`| head`). What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_GOOD
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = EXIT_INTERRUPTED
    if code:
        raise Exit(code=code)


def options(given: Mapping[str, Any]) -> Any:
    """Return the Options that a task's arguments ask for.

    Args:
        given: the arguments by name, as `locals()` of a task has them; an empty one asks for the default.

    Raises:
        ConfigError: a number is none.
    """
    from crossfarm.pipeline.options import Options
    from crossfarm.pipeline.plan import Selection

    arguments = {name: value for name, value in given.items() if name != "context"}
    selection = {name: parts(arguments.pop(name, None)) for name in ("only", "skip", "targets", "stages")}
    fields: dict[str, Any] = {
        "boards": parts(arguments.pop("board", None)),
        "tags": parts(arguments.pop("tag", None)),
    }
    for name, field in (("models",) * 2, ("out",) * 2, ("store",) * 2, ("boards", "boards_file")):
        if text := arguments.pop(name, None):
            fields[field] = Path(text)
    for name in ("jobs", "priority"):
        if text := arguments.pop(name, None):
            fields[name] = int(number(name, text))
    if text := arguments.pop("memory", None):
        fields["memory"] = number("memory", text)
    said = {name: value for name, value in arguments.items() if value not in (None, "")}
    return Options(selection=Selection(**selection), **fields, **said)


def parts(text: str | None) -> tuple[str, ...]:
    """Return what stands between the commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def number(option: str, text: str) -> float:
    """Return the number that an option was given; invoke itself would show a traceback for a text that is none.

    Raises:
        ConfigError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (option in ("jobs", "priority") and not value.is_integer()):
        raise ConfigError(f"--{option.replace('_', '-')} {text}: give a number")
    return value
