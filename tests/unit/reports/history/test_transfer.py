"""Histories that are carried from farm to farm: everything once, whatever is merged how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.errors import ConfigError, HistoryError, StoreError
from crossfarm.reports.history.database import History
from crossfarm.reports.history.place import Place
from crossfarm.reports.history.transfer import Imported, export, import_file, prune
from crossfarm.results import to_json
from tests.unit.reports.kept_runs import cell, kept, latencies, latency, records

CELL = "aarch64-mnist-float32"
_DAY = 86400.0


def _history(path: Path, *runs: str) -> History:
    history = History(Place(file=path))
    history.add_all(
        [kept(run, cell(numbers=latency(latencies(1))), position=float(number)) for number, run in enumerate(runs)]
    )
    return history


def test_a_history_of_another_farm_that_is_merged_twice_is_there_once(tmp_path: Path) -> None:
    with _history(tmp_path / "ours.db", "a", "b") as ours, _history(tmp_path / "theirs.db", "b", "c") as theirs:
        assert import_file(ours, tmp_path / "theirs.db") == Imported(added=1, known=1)
        assert import_file(ours, tmp_path / "theirs.db") == Imported(added=0, known=2)
        assert import_file(theirs, tmp_path / "ours.db") == Imported(added=1, known=2)
        assert set(ours.run_ids()) == set(theirs.run_ids()) == {"a", "b", "c"}
        assert ours.read("c") == theirs.read("c")


def test_results_that_are_imported_twice_are_there_once(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(to_json(record) + "\n" for run in "ab" for record in records(run, CELL)) + '{"record": "jo')
    with History(Place(file=tmp_path / "history.db")) as history:
        assert (found := import_file(history, path)).added == 2
        assert len(found.told) == 1
        assert import_file(history, path).known == 2
        assert len(history.read("a").cells) == 1


def test_an_export_is_a_history_with_all_runs(tmp_path: Path) -> None:
    with _history(tmp_path / "history.db", "a", "b") as history:
        for _ in range(2):
            assert export(history, tmp_path / "there" / "copy.db") == 2
        with History(Place(file=tmp_path / "there" / "copy.db")) as copy:
            assert [copy.read(run) for run in copy.run_ids()] == [history.read(run) for run in history.run_ids()]
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["copy.db"]


def test_a_history_is_not_exported_onto_itself(tmp_path: Path) -> None:
    with _history(tmp_path / "history.db", "a") as history, pytest.raises(ConfigError, match="the history itself"):
        export(history, tmp_path / "history.db")


def test_an_export_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with _history(tmp_path / "history.db", "a") as history, pytest.raises(StoreError, match="File exists"):
        export(history, tmp_path / "file" / "copy.db")


@pytest.mark.parametrize(
    ("days", "runs", "left"),
    [
        (None, 2, ["c", "d"]),
        (2.5, None, ["b", "c", "d"]),
        (0.5, 2, ["c", "d"]),
        (2.5, 1, ["b", "c", "d"]),
        (None, 0, []),
        (0, None, []),
    ],
)
def test_a_run_stays_for_its_age_or_for_its_number(
    tmp_path: Path, days: float | None, runs: int | None, left: list[str]
) -> None:
    with History(Place(file=tmp_path / "history.db")) as history:
        history.add_all([kept(run, cell(), position=number * _DAY) for number, run in enumerate("abcd", start=1)])
        assert prune(history, keep_days=days, keep_runs=runs, now=4.25 * _DAY) == 4 - len(left)
        assert list(history.run_ids()) == left
        assert [history.read(run).run for run in left] == left


def test_what_is_pruned_gives_its_room_back(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with History(Place(file=path)) as history:
        for number in range(20):
            history.add(
                kept(f"r{number}", cell(numbers=latency(latencies(number, count=3000))), position=float(number))
            )
        before = path.stat().st_size
        prune(history, keep_days=None, keep_runs=1)
    assert path.stat().st_size < before / 4


@pytest.mark.parametrize(("days", "runs"), [(None, None), (-1.0, None), (None, -1)])
def test_pruning_asks_what_to_keep(tmp_path: Path, days: float | None, runs: int | None) -> None:
    with _history(tmp_path / "history.db", "a") as history:
        with pytest.raises(ConfigError, match="--keep-days"):
            prune(history, keep_days=days, keep_runs=runs)
        assert history.run_ids() == ("a",)


def test_a_file_that_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    (tmp_path / "y").write_bytes(b"SQLite format 3\0" * 50)
    with History(Place(file=tmp_path / "history.db")) as history:
        for name, error in (("x", StoreError), ("gone", StoreError), ("y", HistoryError)):
            with pytest.raises(error):
                import_file(history, tmp_path / name)
