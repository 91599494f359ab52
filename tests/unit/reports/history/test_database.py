"""A history in a SQLite file: what goes in comes out, once, in order; what cannot go in is told and costs nothing."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.errors import ConfigError, HistoryError
from crossfarm.reports.history import insert, tables
from crossfarm.reports.history.columns import COLUMNS, SCHEMA, VERSION_TABLE
from crossfarm.reports.history.database import History
from crossfarm.reports.history.keep import keep_run
from crossfarm.reports.history.kept_run import KeptNumber, KeptRun, kept_run
from crossfarm.reports.history.place import Place
from crossfarm.reports.history.sqlite_file import add_to_file
from tests.unit.reports.kept_runs import cell, kept, latencies, latency, records

CELL = "aarch64-mnist-float32"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def _ids(file: Path) -> tuple[str, ...]:
    with History(Place(file=file)) as history:
        return history.run_ids()


def _keep(file: Path, *found: object, busy_seconds: float = 5.0) -> str:
    return keep_run(
        list(found),  # type: ignore[arg-type]
        Place(file=file),
        results=Path("out/results.jsonl"),
        busy_seconds=busy_seconds,
    )


def test_a_run_comes_out_as_it_went_in(file: Path) -> None:
    run = kept_run(records("r1", CELL, "armv7-vad-int8"))
    with History(Place(file=file)) as history:
        assert history.add(run)
        assert history.read("r1") == run


def test_the_first_run_makes_the_file_and_the_second_needs_no_sqlalchemy(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _keep(file, *records("r1", CELL)) == ""
    monkeypatch.setattr(History, "__init__", lambda *_, **__: pytest.fail("a warm run imports SQLAlchemy"))
    assert _keep(file, *records("r2", CELL)) == ""
    monkeypatch.undo()
    assert _ids(file) == ("r1", "r2")


def test_both_ways_in_leave_the_same_rows(file: Path, tmp_path: Path) -> None:
    run, other = kept_run(records("r1", CELL)), tmp_path / "other.db"
    with History(Place(file=file)) as history, History(Place(file=other)) as quick:
        history.add(run)
        assert add_to_file(other, run)
        assert quick.read("r1") == history.read("r1")


def test_a_run_is_kept_once(file: Path) -> None:
    for _ in range(2):
        assert _keep(file, *records("r1", CELL)) == ""
    with History(Place(file=file)) as history:
        assert history.add_all([kept_run(records("r1", CELL))]) == 0
        assert history.run_ids() == ("r1",)
        assert len(history.read("r1").cells) == 1


def test_a_run_without_its_end_is_replaced_by_one_with_it_and_not_the_other_way(file: Path) -> None:
    half, whole = kept_run(records("r1", CELL, ends=False)), kept_run(records("r1", CELL, "armv7-vad-int8"))
    with History(Place(file=file)) as history:
        assert [history.add(run) for run in (half, half, whole, half, whole)] == [True, False, True, False, False]
        assert history.read("r1") == whole


def test_a_clock_that_goes_back_does_not_change_the_order_of_runs(file: Path) -> None:
    for run, started in (
        ("a", "2026-11-21T12:00:00+00:00"),
        ("b", "1970-01-01T00:00:00+00:00"),
        ("c", "2026-11-20T12:00"),
    ):
        assert _keep(file, *records(run, CELL, started=started)) == ""
    assert _ids(file) == ("a", "b", "c")


def test_an_old_run_that_is_imported_stands_where_it_belongs(file: Path) -> None:
    with History(Place(file=file)) as history:
        history.add(kept_run(records("new", CELL, started="2026-11-21T12:00:00+00:00")))
        history.add(kept_run(records("old", CELL, started="2026-11-20T12:00:00+00:00")))
        assert history.run_ids() == ("old", "new")


@given(value=st.floats(), samples=st.lists(st.floats(), max_size=3).map(tuple))
def test_any_number_comes_out_as_it_went_in(
    value: float, samples: tuple[float, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    number = KeptNumber(name="x", value=value, unit="ns", samples=samples)
    with History(Place(file=tmp_path_factory.getbasetemp() / "numbers.db")) as history:
        history.delete(["r"])
        history.add(kept("r", cell(numbers={"x": number})))
        found = history.read("r").cells[0].numbers["x"]
    assert repr(found) == repr(number) or (math.isnan(value) and math.isnan(found.value))


def test_the_statements_name_the_columns_of_the_tables() -> None:
    assert {table.name: tuple(column.name for column in table.columns) for table in tables.METADATA.sorted_tables} == {
        name: COLUMNS[name] for name in (insert.RUNS, insert.CELLS, insert.NUMBERS, insert.CHECKS)
    }


def test_the_migrations_make_the_tables_that_the_code_declares(file: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    History(Place(file=file)).close()
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert context.get_current_revision() == SCHEMA
        assert compare_metadata(context, tables.METADATA) == []
    engine.dispose()


def test_a_history_of_a_newer_version_is_told_and_left_alone(file: Path) -> None:
    assert _keep(file, *records("r1", CELL)) == ""
    _execute(file, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")  # noqa: S608
    told = _keep(file, *records("r2", CELL))
    assert "of a newer crossfarm (revision 9999" in told
    assert "./inv history import out/results.jsonl" in told
    _execute(file, f"UPDATE {VERSION_TABLE} SET version_num = '{SCHEMA}'")  # noqa: S608
    assert _ids(file) == ("r1",)


def test_a_locked_history_is_told_and_the_run_goes_in_later(file: Path) -> None:
    assert _keep(file, *records("r1", CELL)) == ""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    told = _keep(file, *records("r2", CELL), busy_seconds=0.01)
    other.close()
    assert "database is locked" in told
    assert told.count("\n") == 0
    assert _keep(file, *records("r2", CELL)) == ""
    assert _ids(file) == ("r1", "r2")


@pytest.mark.parametrize(
    "content", [b"this is no database, and long enough to be looked at " * 9, b"SQLite format 3\0" * 40]
)
def test_a_file_that_is_no_history_is_told_and_left_alone(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "not kept in the history" in _keep(file, *records("r1", CELL))
    assert file.read_bytes() == content


def test_a_damaged_history_is_told(file: Path) -> None:
    assert _keep(file, *records("r1", CELL)) == ""
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    assert "malformed" in _keep(file, *records("r2", CELL))
    with pytest.raises(HistoryError, match="malformed"), History(Place(file=file)) as history:
        history.read("r1")


def test_values_of_another_kind_than_the_tables_have_are_told(file: Path) -> None:
    assert _keep(file, *records("r1", CELL)) == ""
    _execute(file, f"UPDATE {insert.NUMBERS} SET value = 'much'")  # noqa: S608
    with pytest.raises(HistoryError, match="damaged"), History(Place(file=file)) as history:
        history.read("r1")


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = _keep(tmp_path / "file" / "history.db", *records("r1", CELL))
    assert told.startswith("not kept in the history: ")
    assert "File exists; give another --history" in told


def test_what_was_not_committed_is_not_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _keep(file, *records("r1", CELL)) == ""
    run = kept("r2", dataclasses.replace(cell(), numbers={"x": object()}))  # type: ignore[dict-item]
    with pytest.raises(AttributeError):
        add_to_file(file, run)
    assert _ids(file) == ("r1",)
    assert add_to_file(file, kept("r3"))


def test_a_run_is_found_by_the_beginning_of_its_id_and_by_its_commit(file: Path) -> None:
    with History(Place(file=file)) as history:
        for number, run in enumerate(("2026a", "2026b", "2027c")):
            history.add(kept(run, git_commit="c" * 40 if number < 2 else "d%_" * 9, position=number))
        assert history.find("2027") == "2027c"
        assert history.find("cccc") == "2026b"
        assert history.find("d%_d") == "2027c"
        assert history.find("d__d") is None
        assert history.find("x") is None
        with pytest.raises(ConfigError, match="2 runs begin so: 2026a, 2026b"):
            history.find("2026")
        with pytest.raises(ConfigError, match="perhaps you meant '2027c'"):
            history.read("2027d")


def test_the_runs_of_a_model_hold_one_number_of_it(file: Path) -> None:
    with History(Place(file=file)) as history:
        for number in range(4):
            cells = [
                cell(numbers=latency(latencies(number)) | {"program": KeptNumber(name="program", value=1.0, unit="B")})
            ]
            history.add(kept(f"r{number}", *cells, cell("armv7-vad-int8"), position=number))
        found = history.of_model("mnist", metric="latency.p50", runs=2)
        assert [(run.run, [list(one.numbers) for one in run.cells]) for run in found] == [
            ("r2", [["latency.p50"]]),
            ("r3", [["latency.p50"]]),
        ]
        assert history.of_model("mnist", targets=("armv7",), metric="latency.p50", runs=2) == ()
        assert history.models() == ("mnist", "vad")
        assert history.metrics("mnist") == ("latency.p50", "program")


def test_the_runs_before_a_run_are_those_before_it_in_order(file: Path) -> None:
    runs = [kept(f"r{number}", position=float(number)) for number in range(5)]
    with History(Place(file=file)) as history:
        history.add_all(runs)
        assert [run.run for run in history.before(runs[3], runs=2)] == ["r1", "r2"]
        assert [run.run for run in history.before(kept("other"), runs=2)] == ["r3", "r4"]


def test_a_history_that_is_not_there_is_not_made_by_looking(file: Path) -> None:
    with pytest.raises(HistoryError, match="no history yet"):
        History(Place(file=file), make=False)
    assert not file.exists()


def _execute(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(statement)
    connection.close()


def test_a_kept_run_knows_its_cells() -> None:
    run: KeptRun = kept("r", cell())
    assert list(run.by_cell) == [CELL]
