"""Writes a run into the tables through a cursor of either driver: SQLite's own, or PostgreSQL's.

Plain SQL, so that a warm run, which writes into a SQLite file, need not import SQLAlchemy: that takes longer than all
the rest of keeping a run. crossfarm/reports/history/tables.py declares the tables; a test holds the two together.
"""

# ruff: noqa: S608  (names of tables are ours; all values are parameters)
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from crossfarm.reports.history.columns import CELLS, CHECKS, COLUMNS, NUMBERS, RUNS, STEP
from crossfarm.reports.history.kept_run import KeptCell, KeptRun, pack


class Cursor(Protocol):
    """What both drivers offer."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement for many rows."""

    def fetchone(self) -> Any:
        """Return the next row of the last statement, None when there is none."""


def insert_run(cursor: Cursor, run: KeptRun, *, mark: str, live: bool) -> bool:
    """Insert a run, unless it is there.

    A run that is there without its end, because its records were read while it ran or after it was killed, is replaced
    by one with its end.

    Args:
        cursor: in a transaction in which no other writes, and which the caller commits.
        run: what to insert.
        mark: stands for a value in a statement: `?` or `%s`.
        live: the run has just ended, so it comes after all others of its host, whatever its clock says.

    Returns:
        Whether it was inserted.
    """
    cursor.execute(f"SELECT number, exit_code FROM {RUNS} WHERE run = {mark}", (run.run,))
    found = cursor.fetchone()
    if found is not None:
        if found[1] is not None or run.exit_code is None:
            return False
        delete_run(cursor, found[0], mark=mark)
    position = run.position
    if live:
        cursor.execute(f"SELECT max(position) FROM {RUNS} WHERE host = {mark}", (run.host,))
        newest = cursor.fetchone()[0]
        position = position if newest is None else max(position, newest + STEP)
    number = _next_number(cursor, RUNS)
    _insert(cursor, RUNS, [_run_row(run, number, position)], mark)
    first = _next_number(cursor, CELLS)
    _insert(cursor, CELLS, [_cell_row(cell, first + at, number, at) for at, cell in enumerate(run.cells)], mark)
    _insert(cursor, NUMBERS, _number_rows(run.cells, first), mark)
    _insert(cursor, CHECKS, _check_rows(run.cells, first), mark)
    return True


def delete_run(cursor: Cursor, number: int, *, mark: str) -> None:
    """Delete a run and all that belongs to it."""
    for table in (NUMBERS, CHECKS):
        cursor.execute(f"DELETE FROM {table} WHERE cell IN (SELECT number FROM {CELLS} WHERE run = {mark})", (number,))
    cursor.execute(f"DELETE FROM {CELLS} WHERE run = {mark}", (number,))
    cursor.execute(f"DELETE FROM {RUNS} WHERE number = {mark}", (number,))


def _next_number(cursor: Cursor, table: str) -> int:
    cursor.execute(f"SELECT coalesce(max(number), 0) FROM {table}")
    return int(cursor.fetchone()[0]) + 1


def _insert(cursor: Cursor, table: str, rows: Sequence[Sequence[Any]], mark: str) -> None:
    columns = COLUMNS[table]
    marks = ", ".join([mark] * len(columns))
    if rows:
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def _run_row(run: KeptRun, number: int, position: float) -> tuple[Any, ...]:
    return (
        *(number, run.run, position, run.started, run.command, run.version, run.tools, run.git_commit, run.host),
        *(run.exit_code, run.seconds, int(run.interrupted)),
    )


def _cell_row(cell: KeptCell, number: int, run: int, place: int) -> tuple[Any, ...]:
    return (
        *(number, run, place, cell.cell, cell.target, cell.model, cell.variant, cell.state, cell.cause),
        *(cell.board, cell.timing, cell.provenance, cell.bundle, cell.command),
    )


def _number_rows(cells: Sequence[KeptCell], first: int) -> list[tuple[Any, ...]]:
    return [
        (first + at, name, _value(item.value), item.unit, pack(item.samples), item.provenance)
        for at, cell in enumerate(cells)
        for name, item in cell.numbers.items()
    ]


def _check_rows(cells: Sequence[KeptCell], first: int) -> list[tuple[Any, ...]]:
    return [
        (
            *(first + at, name, check.status, _value(check.value), _value(check.limit), check.unit),
            *(check.message, check.note, check.cases),
        )
        for at, cell in enumerate(cells)
        for name, check in cell.checks.items()
    ]


def _value(value: float | None) -> float | None:
    """Return a number as both databases hold it: SQLite keeps NULL in place of NaN."""
    return None if value is None or math.isnan(value) else value
