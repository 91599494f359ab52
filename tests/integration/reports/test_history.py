"""The history on real databases: two farms at once, a farm that is killed, disks that are full or read-only."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.errors import HistoryError
from crossfarm.reports.history.database import History
from crossfarm.reports.history.keep import keep_run
from crossfarm.reports.history.kept_run import kept_run
from crossfarm.reports.history.place import Place, read_place
from crossfarm.reports.history.transfer import export, import_file, prune
from crossfarm.util.paths import HOME
from tests.postgres import Postgres, server
from tests.unit.reports.kept_runs import cell, kept, latencies, latency, records

pytestmark = pytest.mark.integration

CELL = "aarch64-mnist-float32"
WRITER = Path(__file__).with_name("writer.py")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    yield from server()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty place, of each kind."""
    if request.param == "sqlite":
        return Place(file=tmp_path / "history.db")
    url: str = request.getfixturevalue("postgres").fresh()
    return Place(url=url)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the folder of a file system of 200 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let a tmpfs be mounted")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _writer(place: Place, name: str, count: int) -> subprocess.Popen[str]:
    where = place.url or str(place.file)
    return subprocess.Popen(
        [sys.executable, str(WRITER), where, name, str(count)],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdout=subprocess.PIPE,
        text=True,
    )


def _keep(place: Place, run: str, count: int = 30) -> str:
    return keep_run(records(run, CELL, samples=latencies(1, count=count)), place, results=Path("results.jsonl"))


def test_a_run_comes_out_as_it_went_in_of_either_database(place: Place) -> None:
    run = kept_run(records("r1", CELL, "armv7-vad-int8", samples=(1.0, float("inf"), 1e300)))
    with History(place) as history:
        assert [history.add(run), history.add(run)] == [True, False]
        assert history.read("r1") == run
        assert history.of_model("mnist", metric="program", runs=5)[0].cells[0].numbers["program"].value == 317_440


def test_numbers_that_are_not_finite_and_names_with_nul_go_in(place: Place) -> None:
    numbers = {name: float(name) for name in ("nan", "inf", "-inf")}
    with History(place) as history:
        history.add(kept("r", cell(numbers=numbers)))
        found = history.read("r").cells[0].numbers
    assert {name: repr(number.value) for name, number in found.items()} == {name: name for name in numbers}
    assert _keep(place, "nul\0") == ""


def test_two_farms_at_once_lose_no_run(place: Place) -> None:
    farms = [_writer(place, name, 15) for name in ("a", "b")]
    said = [line for farm in farms for line in farm.communicate(timeout=300)[0].split()]
    assert [farm.returncode for farm in farms] == [0, 0]
    with History(place) as history:
        assert sorted(history.run_ids()) == sorted(said)
        assert len(said) == 30
        assert all(len(run.cells) == 20 and len(run.cells[7].numbers) == 3 for run in history.read_all(said))


def test_a_farm_that_is_killed_loses_nothing_that_was_committed(place: Place) -> None:
    told: list[str] = []
    for name in ("a", "b", "c"):
        with _writer(place, name, 0) as farm:
            assert farm.stdout is not None
            told += [farm.stdout.readline().strip() for _ in range(5)]
            farm.kill()
            told += farm.stdout.read().split()
    with History(place) as history:
        kept_runs = history.run_ids()
        assert set(told) <= set(kept_runs)
        assert len(set(kept_runs)) == len(kept_runs) <= len(told) + 3
        assert all(len(run.cells) == 20 for run in history.read_all(kept_runs))
    assert _keep(place, "later") == ""


def test_a_history_goes_from_one_database_to_the_other_and_back(place: Place, tmp_path: Path) -> None:
    with History(place) as history:
        history.add_all([kept(f"r{n}", cell(numbers=latency(latencies(n))), position=float(n)) for n in range(5)])
        runs = list(history.read_all(history.run_ids()))
        assert export(history, tmp_path / "copy.db") == 5
        assert prune(history, keep_days=None, keep_runs=1) == 4
        assert import_file(history, tmp_path / "copy.db").added == 4
        assert import_file(history, tmp_path / "copy.db").added == 0
        assert list(history.read_all(history.run_ids())) == runs


def test_a_full_disk_is_told_and_what_was_there_stays(small_disk: Path) -> None:
    place = Place(file=small_disk / "history.db")
    assert _keep(place, "r1") == ""
    told = _keep(place, "r2", count=100_000)
    assert "disk is full" in told
    assert "free some space" in told
    with History(place) as history:
        assert history.run_ids() == ("r1",)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert _keep(place, "r2", count=100_000) == ""


def test_a_disk_with_no_room_for_a_first_run_is_told(small_disk: Path) -> None:
    (small_disk / "filling").write_bytes(b"x" * 200 * 1024)
    assert "disk is full" in _keep(Place(file=small_disk / "history.db"), "r1")


def test_a_read_only_history_is_told_and_can_be_read(small_disk: Path) -> None:
    place = Place(file=small_disk / "history.db")
    assert _keep(place, "r1") == ""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "readonly database" in _keep(place, "r2")
    with History(place, make=False) as history:
        assert history.read("r1").run == "r1"


def test_a_database_that_does_not_answer_is_told_without_its_password(postgres: Postgres) -> None:
    url = postgres.fresh().replace("farm@", "farm:hunter2@")
    place = read_place(url, said_by="CROSSFARM_HISTORY")
    assert _keep(place, "r1") == ""
    postgres.stop()
    try:
        told = _keep(place, "r2")
    finally:
        postgres.start()
    assert told.startswith("not kept in the history: postgresql://farm@")
    assert "hunter2" not in told
    assert _keep(place, "r2") == ""


def test_a_lock_that_another_holds_is_waited_for_no_longer_than_said(postgres: Postgres) -> None:
    place = Place(url=postgres.fresh())
    assert _keep(place, "r1") == ""
    with History(place) as other, other._engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (0x63726F7374,))
        told = keep_run(records("r2", CELL), place, results=Path("results.jsonl"), busy_seconds=0.1)
    assert "lock timeout" in told
    assert _keep(place, "r2") == ""


def test_two_farms_that_make_the_history_at_once_make_one(place: Place) -> None:
    farms = [_writer(place, name, 1) for name in "abcd"]
    said = [farm.communicate(timeout=300)[0].strip() for farm in farms]
    assert sorted(said) == ["a-0", "b-0", "c-0", "d-0"]


def test_a_history_of_a_newer_version_is_told(postgres: Postgres) -> None:
    place = Place(url=postgres.fresh())
    assert _keep(place, "r1") == ""
    import psycopg

    with psycopg.connect(place.url) as connection:
        connection.execute("UPDATE crossfarm_history_version SET version_num = '9999'")
    assert "of a newer crossfarm (revision 9999" in _keep(place, "r2")
    with pytest.raises(HistoryError, match="newer crossfarm"):
        History(place)


def test_the_runs_of_a_copy_are_those_of_the_file(tmp_path: Path) -> None:
    place = Place(file=tmp_path / "history.db")
    farm = _writer(place, "a", 3)
    said = farm.communicate(timeout=300)[0].split()
    shutil.copyfile(tmp_path / "history.db", tmp_path / "copy.db")
    with History(dataclasses.replace(place, file=tmp_path / "copy.db")) as copy:
        assert list(copy.run_ids()) == said
