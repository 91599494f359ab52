"""Results of other versions and damaged ones: what can be read is, the rest is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossfarm.errors import StoreError
from crossfarm.reports.history.kept_run import kept_run
from crossfarm.reports.history.read_results import read_provenance, read_results
from crossfarm.results import Provenance, to_json
from tests.unit.reports.kept_runs import records

CELL = "aarch64-mnist-float32"


def _lines(run: str = "r1") -> list[str]:
    return [to_json(record) for record in records(run, CELL)]


def _write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_line_written_by_half_is_skipped_and_told(tmp_path: Path) -> None:
    lines = _lines()
    lines[5] = lines[5][: len(lines[5]) // 2]
    found = read_results(_write(tmp_path / "results.jsonl", lines))
    assert len(found.runs[0]) == len(lines) - 1
    (told,) = found.told
    assert "results.jsonl:6: skipped: not a record of a run" in told


def test_a_last_line_without_its_end_is_skipped(tmp_path: Path) -> None:
    path = _write(tmp_path / "results.jsonl", _lines())
    path.write_bytes(path.read_bytes()[:-20])
    found = read_results(path)
    assert kept_run(found.runs[0]).exit_code is None
    assert len(found.told) == 1


def test_an_older_record_lacks_what_came_later(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in _lines()]
    for line in lines:
        for name in ("tools", "cases", "note", "board", "flaky", "interrupted", "samples"):
            if line["record"] != "provenance":
                line.pop(name, None)
    found = read_results(_write(tmp_path / "results.jsonl", [json.dumps(line) for line in lines]))
    assert found.told == ()
    assert kept_run(found.runs[0]).cells[0].numbers["program"].value == 317_440


def test_a_newer_record_is_read_without_what_this_version_does_not_know(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in _lines()]
    for line in lines:
        line["colour"] = "blue"
        if "provenance" in line:
            line["provenance"]["humidity"] = 0.4
    lines.insert(2, {"record": "weather", "rain": True})
    found = read_results(_write(tmp_path / "results.jsonl", [json.dumps(line) for line in lines]))
    assert kept_run(found.runs[0]) == kept_run(records("r1", CELL))
    assert len(found.told) == 2
    assert ":3: skipped" in found.told[0]
    assert "newer crossfarm; left out: " in found.told[1]
    assert "MeasurementRecord.colour" in found.told[1]
    assert "Provenance.humidity" in found.told[1]


def test_several_runs_of_one_file_are_told_apart(tmp_path: Path) -> None:
    found = read_results(_write(tmp_path / "results.jsonl", [*_lines("a"), *_lines("b")]))
    assert [kept_run(run).run for run in found.runs] == ["a", "b"]


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    found = read_results(_write(tmp_path / "results.jsonl", [*_lines(), *["{"] * 1000]))
    assert len(found.told) == 6
    assert found.told[-1].endswith("995 more lines skipped")


@pytest.mark.parametrize(
    "text", ["", "{}\n", "[" * 100_000, "\x00\xff\n", '{"record": ["run"]}\n', '{"record": "end"}']
)
def test_a_file_without_a_run_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(StoreError, match="holds no run"):
        read_results(path)


def test_nan_and_infinity_are_read_as_they_were_written(tmp_path: Path) -> None:
    samples = (float("nan"), float("inf"), float("-inf"), 1.0)
    lines = [to_json(record) for record in records("r1", CELL, samples=samples)]
    (cell,) = kept_run(read_results(_write(tmp_path / "r.jsonl", lines)).runs[0]).cells
    assert repr(cell.numbers["latency.p50"].samples) == repr(samples)


def test_a_damaged_provenance_is_none() -> None:
    assert read_provenance('{"board": 7}') is None
    assert read_provenance("[") is None
    assert read_provenance('{"board": "a", "timing": "silicon", "new": 1}') == Provenance(board="a", timing="silicon")
