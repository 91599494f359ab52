"""All reports of a results file."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run

import pytest

from crossfarm.errors import StoreError
from crossfarm.reports.writing import write_reports
from crossfarm.results import ResultsWriter, read_records, to_json
from tests.unit.reports.records import BAD, parse, whole_run


def test_all_reports_are_written_from_the_results_alone(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path / "results.jsonl") as writer:
        writer.write(*whole_run())
    seen = write_reports(read_records(tmp_path / "results.jsonl"), tmp_path / "out")
    assert seen.counts["failed"] == 1
    assert parse((tmp_path / "out" / "junit.xml").read_text()).get("failures") == "1"
    assert BAD in (tmp_path / "out" / "summary.md").read_text()
    assert {item.name for item in (tmp_path / "out").iterdir()} == {
        *("junit.xml", "report.html", "summary.md"),
        *("badge.json", "benchmark-smaller.json", "benchmark-bigger.json"),
    }


def test_a_run_that_was_killed_in_the_middle_of_a_line_is_reported(tmp_path: Path) -> None:
    lines = [to_json(record) + "\n" for record in whole_run()]
    (tmp_path / "results.jsonl").write_text("".join(lines[:7]) + lines[7][:30])
    seen = write_reports(read_records(tmp_path / "results.jsonl"), tmp_path)
    assert not seen.is_complete
    assert "Incomplete" in (tmp_path / "summary.md").read_text()
    assert parse((tmp_path / "junit.xml").read_text()).get("errors") == "1"


def test_no_results_is_told_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run the pipeline first"):
        write_reports(read_records(tmp_path / "results.jsonl"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path / "results.jsonl") as writer:
        writer.write(*whole_run())
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreError, match=r"junit\.xml: cannot be written: .*; free some space or give another --out"):
        write_reports(read_records(tmp_path / "results.jsonl"), tmp_path / "out")


def test_reports_know_results_and_nothing_above_them() -> None:
    code = """
import sys, crossfarm.reports.terminal, crossfarm.reports.writing
print(*(name for name in sys.modules if name.startswith("crossfarm")))
"""
    known = run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in known if not name.startswith("crossfarm.reports")} == {
        "crossfarm",
        "crossfarm.config",
        "crossfarm.config.cell",
        "crossfarm.errors",
        "crossfarm.results",
        "crossfarm.util",
        "crossfarm.util.database_url",
        "crossfarm.util.files",
        "crossfarm.util.text",
    }
