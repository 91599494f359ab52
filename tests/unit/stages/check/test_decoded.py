"""Decisions and labels: which cases count, and what a share over one class says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crossfarm.config.checks import Checks
from crossfarm.config.decoding import Classify, CtcText, Detect
from crossfarm.results import CheckRecord, MeasurementRecord, Provenance
from crossfarm.stages.check.decoded import Decoded, decoded_records
from crossfarm.stages.reference.artifact import Case, Reference

PROVENANCE = Provenance(board="host", timing="silicon")


def rows(
    labels: tuple[Any, ...], *, output: Any, expected: Any, decode: Any = None, **fields: Any
) -> dict[str, CheckRecord]:
    """Return the rows about decisions by name; a case without a label is noise."""
    cases = tuple(
        Case(name=f"case {number}", kind="random" if label is None else "data", dataset="d", label=label)
        for number, label in enumerate(labels)
    )
    decoded = Decoded(
        output=np.asarray(output, np.float32),
        expected=np.asarray(expected, np.float32),
        reference=Reference(cases=cases, inputs=(), outputs=(), characters=("", "0", "1")),
        decode=decode or Classify(kind="classify"),
        checks=Checks(),
        **fields,
    )
    found = decoded_records(
        decoded,
        check=lambda **row: CheckRecord(cell="c", **row),
        measurement=lambda name, value, unit: MeasurementRecord(
            cell="c", name=name, value=value, unit=unit, provenance=PROVENANCE
        ),
    )
    return {row.name: row for row in found if isinstance(row, CheckRecord)}


EXPECTED = [[0.51, 0.49], [0.9, 0.1], [0.2, 0.8]]
NOISE_TURNED = [[0.49, 0.51], [0.9, 0.1], [0.2, 0.8]]


def test_noise_between_two_classes_does_not_judge_int8() -> None:
    row = rows((None, 0, 1), output=NOISE_TURNED, expected=EXPECTED, labelled_only=True)["accuracy.argmax"]
    assert (row.status, row.value) == ("passed", 1.0)
    assert row.message.startswith("argmax equal to the reference's in 2 of 2 labelled cases")
    assert row.details == ("case 0 differs, which is not counted",)


def test_a_labelled_case_judges_int8() -> None:
    row = rows((0, 0, None), output=NOISE_TURNED, expected=EXPECTED, labelled_only=True)["accuracy.argmax"]
    assert (row.status, row.value) == ("failed", 0.5)


def test_noise_judges_float32_and_models_without_labels() -> None:
    assert rows((None, 0, 1), output=NOISE_TURNED, expected=EXPECTED)["accuracy.argmax"].status == "failed"
    unlabelled = rows((None, None, None), output=NOISE_TURNED, expected=EXPECTED, labelled_only=True)
    assert unlabelled["accuracy.argmax"].status == "failed"


@pytest.mark.parametrize("decode", [Classify(kind="classify"), Detect(kind="threshold")])
def test_a_share_over_one_class_says_so(decode: Any) -> None:
    for labels, note in (((None, 0, 0), "one class only"), ((None, 0, 1), None)):
        row = rows(labels, output=EXPECTED, expected=EXPECTED, decode=decode)["accuracy.top1.d"]
        assert row.note == note
        assert row.message.endswith("; one class only") == bool(note)


def test_one_text_is_no_class() -> None:
    scores = [[[0, 1, 0], [1, 0, 0]]]
    assert rows(("0",), output=scores, expected=scores, decode=CtcText(kind="ctc_text"))["text.d"].note is None
