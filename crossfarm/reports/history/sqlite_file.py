"""Adds a run to a SQLite file that has the present tables, with the standard library alone, as a warm run does.

The file keeps SQLite's default journal, which is beside it only while a transaction is being committed: the history is
one file, which continuous integration can carry from machine to machine. Every commit is synced.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from crossfarm.errors import HistoryError
from crossfarm.reports.history.columns import SCHEMA, VERSION_TABLE
from crossfarm.reports.history.insert import insert_run
from crossfarm.reports.history.kept_run import KeptRun
from crossfarm.util.text import one_line

BUSY_SECONDS = 5.0
"""How long somebody waits for another who writes; a run of 1,000 cells is written in less than a second."""


def add_to_file(path: Path, run: KeptRun, *, busy_seconds: float = BUSY_SECONDS) -> bool:
    """Add a run that has just ended to a file.

    Returns:
        False when the file has to be made or migrated first.

    Raises:
        HistoryError: it is locked, full, read-only, damaged or no SQLite file.
    """
    if not path.exists():
        return False
    with told(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw", uri=True, timeout=busy_seconds, isolation_level=None
        )
        with contextlib.closing(connection):
            cursor = connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                if _schema(cursor) != SCHEMA:
                    cursor.execute("ROLLBACK")
                    return False
                insert_run(cursor, run, mark="?", live=True)
                cursor.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.rollback()
                raise
    return True


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise what SQLite raises as a HistoryError that says what to do.

    Raises:
        HistoryError: SQLite failed.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise HistoryError(f"{one_line(str(path))}: {one_line(str(error))}{advice(str(error))}") from error


def advice(said: str) -> str:
    """Return what to do about an error of SQLite; empty where its own words are enough."""
    hints = {
        "locked": "; another command writes to it: try again",
        "readonly": "; give a --history that may be written",
        "full": "; free some space, or see `./inv history prune`",
        "not a database": "; give the file of a history",
        "malformed": "; it is damaged: put a copy in its place, or take it away for a new one",
        "unable to open": "; give a --history that can be written",
    }
    return next((hint for word, hint in hints.items() if word in said), "")


def _schema(cursor: sqlite3.Cursor) -> str | None:
    """Return the revision of the tables; None where there are none."""
    cursor.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (VERSION_TABLE,))
    if cursor.fetchone() is None:
        return None
    cursor.execute(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608
    row = cursor.fetchone()
    return str(row[0]) if row else None
