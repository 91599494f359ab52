"""Annotations of GitHub: at the lines of models.yaml, within its limits, and no text of others becomes a command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import given

from crossfarm.reports import summary
from crossfarm.reports.annotations import MOST, commands
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord, JobRecord, Record
from tests.unit.reports.records import any_records, check, job, run_record, whole_run

ROOT = Path("/repository")


def shown(records: list[Record], root: Path = ROOT) -> list[str]:
    return list(commands(overview(records), root=root))


def failed(*models: str, **changes: Any) -> list[Record]:
    cells = [f"armv7-{model}-float32" for model in models]
    rows: list[Record] = [
        check(cell, "accuracy.output.y", "failed", **({"file": "models.yaml", "line": 10 + number} | changes))
        for number, cell in enumerate(cells)
    ]
    return [run_record(cells=tuple(cells)), *rows, EndRecord(exit_code=1, seconds=1.0)]


def test_a_failure_stands_at_the_line_of_its_model() -> None:
    assert shown(failed("mnist")) == [
        "::error file=models.yaml,line=10,title=mnist%3A 1 cell failed::"
        "armv7-mnist-float32: accuracy.output.y: accuracy.output.y failed"
    ]


def test_a_path_is_told_from_the_root_of_the_repository_and_none_outside_of_it() -> None:
    (inside,) = shown(failed("mnist", file="/repository/sub/models.yaml"))
    assert inside.startswith("::error file=sub/models.yaml,line=10,")
    (outside,) = shown(failed("mnist", file="/elsewhere/models.yaml"))
    assert outside.startswith("::error title=")
    (above,) = shown(failed("mnist", file="../models.yaml"))
    assert above.startswith("::error title=")


def test_the_cells_of_a_model_share_one_and_a_broken_machine_is_named_so() -> None:
    records = whole_run()
    errors = [line for line in shown(records) if line.startswith("::error")]
    assert [re.findall(r"title=([^:]*)::", line)[0] for line in errors] == [
        "mnist%3A 1 cell failed",
        "vad%3A 1 cell failed",
    ]
    assert "::armv7-vad-float32: infrastructure: compile: out of memory" in errors[1]


def test_of_a_thousand_failures_github_gets_what_it_shows_and_their_number() -> None:
    records = failed(*(f"m{number}" for number in range(1000)))
    lines = shown(records)
    assert len(lines) == MOST == 10
    assert lines[-1] == (
        "::error title=crossfarm%3A 991 more errors::991 more errors; the summary and report.html show them all"
    )
    assert len(summary.render(overview(records)).encode()) <= 1024 * 1024


def test_errors_and_warnings_have_a_limit_each() -> None:
    records = failed(*(f"m{number}" for number in range(20)))
    left = [job("measure", f"armv7-n{number}-float32", "hit", file=None) for number in range(20)]
    lines = shown([*records[:-1], *left, records[-1]])
    assert [sum(line.startswith(f"::{kind} ") for line in lines) for kind in ("error", "warning")] == [10, 10]


def test_many_cells_of_a_model_are_counted() -> None:
    cells = [f"t{number}-mnist-float32" for number in range(8)]
    rows: list[Record] = [check(cell, "x", "failed", file="models.yaml", line=3) for cell in cells]
    (line,) = shown([run_record(cells=tuple(cells)), *rows, EndRecord(exit_code=1, seconds=1.0)])
    assert "title=mnist%3A 8 cells failed::" in line
    assert line.endswith("%0Aand 3 more cells")


def test_a_job_before_the_cells_a_flaky_board_and_an_unchecked_cell_are_told() -> None:
    cell = "armv7-mnist-float32"
    records: list[Record] = [
        run_record(cells=(cell,)),
        JobRecord(
            job="fetch:x", stage="fetch", state="failed", seconds=1.0, cause="no network", fault="infrastructure"
        ),
        job("measure", cell, board="pi-2", flaky=("pi-1: it does not answer",)),
        EndRecord(exit_code=3, seconds=1.0),
    ]
    assert shown(records) == [
        "::error title=fetch%3Ax::infrastructure: no network",
        "::warning file=models.yaml,line=12,title=flaky%3A measure%3Aarmv7-mnist-float32::"
        "ran well on pi-2 after pi-1: it does not answer",
        "::warning file=models.yaml,line=12,title=mnist%3A 1 cell%3A nothing was checked::"
        "armv7-mnist-float32: nothing was checked",
    ]


def test_an_incomplete_run_is_the_first_error() -> None:
    first, *_ = shown(whole_run()[:-1])
    assert first.startswith("::error title=crossfarm%3A incomplete::the run ended without a word")


def test_text_of_others_stays_text() -> None:
    records = failed("mnist", message="100%\r\n::set-output name=x::y\n::add-mask::a,b:c\x1b[31m", file="a,b:c.yaml")
    (line,) = shown(records)
    assert "\n" not in line
    assert line.startswith("::error file=a%2Cb%3Ac.yaml,line=10,title=")
    assert "100%25" in line
    assert "\x1b" not in line


@given(any_records)
def test_any_records_give_whole_lines_within_the_limits(records: list[Record]) -> None:
    lines = shown(records)
    assert all(re.fullmatch(r"::(error|warning) [^\n\r]*::[^\n\r]*", line) for line in lines)
    assert len(lines) <= 2 * MOST
