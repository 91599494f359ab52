"""What the verbs about the history do: open it, and find the two runs that are compared."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from crossfarm.cli.run_options import options as options_of
from crossfarm.cli.verbs import Given
from crossfarm.errors import ConfigError, StoreError
from crossfarm.pipeline.options import Options
from crossfarm.reports import BADGE, COMPARISON
from crossfarm.reports.badge import with_regressions
from crossfarm.reports.history.database import History
from crossfarm.reports.history.kept_run import KeptRun, kept_run
from crossfarm.reports.history.place import VARIABLE
from crossfarm.reports.history.read_results import read_results
from crossfarm.reports.regression import comparison_text
from crossfarm.reports.regression.before import NAME
from crossfarm.reports.regression.comparison import (
    WINDOW,
    Comparison,
    Confirm,
    baseline,
    compare,
    compare_runs,
    judged_names,
)
from crossfarm.util.files import write_text
from crossfarm.util.paths import HOME
from crossfarm.util.processes import output_of

BASELINE, LATEST, PREVIOUS = "baseline", "latest", "previous"
_GIT_SECONDS = 60


def open_history(given: Given, *, make: bool = False) -> History:
    """Open the history that the options name.

    Raises:
        ConfigError: they name none.
        HistoryError: it cannot be used, or is not there and not to be made.
    """
    place = options_of(given).history_place
    if place is None:
        raise ConfigError(f"--history none, or {VARIABLE}=none: name the history that is meant")
    return History(place, make=make)


def compare_by_name(given: Given, options: Options) -> Comparison:
    """Compare the two runs that a user names.

    Raises:
        ConfigError: one of them is not known.
        HistoryError: the history cannot be used.
        StoreError: a results file cannot be read.
    """
    old, new = given["old"], given["new"]
    if new in (BASELINE, PREVIOUS):
        raise ConfigError(f"{new}: can only be what something is compared with: ./inv compare {new} latest")
    if _is_file(old) and _is_file(new):
        before, later = _of_file(old), _of_file(new)
        with _confirming(given, options) as confirm:
            return compare_runs(before, later, confirm=confirm)
    with open_history(given) as history:
        later = _run(history, new)
        if old == BASELINE:
            name, earlier = NAME, baseline(_before(history, later), later)
        else:
            before = _previous(history, later) if old == PREVIOUS else _run(history, old)
            name, earlier = before.run, {cell.cell: (cell,) for cell in before.cells}
    with _confirming(given, options) as confirm:
        return compare(name, earlier, later, confirm=confirm)


def write_comparison(out: Path, found: Comparison, *, everything: bool) -> None:
    """Write a comparison beside the reports of the run, as JSON and Markdown, and into the run's badge.

    Raises:
        StoreError: a file cannot be written, or what is called badge.json is none.
    """
    try:
        texts = (comparison_text.as_json(found), comparison_text.as_markdown(found, everything=everything))
        for name, text in zip(COMPARISON, texts, strict=True):
            write_text(out / name, text)
        badge = out / BADGE
        if badge.exists():
            text = badge.read_text(encoding="utf-8")
            write_text(badge, with_regressions(text, sum(row.gates for row in found.rows)))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"--write {out}: {error}; give a folder that can be written") from error


@contextlib.contextmanager
def _confirming(given: Given, options: Options) -> Iterator[Confirm | None]:
    if not given["confirm"]:
        yield None
        return
    from crossfarm.pipeline.confirm import confirming

    with confirming(options) as confirm:
        yield confirm


def _before(history: History, run: KeptRun) -> Sequence[KeptRun]:
    return history.before(run, runs=WINDOW, names=judged_names(run))


def _previous(history: History, run: KeptRun) -> KeptRun:
    found = history.before(run, runs=1)
    if not found:
        raise ConfigError(f"{PREVIOUS}: the history holds no run before {run.run}")
    return found[0]


def _run(history: History, name: str) -> KeptRun:
    """Return a run by the name that a user gave it."""
    if _is_file(name):
        return _of_file(name)
    if name == LATEST:
        ids = history.run_ids()
        if not ids:
            raise ConfigError(f"{LATEST}: the history holds no run yet")
        return history.read(ids[-1])
    found = history.find(name)
    if found is None and (commit := _commit(name)):
        found = history.find(commit)
    if found is None:
        raise history.unknown(name)
    return history.read(found)


def _is_file(name: str) -> bool:
    return name.endswith(".jsonl") or (os.sep in name and Path(name).is_file())


def _of_file(name: str) -> KeptRun:
    return kept_run(read_results(Path(name)).runs[-1])


def _commit(name: str) -> str | None:
    """Return the commit that a git revision of this project means; None when it means none."""
    command = ["git", "-C", str(HOME), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
    return (output_of(command, wall_seconds=_GIT_SECONDS) or "").strip() or None
