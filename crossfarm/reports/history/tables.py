"""The tables of the history, for queries; migrations/versions makes them, insert.py fills them."""

from __future__ import annotations

import sqlalchemy as sa

from crossfarm.reports.history.columns import CELLS, CHECKS, NUMBERS, RUNS

METADATA = sa.MetaData()

TEXT = sa.Text
REAL = sa.Double

runs = sa.Table(
    RUNS,
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("run", TEXT, nullable=False, unique=True),
    sa.Column("position", REAL, nullable=False, index=True),
    sa.Column("started", TEXT, nullable=False),
    sa.Column("command", TEXT, nullable=False),
    sa.Column("version", TEXT, nullable=False),
    sa.Column("tools", TEXT, nullable=False),
    sa.Column("git_commit", TEXT),
    sa.Column("host", TEXT, nullable=False),
    sa.Column("exit_code", sa.Integer),
    sa.Column("seconds", REAL),
    sa.Column("interrupted", sa.Integer, nullable=False),
)
"""One row a run. `position` orders them; `exit_code` is NULL for one that was killed."""

cells = sa.Table(
    CELLS,
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("run", sa.Integer, sa.ForeignKey(runs.c.number), nullable=False, index=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("cell", TEXT, nullable=False, index=True),
    sa.Column("target", TEXT, nullable=False),
    sa.Column("model", TEXT, nullable=False, index=True),
    sa.Column("variant", TEXT, nullable=False),
    sa.Column("state", TEXT, nullable=False),
    sa.Column("cause", TEXT, nullable=False),
    sa.Column("board", TEXT),
    sa.Column("timing", TEXT),
    sa.Column("provenance", TEXT),
    sa.Column("bundle", TEXT),
    sa.Column("command", TEXT),
)
"""One row a cell of a run; `place` is its place in the plan, `provenance` the JSON of where its numbers come from."""

numbers = sa.Table(
    NUMBERS,
    METADATA,
    sa.Column("cell", sa.Integer, sa.ForeignKey(cells.c.number), primary_key=True, autoincrement=False),
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("value", REAL),
    sa.Column("unit", TEXT, nullable=False),
    sa.Column("samples", sa.LargeBinary),
    sa.Column("provenance", TEXT),
    sqlite_with_rowid=False,
)
"""One row a number of a cell. A `value` of NULL is NaN; `samples` as kept_run.pack makes them."""

checks = sa.Table(
    CHECKS,
    METADATA,
    sa.Column("cell", sa.Integer, sa.ForeignKey(cells.c.number), primary_key=True, autoincrement=False),
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("status", TEXT, nullable=False),
    sa.Column("value", REAL),
    sa.Column("limit_value", REAL),
    sa.Column("unit", TEXT),
    sa.Column("message", TEXT, nullable=False),
    sa.Column("note", TEXT),
    sa.Column("cases", sa.Integer),
    sqlite_with_rowid=False,
)
"""One row a check of a cell."""
