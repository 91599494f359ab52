"""The first tables: runs, their cells, and the numbers and checks of these.

A revision stays as it was when it was released; crossfarm/reports/history/tables.py says how the tables are today.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_RUNS, _CELLS = "crossfarm_history_runs", "crossfarm_history_cells"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        _RUNS,
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("run", sa.Text, nullable=False, unique=True),
        sa.Column("position", sa.Double, nullable=False, index=True),
        sa.Column("started", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("tools", sa.Text, nullable=False),
        sa.Column("git_commit", sa.Text),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("seconds", sa.Double),
        sa.Column("interrupted", sa.Integer, nullable=False),
    )
    op.create_table(
        _CELLS,
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("run", sa.Integer, sa.ForeignKey(f"{_RUNS}.number"), nullable=False, index=True),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("cell", sa.Text, nullable=False, index=True),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False, index=True),
        sa.Column("variant", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("board", sa.Text),
        sa.Column("timing", sa.Text),
        sa.Column("provenance", sa.Text),
        sa.Column("bundle", sa.Text),
        sa.Column("command", sa.Text),
    )
    op.create_table(
        "crossfarm_history_numbers",
        sa.Column("cell", sa.Integer, sa.ForeignKey(f"{_CELLS}.number"), primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("samples", sa.LargeBinary),
        sa.Column("provenance", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "crossfarm_history_checks",
        sa.Column("cell", sa.Integer, sa.ForeignKey(f"{_CELLS}.number"), primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("limit_value", sa.Double),
        sa.Column("unit", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("cases", sa.Integer),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("numbers", "checks", "cells", "runs"):
        op.drop_table(f"crossfarm_history_{name}")
