"""Carries runs from one history to another: results files and histories in, one file out; and deletes old runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from crossfarm.errors import ConfigError, StoreError
from crossfarm.reports.history.database import History
from crossfarm.reports.history.kept_run import kept_run
from crossfarm.reports.history.place import Place
from crossfarm.reports.history.read_results import read_results
from crossfarm.util.files import replacing
from crossfarm.util.text import one_line

_SQLITE_MAGIC = b"SQLite format 3\0"
_AT_ONCE = 50
"""Runs that are added in one transaction."""
_DAY = 86400.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did.

    Attributes:
        added: how many runs are new.
        known: how many were there already.
        told: what could not be read, a line each.
    """

    added: int
    known: int
    told: tuple[str, ...] = ()


def import_file(history: History, path: Path) -> Imported:
    """Add the runs of a results file, or of the SQLite file of another history; those that are there stay as they are.

    Raises:
        StoreError: the file cannot be read, or holds no run.
        HistoryError: one of the histories cannot be used.
    """
    try:
        with path.open("rb") as stream:
            is_history = stream.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError as error:
        raise StoreError(
            f"{one_line(str(path))}: cannot be read: {error.strerror}; give a results.jsonl or the file of a history"
        ) from error
    if is_history:
        return _import_history(history, path)
    found = read_results(path)
    added = history.add_all([kept_run(records) for records in found.runs])
    return Imported(added=added, known=len(found.runs) - added, told=found.told)


def export(history: History, path: Path) -> int:
    """Write all runs into a new SQLite file, in place of one that stands there; returns how many there are.

    Raises:
        StoreError: the file cannot be written.
        HistoryError: the history cannot be read.
    """
    if history.place.file is not None and path.exists() and path.samefile(history.place.file):
        raise ConfigError(f"{one_line(str(path))}: is the history itself; give another file")
    ids = history.run_ids()
    try:
        with replacing(path) as fresh, History(Place(file=fresh)) as copy:
            _copy(history, copy, ids)
    except OSError as error:
        raise StoreError(
            f"{one_line(str(path))}: cannot be written: {error.strerror}; give a file in a folder that can be written"
        ) from error
    return len(ids)


def prune(history: History, *, keep_days: float | None, keep_runs: int | None, now: float | None = None) -> int:
    """Delete old runs; returns how many.

    Args:
        history: which.
        keep_days: runs that ended in so many days before now stay.
        keep_runs: the newest so many runs stay; with both, a run stays for either.
        now: seconds since the epoch; None asks the clock.

    Raises:
        ConfigError: neither is given, or one is negative.
        HistoryError: the history cannot be written.
    """
    if keep_days is None and keep_runs is None:
        raise ConfigError("say what to keep: --keep-days 90, --keep-runs 200, or both")
    if (keep_days or 0) < 0 or (keep_runs or 0) < 0:
        raise ConfigError("--keep-days and --keep-runs: give 0 or more")
    ids = history.run_ids()
    kept = set(ids[-keep_runs:]) if keep_runs else set()
    if keep_days is not None:
        since = (time.time() if now is None else now) - keep_days * _DAY
        kept |= set(history.run_ids(since=since))
    return history.delete([run for run in ids if run not in kept])


def _import_history(history: History, path: Path) -> Imported:
    with History(Place(file=path), make=False) as other:
        ids = other.run_ids()
        known = set(history.run_ids())
        added = _copy(other, history, [run for run in ids if run not in known])
    return Imported(added=added, known=len(ids) - added)


def _copy(source: History, target: History, ids: Sequence[str]) -> int:
    return sum(target.add_all(list(source.read_all(ids[at : at + _AT_ONCE]))) for at in range(0, len(ids), _AT_ONCE))
