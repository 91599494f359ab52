"""What a run's listener makes of how jobs and checks ended; each rule of the exit code decides a case alone."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest

from crossfarm.backends.project_files import load_project
from crossfarm.config.cell import Cell
from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, EXIT_INFRASTRUCTURE
from crossfarm.pipeline.job_runner import Finished
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan_types import Plan, PlannedJob, SkippedCell
from crossfarm.pipeline.recorder import KeptResults, Recorder
from crossfarm.pipeline.staleness import Decision
from crossfarm.reports.run_view import overview
from crossfarm.results import CheckRecord, read_records, to_json
from crossfarm.stages import STAGES
from crossfarm.store.keys import KeyDocument
from crossfarm.store.store import Artifact, Store
from crossfarm.util.console import Console
from crossfarm.util.paths import HOME

CELLS = tuple(Cell(model="m", target=target, variant="float32") for target in ("x86_64", "armv7"))
MODELS = "models:\n  - {name: m, licence: MIT, source: {file: m.onnx}, inputs: [{name: x, shape: [1]}]}\n"
KNOWN = "{check: CHECK, targets: [x86_64], reason: the vendor knows, strict: STRICT}"
PRODUCT = Finished(state="failed", cause="wrong", fault="product")
INFRASTRUCTURE = Finished(state="failed", cause="lost", fault="infrastructure")


@dataclasses.dataclass(kw_only=True)
class Run:
    """A recorder, the store that its artifacts come from, and what it showed."""

    recorder: Recorder
    store: Store
    folder: Path
    screen: io.StringIO

    def ended(self, stage: str, result: Finished, cell: Cell = CELLS[0]) -> bool:
        """Tell the recorder how a job of a cell ended; return whether the run shall stop."""
        return self.recorder.finished(_job(stage, cell), result)

    def checked(self, *statuses: str, cell: Cell = CELLS[0], name: str = "") -> bool:
        """Tell it that the checks of a cell ended so; return whether the run shall stop."""
        return self.ended("check", Finished(state="run", artifact=self._artifact(statuses, cell, name)), cell)

    def records(self, kind: str) -> list[Any]:
        """Return what it recorded of one kind."""
        return [record for record in read_records(self.folder.parent / "results.jsonl") if record.record == kind]

    def code(self) -> int:
        return self.recorder.exit_code()

    def _artifact(self, statuses: tuple[str, ...], cell: Cell, name: str) -> Artifact:
        records = [
            CheckRecord(cell=cell.id, name=name or f"check.{number}", status=status, message=status)  # type: ignore[arg-type]
            for number, status in enumerate(statuses)
        ]
        folder = self.folder / f"artifact-{cell.id}"
        folder.mkdir()
        (folder / "records.jsonl").write_text("".join(to_json(record) + "\n" for record in records))
        job = _job("check", cell)
        return self.store.put(key=job.key, job=job.id, folder=folder, document=job.document, groups={}, seconds=0.1)


def _job(stage: str, cell: Cell) -> PlannedJob:
    document = KeyDocument(stage=stage, version=1, parameters={}, sources=cell.id, inputs={}, image="host", tools={})
    return PlannedJob(
        declaration=STAGES[stage].DECLARATION,
        id=f"{stage}:{cell.id}",
        stage=stage,
        cell=cell,
        model=cell.model,
        key=document.key(),
        document=document,
        groups={},
        inputs={},
    )


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def made(
        *, cells: tuple[Cell, ...] = CELLS[:1], skipped: tuple[SkippedCell, ...] = (), expected: str = "", **said: Any
    ) -> Run:
        known = f", expected: [{expected}]" if expected else ""
        (tmp_path / "models.yaml").write_text(MODELS.replace("shape: [1]}]", f"shape: [1]}}]{known}"))
        (tmp_path / "m.onnx").touch()
        project = load_project(
            models=tmp_path / "models.yaml",
            toolchains=HOME / "toolchains",
            pipeline=HOME / "pipelines" / "default.yaml",
        )
        screen = io.StringIO()
        store = Store(tmp_path / "store")
        recorder = Recorder(
            results=KeptResults(tmp_path / "results.jsonl"),
            console=Console(screen),
            options=Options(**said),
            project=project,
            store=store,
            decisions={
                f"{stage}:{cell.id}": Decision(choice="run")
                for cell in CELLS
                for stage in ("compile", "measure", "check")
            },
        )
        recorder.skipped(Plan(jobs={}, wanted=frozenset(), cells=cells, skipped=skipped))
        return Run(recorder=recorder, store=store, folder=tmp_path / "store", screen=screen)

    return made


def test_a_run_whose_checks_hold_is_good(make: Any) -> None:
    run = make()
    run.ended("compile", Finished(state="run"))
    run.checked("passed", "informative", "skipped")
    assert run.code() == EXIT_GOOD


def test_a_check_that_failed_is_1(make: Any) -> None:
    run = make()
    run.checked("passed", "failed")
    assert run.code() == EXIT_CHECK_FAILED


def test_a_check_that_could_not_be_made_is_3(make: Any) -> None:
    run = make()
    run.checked("passed", "error")
    assert run.code() == EXIT_INFRASTRUCTURE


def test_a_job_that_failed_through_the_products_fault_is_1(make: Any) -> None:
    run = make()
    run.ended("compile", PRODUCT)
    assert run.code() == EXIT_CHECK_FAILED


def test_a_job_that_failed_through_the_infrastructures_fault_is_3(make: Any) -> None:
    run = make()
    run.ended("compile", INFRASTRUCTURE)
    assert run.code() == EXIT_INFRASTRUCTURE


@pytest.mark.parametrize("order", [(PRODUCT, INFRASTRUCTURE), (INFRASTRUCTURE, PRODUCT)])
def test_the_products_fault_outweighs_the_infrastructures_in_either_order(
    make: Any, order: tuple[Finished, Finished]
) -> None:
    run = make(cells=CELLS)
    for result, cell in zip(order, CELLS, strict=True):
        run.ended("compile", result, cell)
    assert run.code() == EXIT_CHECK_FAILED


@pytest.mark.parametrize("order", [("failed", "error"), ("error", "failed")])
def test_a_failed_check_outweighs_one_that_could_not_be_made(make: Any, order: tuple[str, str]) -> None:
    run = make(cells=CELLS)
    for status, cell in zip(order, CELLS, strict=True):
        run.checked(status, cell=cell)
    assert run.code() == EXIT_CHECK_FAILED


def test_what_ended_well_later_does_not_heal_what_failed(make: Any) -> None:
    run = make(cells=CELLS)
    run.checked("error")
    run.checked("passed", cell=CELLS[1])
    assert run.code() == EXIT_INFRASTRUCTURE


def test_a_cancelled_job_alone_changes_nothing(make: Any) -> None:
    run = make()
    run.ended("measure", Finished(state="cancelled", cause="compile failed"))
    assert run.code() == EXIT_GOOD


@pytest.mark.parametrize("statuses", [(), ("informative",), ("skipped",), ("informative", "skipped")])
def test_a_cell_without_a_check_that_gates_is_3_where_checks_are_required(make: Any, statuses: tuple[str, ...]) -> None:
    run = make(require_checks=True)
    run.checked(*statuses)
    assert run.code() == EXIT_INFRASTRUCTURE
    run.recorder.tell_unchecked()
    assert run.screen.getvalue().splitlines()[-1] == ("--require-checks: not checked: 1 of 1 cells: x86_64-m-float32")


def test_a_run_that_compiles_only_is_good_unless_checks_are_required(make: Any) -> None:
    assert make().code() == EXIT_GOOD
    assert make(require_checks=True).code() == EXIT_INFRASTRUCTURE


def test_one_checked_cell_does_not_stand_for_another(make: Any) -> None:
    missing = SkippedCell(cell=CELLS[1], stage="measure", reason="no emulator")
    run = make(cells=CELLS, skipped=(missing,), require_checks=True)
    run.checked("passed")
    assert run.code() == EXIT_INFRASTRUCTURE


def test_a_cell_that_its_model_leaves_out_is_owed_no_check(make: Any) -> None:
    declared = SkippedCell(cell=CELLS[1], stage=None, reason="the board is out of order")
    run = make(skipped=(declared,), require_checks=True)
    run.checked("passed")
    assert run.code() == EXIT_GOOD


def test_a_cell_that_is_not_for_its_target_fails_nothing_and_is_owed_no_check(make: Any) -> None:
    run = make(cells=CELLS, require_checks=True)
    run.checked("passed")
    unfit = Finished(state="skipped", cause="m: too large: about 9 cycles", seconds=0.2)
    assert run.ended("compile", unfit, CELLS[1]) is False
    assert run.ended("measure", Finished(state="skipped", cause=unfit.cause), CELLS[1]) is False
    assert run.code() == EXIT_GOOD
    assert run.screen.getvalue().count("too large: about 9 cycles") == 1
    seen = overview(read_records(run.folder.parent / "results.jsonl"))
    cell = next(cell for cell in seen.cells if cell.id == CELLS[1].id)
    assert (cell.state, cell.cause) == ("skipped", "compile: m: too large: about 9 cycles")


def test_a_run_of_which_everything_is_left_out_has_checked_nothing(make: Any) -> None:
    declared = SkippedCell(cell=CELLS[0], stage=None, reason="the board is out of order")
    run = make(cells=(), skipped=(declared,), require_checks=True)
    assert run.code() == EXIT_INFRASTRUCTURE
    run.recorder.tell_unchecked()
    assert "no cell was left to check" in run.screen.getvalue()


def test_a_failed_check_is_1_though_other_cells_were_not_checked(make: Any) -> None:
    run = make(cells=CELLS, require_checks=True)
    run.checked("failed")
    assert run.code() == EXIT_CHECK_FAILED


@pytest.mark.parametrize(
    ("status", "stops"), [("passed", False), ("informative", False), ("failed", True), ("error", True)]
)
def test_fail_fast_stops_at_a_check_that_does_not_hold(make: Any, status: str, stops: bool) -> None:
    assert make(fail_fast=True).checked(status) is stops


@pytest.mark.parametrize("result", [PRODUCT, INFRASTRUCTURE])
def test_fail_fast_stops_at_a_failed_job_and_nothing_else_does(make: Any, result: Finished) -> None:
    assert make(fail_fast=True).ended("compile", result) is True
    assert make().ended("compile", result) is False


@pytest.mark.parametrize("strict", ["true", "false"])
def test_a_known_failure_of_a_check_gates_nothing_and_counts_as_checked(make: Any, strict: str) -> None:
    known = KNOWN.replace("CHECK", "accuracy.argmax").replace("STRICT", strict)
    run = make(expected=known, require_checks=True, fail_fast=True)
    assert run.checked("failed", name="accuracy.argmax") is False
    assert run.code() == EXIT_GOOD
    assert run.records("check")[0].status == "known failure"
    assert run.records("check")[0].file.endswith("models.yaml")


@pytest.mark.parametrize(("strict", "code"), [("true", EXIT_CHECK_FAILED), ("false", EXIT_GOOD)])
def test_an_unexpected_pass_is_told_and_fails_the_run_where_it_is_strict(make: Any, strict: str, code: int) -> None:
    run = make(expected=KNOWN.replace("CHECK", "accuracy.argmax").replace("STRICT", strict))
    run.checked("passed", name="accuracy.argmax")
    assert run.code() == code
    assert [row.name for row in run.records("check")] == ["accuracy.argmax", "expected.accuracy.argmax"]


def test_a_known_failure_of_a_stage_gates_nothing_and_says_so_at_once(make: Any) -> None:
    run = make(
        expected=KNOWN.replace("CHECK", "compile").replace("STRICT", "true"), require_checks=True, fail_fast=True
    )
    assert run.ended("compile", PRODUCT) is False
    assert run.code() == EXIT_GOOD
    assert "known failure 0.0 s: the vendor knows: wrong" in run.screen.getvalue()
    assert run.records("job")[0].state == "known failure"


def test_a_board_that_is_lost_is_no_known_failure(make: Any) -> None:
    run = make(expected=KNOWN.replace("CHECK", "compile").replace("STRICT", "true"))
    run.ended("compile", INFRASTRUCTURE)
    assert run.code() == EXIT_INFRASTRUCTURE
