"""Known failures: what models.yaml declares under `expected`, put into the records of a run. Pure functions of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from crossfarm.config.exceptions import CELL_STAGES, Expected
from crossfarm.config.models import Model
from crossfarm.results import CheckRecord, JobRecord, Record

_GATES = ("passed", "failed")
_ROW = "expected."
"""Begins the name of a row that tells that something did not fail; what it is stands behind."""


class Expectations:
    """The known failures of all models."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._of = {model.name: model.expected for model in models if model.expected}

    def of_job(self, record: JobRecord) -> tuple[JobRecord, tuple[CheckRecord, ...]]:
        """Return the record of a job as it counts, and rows about failures that did not come.

        A failure that is declared becomes a known one. Only the product's: a board that is lost is not what was meant.
        """
        expected = next(
            (
                item
                for item in self._declared(record.model, record.target, record.variant)
                if item.check == record.stage
            ),
            None,
        )
        if expected is None or record.cell is None:
            return record, ()
        if record.state == "failed" and record.fault == "product":
            return dataclasses.replace(record, state="known failure", expected=expected.words), ()
        if record.state in ("run", "hit"):
            return record, (_row(expected, record.cell, f"the stage {record.stage} ended well"),)
        return record, ()

    def of_checks(self, records: Sequence[Record], job: JobRecord) -> tuple[Record, ...]:
        """Return what the checks of a cell found, known failures marked, and a row for each that did not come.

        Args:
            records: all that the job left.
            job: the one that checked.
        """
        declared = [
            item for item in self._declared(job.model, job.target, job.variant) if item.check not in CELL_STAGES
        ]
        if not declared or job.cell is None:
            return tuple(records)
        found = tuple(_marked(record, declared) for record in records)
        return (*found, *_untrue(declared, found, job.cell))

    def _declared(self, model: str | None, target: str | None, variant: str | None) -> Iterator[Expected]:
        for item in self._of.get(model or "", ()):
            if target in item.targets and (item.variants is None or variant in item.variants):
                yield item


def _marked(record: Record, declared: Sequence[Expected]) -> Record:
    if not isinstance(record, CheckRecord) or record.status != "failed":
        return record
    expected = next((item for item in declared if item.is_about(record.name)), None)
    if expected is None:
        return record
    return dataclasses.replace(record, status="known failure", expected=expected.words)


def _untrue(declared: Sequence[Expected], found: Sequence[Record], cell: str) -> Iterator[CheckRecord]:
    for item in declared:
        rows = [row for row in found if isinstance(row, CheckRecord) and item.is_about(row.name)]
        if any(row.status == "known failure" for row in rows):
            continue
        is_held = any(row.status in _GATES for row in rows)
        # A check that could not be made says nothing about its failure.
        if is_held or not any(row.status == "error" for row in rows):
            yield _row(item, cell, "it passes" if is_held else "the cell has no such check that gates")


def _row(expected: Expected, cell: str, how: str) -> CheckRecord:
    return CheckRecord(
        cell=cell,
        name=f"{_ROW}{expected.check}",
        status="failed" if expected.strict else "unexpected pass",
        message=f"{expected.check} is declared to fail ({expected.words}), but {how}; take it out of `expected` in "
        "models.yaml",
        expected=expected.words,
    )
