"""Rows of boxes, masks and embeddings: what gates, against the reference and against labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crossfarm.config.checks import Checks
from crossfarm.config.decoding import Boxes, Embeddings, Masks, ScoreMap
from crossfarm.errors import ConfigError
from crossfarm.results import CheckRecord, MeasurementRecord, Provenance
from crossfarm.stages.check.shapes import Shapes, shape_records
from crossfarm.stages.reference.artifact import Case, Reference, TensorFile

PROVENANCE = Provenance(board="host", timing="silicon")
MAPS = Boxes(kind="boxes", map=ScoreMap(growth=0.0))


def rows(
    decode: Any, output: Any, expected: Any, *, cases: tuple[Case, ...], **checks: Any
) -> tuple[dict[str, CheckRecord], dict[str, float]]:
    """Return the rows and the numbers by name."""
    image = TensorFile(name="image", dtype="float32", shape=(1, 3, 20, 20), file="inputs/0.bin")
    shapes = Shapes(
        model="m",
        pairs={"out": (np.asarray(output, np.float32), np.asarray(expected, np.float32))},
        reference=Reference(cases=cases, inputs=(image,), outputs=()),
        decode=decode,
        checks=Checks(**checks),
    )
    found = list(
        shape_records(
            shapes,
            check=lambda **row: CheckRecord(cell="c", **row),
            measurement=lambda name, value, unit: MeasurementRecord(
                cell="c", name=name, value=value, unit=unit, provenance=PROVENANCE
            ),
        )
    )
    checked = {row.name: row for row in found if isinstance(row, CheckRecord)}
    return checked, {row.name: row.value for row in found if isinstance(row, MeasurementRecord)}


def _cases(*labels: Any, boxes: Any = None) -> tuple[Case, ...]:
    return tuple(
        Case(name=f"d {number}", kind="data", dataset="d", label=label, boxes=boxes)
        for number, label in enumerate(labels)
    )


def _map(*boxes: tuple[int, int, int, int]) -> Any:
    found = np.zeros((1, 20, 20), np.float32)
    for left, top, right, bottom in boxes:
        found[0, top:bottom, left:right] = 0.9
    return found


def test_boxes_gate_against_the_reference_and_against_labels() -> None:
    expected = [_map((2, 2, 8, 8)), _map((10, 10, 18, 18))]
    checked, numbers = rows(MAPS, expected, expected, cases=_cases(None, None, boxes=((2, 2, 8, 8),)), map50=0.6)
    assert checked["accuracy.boxes"].status == "passed"
    assert "2 of 2 cases have the reference's 2 boxes" in checked["accuracy.boxes"].message
    # The box of the second case is wrong, its thing is not found: 1 of 2 things, at precision 1.
    assert (checked["accuracy.map50.d"].status, numbers["accuracy.map50.d"]) == ("failed", 0.5)
    moved = [_map((2, 2, 8, 8)), _map((12, 10, 18, 18))]
    checked, numbers = rows(MAPS, moved, expected, cases=_cases(None, None))
    assert (checked["accuracy.boxes"].status, numbers["accuracy.boxes"]) == ("failed", 0.5)
    assert checked["accuracy.boxes"].details[0].startswith("d 1: 1 boxes [12.0, 10.0, 18.0, 18.0] 0.900; the reference")
    assert "accuracy.map50.d" not in checked


def test_noise_does_not_judge_boxes_where_there_is_data() -> None:
    cases = (Case(name="random 0", kind="random"), *_cases(None))
    expected, moved = [_map((2, 2, 8, 8)), _map((2, 2, 8, 8))], [_map(), _map((2, 2, 8, 8))]
    assert rows(MAPS, moved, expected, cases=cases)[0]["accuracy.boxes"].status == "passed"
    assert rows(MAPS, moved, expected, cases=cases[:1] * 2)[0]["accuracy.boxes"].status == "failed"


def test_a_decoder_that_does_not_fit_the_outputs_is_refused_with_the_model() -> None:
    anchors = {"boxes": "x", "scores": "out", "grids": [{"stride": 8}]}
    decode = Boxes.model_validate({"kind": "boxes", "anchors": anchors})
    with pytest.raises(ConfigError, match=r"model m: decode: there is no output 'x'; outputs: out; correct it"):
        rows(decode, [_map()], [_map()], cases=_cases(None))


def test_the_worst_mask_gates() -> None:
    expected = [_map((0, 0, 10, 10)), _map((0, 0, 10, 10)), _map()]
    output = [_map((0, 0, 10, 10)), _map((0, 0, 10, 9)), _map()]
    checked, numbers = rows(Masks(kind="masks"), output, expected, cases=_cases(None, None, None))
    assert (checked["accuracy.masks"].status, numbers["accuracy.masks"]) == ("failed", pytest.approx(0.9))
    assert "in case d 1; the masks cover 16.7% of 3 cases" in checked["accuracy.masks"].message
    checked, _ = rows(Masks(kind="masks"), output, expected, cases=_cases(None, None, None), iou=0.9)
    assert checked["accuracy.masks"].status == "passed"


VECTORS = [[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1], [0, 0.1, 0.9]]


def test_embeddings_gate_by_cosine_by_the_nearest_case_and_by_labels() -> None:
    checked, numbers = rows(Embeddings(kind="embeddings"), VECTORS, VECTORS, cases=_cases(0, 0, 1, 1), rank1=1.0)
    assert {name: row.status for name, row in checked.items()} == {
        "accuracy.embeddings": "passed",
        "accuracy.rank": "passed",
        "accuracy.rank1.d": "passed",
    }
    turned = [VECTORS[0], VECTORS[3], VECTORS[2], VECTORS[1]]
    checked, numbers = rows(Embeddings(kind="embeddings"), turned, VECTORS, cases=_cases(0, 0, 1, 1), rank1=1.0)
    assert {row.status for row in checked.values()} == {"failed"}
    assert numbers["accuracy.rank1.d"] == 0.0
    assert checked["accuracy.rank1.d"].message.startswith("0 of 4 cases have a nearest case of their own label; the")


def test_a_vector_that_is_not_finite_fails() -> None:
    spoilt = [[float("nan"), 0, 0], *VECTORS[1:]]
    checked, _ = rows(Embeddings(kind="embeddings"), spoilt, VECTORS, cases=_cases(0, 0, 1, 1))
    assert checked["accuracy.embeddings"].status == "failed"
    assert checked["accuracy.embeddings"].value == -1.0
