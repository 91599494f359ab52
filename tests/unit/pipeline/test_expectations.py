"""Known failures: what `expected` of a model makes of the records of a run."""

from __future__ import annotations

from typing import Any

import pytest

from crossfarm.config.exceptions import CELL_STAGES
from crossfarm.config.loading import load_models
from crossfarm.config.models import Model
from crossfarm.pipeline.expectations import Expectations
from crossfarm.results import CheckRecord, JobRecord, Record
from crossfarm.stages import STAGES
from tests.unit.reports.records import BAD, check, job

WORDS = "the vendor's simulator differs (https://example.org/1)"


def declared(**changes: Any) -> Expectations:
    """Return the known failures of the model `mnist`, of which there is one."""
    fields = {
        "check": "simulator.equal",
        "targets": ["armv7"],
        "reason": "the vendor's simulator differs",
        "link": "https://example.org/1",
    }
    entry = {
        "name": "mnist",
        "licence": "MIT",
        "source": {"file": "m.onnx"},
        "inputs": [{"name": "x", "shape": [1]}],
        "expected": [fields | changes],
    }
    return Expectations([Model.model_validate(entry)])


def after(expectations: Expectations, *records: Record, cell: str = BAD) -> dict[str, CheckRecord]:
    found = expectations.of_checks(records, job("check", cell))
    return {record.name: record for record in found if isinstance(record, CheckRecord)}


def test_a_failure_that_is_declared_is_a_known_one_with_its_reason_and_link() -> None:
    rows = after(declared(), check(BAD, "simulator.equal", "failed"), check(BAD, "accuracy.argmax", "failed"))
    assert rows["simulator.equal"].status == "known failure"
    assert rows["simulator.equal"].expected == WORDS
    assert rows["simulator.equal"].message == "simulator.equal failed"
    assert (rows["accuracy.argmax"].status, rows["accuracy.argmax"].expected) == ("failed", None)
    assert len(rows) == 2


@pytest.mark.parametrize("changes", [{"targets": ["aarch64"]}, {"variants": ["int8"]}, {"check": "accuracy.argmax"}])
def test_a_failure_elsewhere_is_none_that_was_declared(changes: dict[str, Any]) -> None:
    assert after(declared(**changes), check(BAD, "simulator.equal", "failed"))["simulator.equal"].status == "failed"


def test_all_outputs_can_be_declared_at_once() -> None:
    rows = after(declared(check="accuracy.output.*"), check(BAD, "accuracy.output.y", "failed"))
    assert rows["accuracy.output.y"].status == "known failure"


@pytest.mark.parametrize(("strict", "status"), [(False, "unexpected pass"), (True, "failed")])
def test_an_unexpected_pass_is_told_and_red_where_it_is_strict(strict: bool, status: str) -> None:
    rows = after(declared(strict=strict), check(BAD, "simulator.equal", "passed"))
    assert rows["simulator.equal"].status == "passed"
    row = rows["expected.simulator.equal"]
    assert row.status == status
    assert row.message == (
        f"simulator.equal is declared to fail ({WORDS}), but it passes; take it out of `expected` in models.yaml"
    )


def test_a_check_that_the_cell_does_not_have_is_told_too() -> None:
    rows = after(declared(check="accuracy.output.nothing"), check(BAD, "accuracy.output.y", "passed"))
    assert "but the cell has no such check that gates" in rows["expected.accuracy.output.nothing"].message


def test_a_check_that_could_not_be_made_is_neither() -> None:
    assert list(after(declared(), check(BAD, "simulator.equal", "error"))) == ["simulator.equal"]


def test_a_stage_that_fails_through_the_product_is_a_known_failure_and_nothing_else_is() -> None:
    found = declared(check="compile")
    wrong = job("compile", BAD, "failed", fault="product", cause="SIGABRT")
    record, rows = found.of_job(wrong)
    assert (record.state, record.expected, record.cause, rows) == ("known failure", WORDS, "SIGABRT", ())
    lost = job("compile", BAD, "failed", fault="infrastructure")
    other = job("measure", BAD, "failed", fault="product")
    prepare = JobRecord(job="prepare:mnist", stage="prepare", model="mnist", state="failed", seconds=1.0)
    for untouched in (lost, other, prepare, job("compile", BAD, "cancelled")):
        assert found.of_job(untouched) == (untouched, ())


@pytest.mark.parametrize("state", ["run", "hit"])
def test_a_stage_that_ends_well_against_its_declaration_is_told(state: str) -> None:
    record, rows = declared(check="compile").of_job(job("compile", BAD, state))
    assert record.state == state
    assert [row.name for row in rows] == ["expected.compile"]
    assert "the stage compile ended well" in rows[0].message


def test_models_without_known_failures_leave_records_as_they_are() -> None:
    records = (check(BAD, "simulator.equal", "failed"),)
    assert Expectations([]).of_checks(records, job("check", BAD)) == records


def test_the_stages_that_may_be_declared_are_those_of_a_cell() -> None:
    assert set(CELL_STAGES) == {name for name, stage in STAGES.items() if stage.DECLARATION.scope == "cell"}


def test_the_projects_own_known_failures_are_those_of_the_vendor() -> None:
    from crossfarm.util.paths import HOME

    known = {
        (model.name, item.check, target)
        for model in load_models(HOME / "models.yaml").models
        for item in model.expected
        for target in item.targets
    }
    assert ("ppocr_cls", "simulator.equal", "mera_f200") in known
    assert ("pplcnet_orientation", "compile", "mera_f200") in known
