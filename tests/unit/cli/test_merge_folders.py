"""`./inv merge`: what machines left in folders becomes one run with all its reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.cli.merge_folders import merge_folders
from crossfarm.errors import ConfigError, StoreError
from crossfarm.pipeline.options import Options
from crossfarm.reports import REPORTS
from crossfarm.reports.history.database import History
from crossfarm.reports.history.place import Place
from crossfarm.reports.run_view import overview
from crossfarm.results import ResultsWriter, read_records
from tests.unit.reports.kept_runs import records

CELLS = {"x86_64": "x86_64-mnist-float32", "armv7": "armv7-mnist-float32"}


@pytest.fixture
def parts(tmp_path: Path) -> list[str]:
    for name, cell in CELLS.items():
        with ResultsWriter(tmp_path / name / "results.jsonl") as writer:
            writer.write(*records(f"run-{name}", cell))
    return [str(tmp_path / name) for name in CELLS]


def options(folder: Path) -> Options:
    return Options(out=folder / "out", history=str(folder / "history.db"))


def runs(folder: Path) -> list[str]:
    with History(Place(file=folder / "history.db"), make=False) as history:
        return list(history.run_ids())


def test_all_reports_are_written_and_the_run_is_kept_once(
    tmp_path: Path, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge_folders(parts, options(tmp_path)) == 0
    assert merge_folders(parts, options(tmp_path)) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.jsonl", *REPORTS}
    seen = overview(read_records(tmp_path / "out" / "results.jsonl"))
    assert [cell.id for cell in seen.cells] == list(CELLS.values())
    assert len(runs(tmp_path)) == 1
    told = capsys.readouterr()
    assert told.err == ""
    assert "passed: 2 cells: 2 passed" in told.out


def test_a_folder_without_results_is_told_and_ends_with_3(
    tmp_path: Path, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge_folders([*parts, str(tmp_path / "riscv64")], options(tmp_path)) == 3
    assert f"merge: {tmp_path}/riscv64: left no results: " in capsys.readouterr().err
    assert "merge:" in (tmp_path / "out" / "summary.md").read_text()


def test_a_line_that_was_half_written_and_one_of_a_newer_version_are_told(
    tmp_path: Path, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(parts[0]) / "results.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:-1] + ', "later": 1}'
    path.write_text("\n".join(lines) + '\n{"record": "job", "jo')
    assert merge_folders(parts, options(tmp_path)) == 0
    told = capsys.readouterr().err
    assert f"{path}:{len(lines) + 1}: skipped: not a record" in told
    assert "written by a newer crossfarm; left out: JobRecord.later" in told


def test_nothing_to_merge_is_an_error_that_names_each_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the folders"):
        merge_folders([], options(tmp_path))
    with pytest.raises(StoreError, match=r"(?s)gone.*nothing to merge"):
        merge_folders([str(tmp_path / "gone")], options(tmp_path))
    assert not (tmp_path / "out").exists()


def test_results_are_not_merged_into_themselves(tmp_path: Path, parts: list[str]) -> None:
    with pytest.raises(ConfigError, match="holds results that are merged"):
        merge_folders(parts, Options(out=Path(parts[1]), history="none"))
    assert len(read_records(Path(parts[1]) / "results.jsonl")) == len(records("x", CELLS["armv7"]))
