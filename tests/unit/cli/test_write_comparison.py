"""`./inv compare --write`: the comparison beside the reports of the run, and in its badge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossfarm.cli.history_commands import write_comparison
from crossfarm.errors import StoreError
from crossfarm.reports import badge
from crossfarm.reports.regression.comparison import Comparison, compare_runs
from crossfarm.reports.run_view import overview
from tests.unit.reports.kept_runs import cell, kept, records

MIB = 1024 * 1024


def compared(cells: int = 1) -> Comparison:
    names = [f"aarch64-mnist_{number}-float32" for number in range(cells)]
    before = kept("before", *(cell(name, numbers={"program": 100_000.0}) for name in names))
    return compare_runs(before, kept("now", *(cell(name, numbers={"program": 200_000.0}) for name in names)))


def test_both_forms_are_written_and_the_badge_says_how_much_regressed(tmp_path: Path) -> None:
    (tmp_path / "badge.json").write_text(badge.render(overview(records("now", "aarch64-mnist-float32"))))
    write_comparison(tmp_path, compared(), everything=False)
    assert json.loads((tmp_path / "comparison.json").read_text())["counts"]["regressed"] == 1
    assert "| **regressed** | aarch64-mnist_0-float32 |" in (tmp_path / "comparison.md").read_text()
    assert json.loads((tmp_path / "badge.json").read_text())["message"] == "1 of 1 cell passed, 1 regressed"


def test_a_folder_without_a_badge_gets_none(tmp_path: Path) -> None:
    write_comparison(tmp_path / "new", compared(), everything=False)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"comparison.json", "comparison.md"}


def test_a_thousand_regressions_fit_into_a_summary_of_github(tmp_path: Path) -> None:
    write_comparison(tmp_path, compared(1000), everything=True)
    assert (tmp_path / "comparison.md").stat().st_size < MIB / 4
    assert "800 more rows left out" in (tmp_path / "comparison.md").read_text()
    assert json.loads((tmp_path / "comparison.json").read_text())["counts"]["regressed"] == 1000


def test_a_folder_that_cannot_be_written_and_a_badge_that_is_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="give a folder that can be written"):
        write_comparison(tmp_path / "file", compared(), everything=False)
    (tmp_path / "badge.json").write_text("{}")
    with pytest.raises(StoreError, match="is no badge"):
        write_comparison(tmp_path, compared(), everything=False)
