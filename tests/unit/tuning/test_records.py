"""Records of tuning: nothing that was written is lost, nothing is taken for another target's, damage is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.config.llvm import LlvmCode
from crossfarm.tuning import records
from crossfarm.tuning.records import MeasuredChoice, TakenChoices
from crossfarm.util.paths import HOME

ME = "0123456789abcdef"


def measured(layer: str = "convolution a", rows: int = 4, number: int = 0) -> MeasuredChoice:
    return MeasuredChoice(layer=layer, choice={"rows": rows}, round=number, ratios=(0.9, 1.1), nanoseconds=1000)


def taken(rows: int = 4) -> TakenChoices:
    return TakenChoices(
        choices={"convolution a": {"rows": rows}}, ratio=0.9, interval=(0.85, 0.95), pairs=11, runs=40, machine="m"
    )


@given(entries=st.lists(st.builds(measured, st.text(max_size=20), st.integers(1, 30), st.integers(0, 4)), max_size=8))
def test_what_is_written_is_read(entries: list[MeasuredChoice], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("records") / "x" / "m-float32.jsonl"
    records.append(path, entries[:3], identity=ME)
    records.append(path, entries[3:], identity=ME)
    assert records.read(path, identity=ME).measured == tuple(entries)


def test_the_last_that_was_taken_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    records.append(path, [taken(1), measured(), taken(2)], identity=ME)
    assert records.read(path, identity=ME).taken == taken(2)


def test_no_file_holds_no_records(tmp_path: Path) -> None:
    assert records.read(tmp_path / "none.jsonl", identity=ME) == records.RecordsFile()


def test_records_of_another_target_or_compiler_are_counted_and_never_used(tmp_path: Path) -> None:
    path = records.records_path(tmp_path, target="t", model="m", variant="float32")
    records.append(path, [measured(), taken()], identity="another")
    found = records.read(path, identity=ME)
    assert (found.measured, found.taken, found.foreign) == ((), None, 2)
    assert records.taken_choices(tmp_path, target="t", model="m", variant="float32", identity=ME) == {}
    assert records.taken_choices(tmp_path, target="t", model="m", variant="float32", identity="another")


def test_the_identity_differs_with_every_feature_of_the_processor() -> None:
    code = LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64-v3")
    others = [code.model_copy(update={"cpu": "x86-64-v4"}), code.model_copy(update={"features": ("+avx512vnni",)})]
    assert len({records.identity(each) for each in (code, *others)}) == 3


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '"text"',
        "\x00\xff",
        '{"kind":"measured","for":"x"}',
        '{"kind":"other","for":"x"}',
        '{"kind":"taken","for":"x","choices":{"a":1},"ratio":1,"interval":[1,1],"pairs":1,"runs":1,"machine":"m"}',
    ],
)
def test_a_damaged_line_is_told_and_passed_over(line: str, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    records.append(path, [measured(rows=1)], identity=ME)
    with path.open("a") as stream:
        stream.write(line + "\n")
    records.append(path, [measured(rows=2)], identity=ME)
    found = records.read(path, identity=ME)
    assert [entry.choice["rows"] for entry in found.measured] == [1, 2]
    assert found.damaged == (2,)


def test_behind_a_line_that_a_killed_writer_left_half_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    records.append(path, [measured(rows=1), measured(rows=2)], identity=ME)
    os.truncate(path, path.stat().st_size - 20)
    records.append(path, [measured(rows=3)], identity=ME)
    found = records.read(path, identity=ME)
    assert [entry.choice["rows"] for entry in found.measured] == [1, 3]
    assert found.damaged == (2,)


WRITER = """
import sys
from pathlib import Path
from crossfarm.tuning import records
path, name, count, identity = sys.argv[1:]
for number in range(int(count)):
    entry = records.MeasuredChoice(layer=name, choice={"rows": number}, round=0, ratios=(1.0,) * 9, nanoseconds=1)
    records.append(Path(path), [entry, entry], identity=identity)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(count), ME], env=environment)


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    both = [writer(path, name, 40) for name in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    found = records.read(path, identity=ME)
    assert found.damaged == ()
    for name in "ab":
        rows = [entry.choice["rows"] for entry in found.measured if entry.layer == name]
        assert rows == [number for number in range(40) for _ in range(2)]


def test_a_writer_that_is_killed_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    process = writer(path, "a", 100_000)
    while not path.exists() or path.stat().st_size < 5000:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    found = records.read(path, identity=ME)
    assert len(found.damaged) <= 1
    rows = [entry.choice["rows"] for entry in found.measured]
    assert rows == [number // 2 for number in range(len(rows))]


def test_compacting_keeps_what_others_wrote_and_drops_damage(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    records.append(path, [measured(rows=rows) for rows in range(30)], identity=ME)
    records.append(path, [taken(7)], identity="another")
    with path.open("a") as stream:
        stream.write('{"kind"\n')
    records.compact(path, [measured(rows=3), taken(3)], identity=ME)
    found = records.read(path, identity=ME)
    assert (found.measured, found.taken, found.damaged, found.foreign) == ((measured(rows=3),), taken(3), (), 1)
    assert records.read(path, identity="another").taken == taken(7)
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_search_that_had_nothing_to_measure_leaves_what_it_took(tmp_path: Path) -> None:
    path = tmp_path / "x86_64" / "m-float32.jsonl"
    taken = TakenChoices(choices={}, ratio=1.0, interval=(1.0, 1.0), pairs=0, runs=0, machine="m")
    records.compact(path, [taken], identity="i")
    assert records.read(path, identity="i").taken == taken


def test_the_cells_that_have_records_are_listed_at_once(tmp_path: Path) -> None:
    for model, variant in (("one", "float32"), ("two", "int8")):
        path = records.records_path(tmp_path, target="armv7", model=model, variant=variant)
        records.append(path, [taken()], identity=ME)
    (tmp_path / "armv7" / "notes.txt").write_text("no records\n")
    (tmp_path / "armv7" / "notes.jsonl").write_text("no cell's records\n")
    assert records.searched(tmp_path, target="armv7") == {("one", "float32"), ("two", "int8")}
    assert records.searched(tmp_path, target="x86_64") == frozenset()
