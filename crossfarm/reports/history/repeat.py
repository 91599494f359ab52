"""Adds a run to a SQLite file that found the same as one that is in it: its rows are copied inside the file.

Imports nothing but the standard library, as a run does in which nothing changed.
"""

# ruff: noqa: S608  (names of tables are ours; all values are parameters)
from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crossfarm.reports.history.columns import CELLS, CHECKS, COLUMNS, NUMBERS, RUNS, SCHEMA, STEP, VERSION_TABLE

BUSY_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnValues:
    """What is of the new run alone.

    Attributes:
        run: its id.
        started: ISO 8601 time with its offset.
        seconds: how long it took.
        position: of its end, in seconds since the epoch, see KeptRun.
    """

    run: str
    started: str
    seconds: float
    position: float


def repeat_run(path: Path, known: str, own: OwnValues) -> bool:
    """Add a run whose cells, numbers and checks are those of a known one.

    Args:
        path: of the history.
        known: id of the run that is in it.
        own: what is of the new one alone.

    Returns:
        False where it was not added: the file or the known run is not there, has another schema, or cannot be written.
    """
    address = f"file:{quote(str(path))}?mode=rw"
    with contextlib.suppress(sqlite3.Error, OSError):
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        with contextlib.closing(connection):
            cursor = connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            if _is_readable(cursor) and _repeat(cursor, known, own):
                cursor.execute("COMMIT")
                return True
    return False


def _is_readable(cursor: sqlite3.Cursor) -> bool:
    cursor.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (VERSION_TABLE,))
    if cursor.fetchone() is None:
        return False
    cursor.execute(f"SELECT version_num FROM {VERSION_TABLE}")
    return bool(cursor.fetchone() == (SCHEMA,))


def _repeat(cursor: sqlite3.Cursor, known: str, own: OwnValues) -> bool:
    cursor.execute(f"SELECT number, host FROM {RUNS} WHERE run = ?", (known,))
    found = cursor.fetchone()
    if found is None:
        return False
    old, host = found
    number = int(_one(cursor, f"SELECT max(number) FROM {RUNS}")) + 1
    newest = float(_one(cursor, f"SELECT max(position) FROM {RUNS} WHERE host = ?", host))
    values = {**dataclasses.asdict(own), "number": number, "position": max(own.position, newest + STEP)}
    _copy(cursor, RUNS, values, where="number = ?", old=old)
    if _one(cursor, f"SELECT count(*) FROM {CELLS} WHERE run = ?", old):
        first = int(_one(cursor, f"SELECT min(number) FROM {CELLS} WHERE run = ?", old))
        further = int(_one(cursor, f"SELECT max(number) FROM {CELLS}")) + 1 - first
        _copy(cursor, CELLS, {"run": number}, where="run = ?", old=old, moved="number", by=further)
        for table in (NUMBERS, CHECKS):
            of_cells = f"cell IN (SELECT number FROM {CELLS} WHERE run = ?)"
            _copy(cursor, table, {}, where=of_cells, old=old, moved="cell", by=further)
    return True


def _copy(
    cursor: sqlite3.Cursor,
    table: str,
    own: Mapping[str, object],
    *,
    where: str,
    old: int,
    moved: str = "",
    by: int = 0,
) -> None:
    """Copy the rows of an old run: some columns get values of their own, and the number in one is moved."""
    columns = COLUMNS[table]
    taken = ["?" if name in own else f"{name} + ?" if name == moved else name for name in columns]
    given = [own.get(name, by) for name in columns if name in own or name == moved]
    cursor.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(taken)} FROM {table} WHERE {where}",
        (*given, old),
    )


def _one(cursor: sqlite3.Cursor, sql: str, *values: object) -> Any:
    cursor.execute(sql, values)
    return cursor.fetchone()[0]
