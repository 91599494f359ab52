"""Keeps a run that has ended in the history. No run is lost, nor ends otherwise, because its history is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossfarm.errors import HistoryError, StoreError
from crossfarm.reports.history.kept_run import kept_run
from crossfarm.reports.history.place import Place
from crossfarm.reports.history.sqlite_file import BUSY_SECONDS, add_to_file
from crossfarm.results import Record


def keep_run(records: Sequence[Record], place: Place, *, results: Path, busy_seconds: float = BUSY_SECONDS) -> str:
    """Add the last run of `records` to a history.

    Args:
        records: complete, and in their file already.
        place: where the history is.
        results: the file, which is named when the history cannot be written.
        busy_seconds: how long to wait for another who writes.

    Returns:
        One line that says why the run is not in the history; empty when it is.
    """
    try:
        run = kept_run(records)
        if place.file is not None and add_to_file(place.file, run, busy_seconds=busy_seconds):
            return ""
        # Only the first run into a new history, or one into PostgreSQL, waits for the import of SQLAlchemy.
        from crossfarm.reports.history.database import History

        with History(place, busy_seconds=busy_seconds) as history:
            history.add(run, live=True)
    except (HistoryError, StoreError) as error:
        return f"not kept in the history: {error}; the results are complete: ./inv history import {results} adds them"
    return ""
