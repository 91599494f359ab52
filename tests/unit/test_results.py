"""Records: what is written is read again, and what a crash leaves behind can be read, too."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.errors import StoreError
from crossfarm.results import (
    CheckRecord,
    EndRecord,
    JobRecord,
    MeasurementRecord,
    Record,
    ResultsWriter,
    RunRecord,
    from_json,
    last_run,
    placed,
    read_records,
    to_json,
)

RUN = RunRecord(run="r1", started="2026-11-21T10:00:00+00:00", command="inv pipeline", version="1", host="h x86_64")
JOB = JobRecord(job="compile:a-b-float32", stage="compile", cell="a-b-float32", state="run", seconds=1.5)
END = EndRecord(exit_code=0, seconds=2.0)

records = st.one_of(
    st.builds(RunRecord, tools=st.dictionaries(st.text(), st.text())),
    *(st.from_type(kind) for kind in (JobRecord, MeasurementRecord, CheckRecord, EndRecord)),
)


@given(records)
def test_every_record_is_one_line_of_json_and_reads_back_the_same(record: Record) -> None:
    line = to_json(record)
    assert "\n" not in line
    # Through the built-in parser with its extensions off: other programs must be able to read it.
    parsed = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert parsed["record"] == record.record
    # NaN is not equal to itself, but its JSON is.
    assert to_json(from_json(line)) == line


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_kept(number: float) -> None:
    record = CheckRecord(cell="c", name="accuracy.output.y", status="failed", value=number, message="not finite")
    read = from_json(to_json(record))
    assert isinstance(read, CheckRecord)
    assert repr(read.value) == repr(number)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "Invalid JSON"),
        ('{"record": "jobs"}', "'jobs' found using 'record'"),
        ('{"record": "end", "exit_code": 0}', "end.seconds: Field required"),
        ('{"record": "end", "exit_code": "0", "seconds": 1}', "end.exit_code: Input should be a valid integer"),
        ('{"record": "end", "exit_code": 0, "seconds": "fast"}', "end.seconds: Input should be a valid number"),
        ('{"record": "end", "exit_code": 0, "seconds": 1, "extra": 1}', "end.extra: Unexpected keyword argument"),
    ],
)
def test_what_is_not_a_record_is_refused_with_its_place(line: str, complaint: str) -> None:
    with pytest.raises(StoreError) as caught:
        from_json(line)
    assert complaint in str(caught.value)


def test_a_record_cannot_be_changed_but_copied_with_a_difference() -> None:
    check = CheckRecord(cell="c", name="n", status="passed", message="m")
    with pytest.raises(dataclasses.FrozenInstanceError):
        check.message = "other"  # type: ignore[misc]
    assert dataclasses.replace(check, line=12).line == 12


def test_records_of_many_threads_all_arrive_whole(tmp_path: Path) -> None:
    path = tmp_path / "out" / "results.jsonl"

    def work(thread: int) -> None:
        for number in range(100):
            writer.write(dataclasses.replace(JOB, job=f"{thread}-{number}", cause="x" * 5000), END)

    with ResultsWriter(path) as writer:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    read = read_records(path)
    assert {record.job for record in read[::2] if isinstance(record, JobRecord)} == {
        f"{thread}-{number}" for thread in range(8) for number in range(100)
    }
    assert read[1::2] == [END] * 800


@given(cut=st.integers(min_value=1, max_value=len(to_json(JOB))))
def test_a_line_that_a_crash_tore_is_left_out(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "results.jsonl"
    path.write_text(to_json(RUN) + "\n" + to_json(JOB)[:-cut])
    assert read_records(path) == [RUN]
    with ResultsWriter(path) as writer:
        writer.write(RUN, END)
    assert read_records(path) == [RUN, RUN, END]


def test_a_damaged_line_elsewhere_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(f"{to_json(RUN)}\n{to_json(JOB)[:20]}\n{to_json(END)}\n")
    with pytest.raises(StoreError, match=r"results\.jsonl:2: not a record of a run"):
        read_records(path)


def test_a_full_disk_is_told_without_a_traceback() -> None:
    with ResultsWriter(Path("/dev/full")) as writer, pytest.raises(StoreError, match=r"/dev/full: .*[Nn]o space left"):
        writer.write(END)


def test_a_missing_file_and_a_folder_in_its_place_are_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        read_records(tmp_path / "none")
    with pytest.raises(StoreError, match="cannot be written: Is a directory"):
        ResultsWriter(tmp_path)


def test_two_writers_share_a_file_without_mixing_lines(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsWriter(path) as one, ResultsWriter(path) as two:
        for _ in range(50):
            one.write(RUN)
            two.write(END)
    assert read_records(path) == [RUN, END] * 50


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    writer = ResultsWriter(tmp_path / "results.jsonl")
    before = len(list(Path("/proc/self/fd").iterdir()))
    writer.close()
    writer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1


def test_the_last_run_begins_at_the_last_run_record() -> None:
    assert last_run([RUN, JOB, END, RUN, END]) == [RUN, END]
    assert last_run([JOB, END]) == [JOB, END]
    assert last_run([]) == []


@given(st.from_type(CheckRecord))
def test_a_placed_record_is_the_same_record_with_its_place(record: CheckRecord) -> None:
    place = {"file": "models.yaml", "line": 3, "command": "./inv pipeline"}
    before = to_json(record)
    found = placed(record, file="models.yaml", line=3, command="./inv pipeline")
    assert json.loads(to_json(found)) == json.loads(before) | place
    assert to_json(from_json(to_json(found))) == to_json(found)
    assert to_json(record) == before
