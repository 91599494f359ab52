"""A run that found the same as one before it: its copy in the history is what adding its records would have made."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from crossfarm.reports.history.columns import SCHEMA, VERSION_TABLE
from crossfarm.reports.history.database import History
from crossfarm.reports.history.kept_run import KeptRun, kept_run
from crossfarm.reports.history.place import Place
from crossfarm.reports.history.repeat import OwnValues, repeat_run
from tests.unit.reports.kept_runs import records

OWN = OwnValues(run="r9", started="2026-12-01T00:00:00+00:00", seconds=0.25, position=2e9)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "history.db"
    with History(Place(file=path)) as history:
        for run in ("r1", "r2", "r3"):
            history.add(kept_run(records(run, "armv7-vad-int8", f"x86_64-{run}-float32")), live=True)
    return path


def _read(file: Path, run: str) -> KeptRun:
    with History(Place(file=file)) as history:
        found = history.read(run)
    assert found is not None
    return found


def test_a_copy_is_the_run_under_another_name(file: Path) -> None:
    before = _read(file, "r2")
    assert repeat_run(file, "r2", OWN)
    copy = _read(file, "r9")
    assert copy == dataclasses.replace(
        before, run=OWN.run, started=OWN.started, seconds=OWN.seconds, position=copy.position
    )
    assert _read(file, "r2") == before
    assert repeat_run(file, "r9", dataclasses.replace(OWN, run="r10"))
    assert _read(file, "r10").cells == before.cells


def test_a_copy_comes_after_all_others_of_its_host_whatever_the_clock_says(file: Path) -> None:
    assert repeat_run(file, "r1", dataclasses.replace(OWN, position=0.0))
    assert _read(file, "r9").position > _read(file, "r3").position


def test_what_cannot_be_copied_changes_nothing(file: Path, tmp_path: Path) -> None:
    assert not repeat_run(file, "unknown", OWN)
    assert not repeat_run(tmp_path / "absent.db", "r1", OWN)
    assert not (tmp_path / "absent.db").exists()
    assert not repeat_run(file, "r1", dataclasses.replace(OWN, run="r2")), "an id stands for one run"
    (tmp_path / "damaged.db").write_bytes(b"no database" * 1000)
    assert not repeat_run(tmp_path / "damaged.db", "r1", OWN)
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")  # noqa: S608
    assert not repeat_run(file, "r1", OWN)
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '{SCHEMA}'")  # noqa: S608
    with History(Place(file=file)) as history:
        assert history.run_ids() == ("r1", "r2", "r3")
