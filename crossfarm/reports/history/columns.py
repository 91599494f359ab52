"""The tables of the history by name and column, for statements in plain SQL; tables.py declares them."""

from __future__ import annotations

SCHEMA = "0001"
"""Revision of the tables that this version reads and writes: the newest in migrations/versions."""
VERSION_TABLE = "crossfarm_history_version"
RUNS, CELLS, NUMBERS, CHECKS = (
    "crossfarm_history_runs",
    "crossfarm_history_cells",
    "crossfarm_history_numbers",
    "crossfarm_history_checks",
)
COLUMNS = {
    RUNS: (
        *("number", "run", "position", "started", "command", "version", "tools", "git_commit", "host"),
        *("exit_code", "seconds", "interrupted"),
    ),
    CELLS: (
        *("number", "run", "place", "cell", "target", "model", "variant", "state", "cause"),
        *("board", "timing", "provenance", "bundle", "command"),
    ),
    NUMBERS: ("cell", "name", "value", "unit", "samples", "provenance"),
    CHECKS: ("cell", "name", "status", "value", "limit_value", "unit", "message", "note", "cases"),
}
STEP = 0.001
"""Seconds between the positions of two runs of one host whose clock went back."""
