"""The accuracy ladder: what each rung kept, and which step is told to have lost something."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossfarm.config.checks import Checks
from crossfarm.config.decoding import Classify
from crossfarm.results import CheckRecord, MeasurementRecord, Provenance
from crossfarm.stages.check.comparison import OutputScale
from crossfarm.stages.check.decoded import Decoded
from crossfarm.stages.check.ladder import Rung, ladder_records, layer_records
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.quantize.artifact import LayerError
from crossfarm.stages.reference.artifact import Case, Reference

LABELS = (0, 1, 2, 3)
PROVENANCE = Provenance(board="host", timing="silicon")


def scores(*best: int) -> Array:
    """Return scores whose largest is at `best`, case by case."""
    return np.eye(4, dtype=np.float32)[list(best)]


def ladder(*outputs: Array, labels: tuple[int | None, ...] = LABELS, agreement: float | None = 0.9) -> Any:
    """Return the row and the numbers of a ladder of two or three rungs."""
    names = ("float", "quantised", "target")[-len(outputs) :]
    steps = ("", "quantising", "compiling")[-len(outputs) :]
    rungs = [
        Rung(name=name, words=f"the {name} model", step=step, output=output)
        for name, step, output in zip(names, steps, outputs, strict=True)
    ]
    cases = tuple(
        Case(name=f"d {k}", kind="data" if label is not None else "random", dataset="d", label=label)
        for k, label in enumerate(labels)
    )
    decoded = Decoded(
        output=outputs[0],
        expected=outputs[0],
        reference=Reference(cases=cases, inputs=(), outputs=()),
        decode=Classify(kind="classify"),
        checks=Checks(),
    )
    rows = list(
        ladder_records(
            rungs,
            decoded,
            yardstick=OutputScale(),
            agreement=agreement,
            check=lambda **fields: CheckRecord(cell="c", **fields),
            measurement=lambda name, value, unit: MeasurementRecord(
                cell="c", name=name, value=value, unit=unit, provenance=PROVENANCE
            ),
        )
    )
    numbers = {row.name: row.value for row in rows if isinstance(row, MeasurementRecord)}
    return next(row for row in rows if isinstance(row, CheckRecord)), numbers


def test_a_ladder_that_lost_nothing_says_so() -> None:
    row, numbers = ladder(scores(0, 1, 2, 3), scores(0, 1, 2, 3), scores(0, 1, 2, 3))
    assert (row.status, row.value) == ("passed", 1.0)
    assert row.message.endswith("no step lost or changed a decision")
    assert [numbers[f"ladder.{name}.right"] for name in ("float", "quantised", "target")] == [1, 1, 1]


def test_a_loss_is_told_of_the_step_that_caused_it() -> None:
    row, numbers = ladder(scores(0, 1, 2, 3), scores(0, 1, 2, 0), scores(0, 1, 0, 0), agreement=0.7)
    assert row.status == "passed"
    assert "quantising changed 1 of 4 decisions and lost 1 of 4 right ones" in row.message
    assert "compiling changed 1 of 4 decisions and lost 1 of 3 right ones" in row.message
    assert numbers["ladder.target.agreement"] == 0.5
    assert row.details[1].startswith("the quantised model: 3 of 4 right")


def test_too_little_agreement_fails() -> None:
    row, _ = ladder(scores(0, 1, 2, 3), scores(3, 3, 3, 3), scores(3, 3, 3, 3))
    assert row.status == "failed" and row.value == 0.25


def test_random_inputs_do_not_count_beside_labelled_ones() -> None:
    row, _ = ladder(scores(0, 1, 2, 3), scores(3, 1, 2, 3), scores(3, 1, 2, 3), labels=(None, 1, 2, 3))
    assert row.status == "passed"


def test_a_ready_made_model_has_a_ladder_without_a_gate() -> None:
    row, numbers = ladder(scores(0, 1, 2, 3), scores(0, 1, 2, 0))
    assert row.status == "informative"
    assert "compiling changed 1 of 4 decisions and lost 1 of 4 right ones" in row.message
    assert "ladder.float.right" not in numbers


def test_the_layers_that_lose_most_of_their_own_are_named_first() -> None:
    layers = [
        LayerError(name="stem", operator="Conv", error=0.03, before=0.0),
        LayerError(name="wide", operator="Conv", error=0.31, before=0.30),
        LayerError(name="narrow", operator="MatMul", error=0.30, before=0.03),
        LayerError(name="mean", operator="GlobalAveragePool", error=0.02, before=0.31),
    ]
    (row,) = layer_records(layers, check=lambda **fields: CheckRecord(cell="c", **fields))
    assert isinstance(row, CheckRecord)
    assert (row.name, row.status, row.operators) == (
        "accuracy.layers",
        "informative",
        ("narrow", "wide", "stem", "mean"),
    )
    assert row.message.startswith(
        "quantising loses most in narrow (MatMul): its result is 30.0% off, what it reads 3.0%; wide (Conv): "
    )
    assert "mean" not in row.message
    assert len(row.details) == 4


def test_a_ready_made_model_names_no_layers() -> None:
    assert list(layer_records((), check=lambda **fields: CheckRecord(cell="c", **fields))) == []
