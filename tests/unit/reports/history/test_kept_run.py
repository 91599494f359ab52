"""What is kept of a run: everything that verdicts and reports ask for, exact, whatever its records hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.errors import StoreError
from crossfarm.reports.history.kept_run import COMPILE_TIME, board_of, kept_run, pack, unpack
from crossfarm.reports.history.read_results import read_provenance
from crossfarm.results import EndRecord, MeasurementRecord, Provenance, RunRecord
from tests.unit.reports.kept_runs import SILICON, records
from tests.unit.reports.records import any_records, job, run_record

CELL = "aarch64-mnist-float32"


def test_samples_and_provenance_are_kept_whole() -> None:
    samples = (1.5, 2.25, 1e9)
    (cell,) = kept_run(records("r1", CELL, samples=samples)).cells
    assert cell.numbers["latency.p50"].samples == samples
    assert cell.provenance is not None
    assert read_provenance(cell.provenance) == SILICON
    assert (cell.board, cell.timing, cell.bundle, cell.state) == ("pi-1", "silicon", "b" * 64, "passed")
    assert cell.checks["accuracy.output.y"].cases == 10


def test_the_compile_time_is_kept_where_the_job_ran_and_not_where_the_store_had_it() -> None:
    assert kept_run(records("r1", CELL)).cells[0].numbers[COMPILE_TIME].value == 3.0
    warm = [record for record in records("r1", CELL) if getattr(record, "stage", "") != "compile"]
    warm.insert(1, job("compile", CELL, "hit"))
    assert COMPILE_TIME not in kept_run(warm).cells[0].numbers


def test_a_number_with_a_provenance_of_its_own_keeps_it() -> None:
    other = Provenance(board="pi-2", timing="silicon")
    found = records("r1", CELL)
    found.insert(-1, MeasurementRecord(cell=CELL, name="arena", value=1.0, unit="bytes", provenance=other))
    (cell,) = kept_run(found).cells
    arena = cell.numbers["arena"].provenance
    assert arena is not None
    assert read_provenance(arena) == other
    assert cell.numbers["program"].provenance is None


def test_this_host_is_another_board_on_every_host() -> None:
    assert board_of("local", "builder x86_64") == "local@builder"
    assert board_of("pi-1", "builder x86_64") == "pi-1"
    here = Provenance(board="local", timing="silicon")
    assert kept_run(records("r1", CELL, provenance=here)).cells[0].board == "local@builder"


def test_a_run_that_was_killed_has_no_exit_code() -> None:
    run = kept_run(records("r1", CELL, ends=False))
    assert (run.exit_code, run.seconds) == (None, None)


@pytest.mark.parametrize("started", ["yesterday", "", "99999-01-01", "0001-01-01T00:00:00"])
def test_a_time_that_cannot_be_read_is_no_error(started: str) -> None:
    assert math.isfinite(kept_run([run_record(started=started), EndRecord(exit_code=0, seconds=math.nan)]).position)


def test_records_without_their_first_are_refused() -> None:
    with pytest.raises(StoreError, match="lack the first one"):
        kept_run([EndRecord(exit_code=0, seconds=1.0)])


@given(any_records)
def test_any_records_of_a_run_can_be_kept(found: list[object]) -> None:
    run = kept_run([run_record(), *(record for record in found if not isinstance(record, RunRecord))])  # type: ignore[list-item]
    texts = [run.run, run.command, *(cell.cell for cell in run.cells), *(cell.cause for cell in run.cells)]
    assert not any("\0" in text for text in texts)


def test_names_of_a_megabyte_fit_an_index_and_stay_apart() -> None:
    long = [f"aarch64-{'a' * 1_000_000}{end}-float32" for end in "bc"]
    run = kept_run([run_record(cells=(), run="r" * 5000), *(job("compile", name) for name in long)])
    assert len({cell.cell for cell in run.cells}) == 2
    assert all(len(text.encode()) <= 420 for text in (run.run, *(cell.cell for cell in run.cells)))


@given(st.lists(st.floats()))
def test_samples_come_back_as_they_were(samples: list[float]) -> None:
    assert [repr(value) for value in unpack(pack(samples))] == [repr(value) for value in samples]


@pytest.mark.parametrize("data", [b"\x01", b"\x01nonsense", b"\x00123", b"\x07" + b"0" * 8])
def test_damaged_samples_are_told(data: bytes) -> None:
    with pytest.raises(StoreError, match="samples of the history"):
        unpack(data)


def test_samples_take_fewer_bytes_than_their_text() -> None:
    samples = [float(1_000_000 + 7 * number) for number in range(1000)]
    assert len(pack(samples) or b"") < 8 * len(samples)
