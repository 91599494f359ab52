"""What `./inv profile` says of an int8 cell: the layers that lost accuracy, and the ladder."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.config.cell import Cell
from crossfarm.errors import StoreError
from crossfarm.results import CheckRecord, MeasurementRecord, Provenance, Record, to_json
from crossfarm.stages.quantize.artifact import LayerError, Quantised
from crossfarm.store.keys import KeyDocument
from crossfarm.store.store import Artifact, Store
from crossfarm.tuning.losses import accuracy, ladder, layer_losses

CELL = "armv7-small-int8"
LAYERS = (
    LayerError(name="stem/conv", operator="Conv", error=0.03, before=0.0),
    LayerError(name="block/mul", operator="Mul", error=0.05, before=0.03),
    LayerError(name="block/add", operator="Add", error=0.04, before=0.05),
    LayerError(name="head/gemm", operator="Gemm", error=0.13, before=0.05),
    LayerError(name="tail", operator="Relu", error=0.131, before=0.13),
)
QUANTISED = Quantised(ready_made=False, calibrated_from=4, operators={"Conv": 1}, layers=LAYERS)


def _measurement(name: str, value: float) -> MeasurementRecord:
    return MeasurementRecord(
        cell=CELL,
        name=name,
        value=value,
        unit="share",
        provenance=Provenance(board="local", timing="emulated", cpu_model=None, governor=None, temperature=None),
    )


RECORDS: list[Record] = [
    _measurement("ladder.float.difference", 0.0),
    _measurement("ladder.float.agreement", 1.0),
    _measurement("ladder.float.right", 0.98),
    _measurement("ladder.quantised.difference", 0.16),
    _measurement("ladder.quantised.agreement", 0.95),
    _measurement("ladder.quantised.right", 0.94),
    _measurement("latency.p50", 12.0),
    _measurement("ladder.target.difference", 0.17),
    _measurement("ladder.target.agreement", 0.95),
    _measurement("ladder.target.right", 0.94),
    CheckRecord(
        cell=CELL, name="accuracy.ladder", status="informative", message="quantising changed 2 of 50 decisions"
    ),
    CheckRecord(cell=CELL, name="code.unscheduled", status="informative", message="not of the ladder"),
]


class _Shelf:
    """A store with artifacts of one cell."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.folder = folder

    def put(self, stage: str, files: dict[str, str], *, inputs: dict[str, str] | None = None) -> Artifact:
        made = self.folder / stage
        made.mkdir()
        for name, text in files.items():
            (made / name).write_text(text)
        document = KeyDocument(
            stage=stage, version=1, parameters={}, sources="s", inputs=inputs or {}, image="host", tools={}
        )
        return self.store.put(
            key=document.key(), job=f"{stage}:{CELL}", folder=made, document=document, groups={}, seconds=1.0
        )

    def checked(self, bundle: str) -> None:
        text = "".join(to_json(record) + "\n" for record in RECORDS)
        self.put("check", {"records.jsonl": text}, inputs={"bundle": bundle})


@pytest.fixture
def shelf(tmp_path: Path) -> _Shelf:
    return _Shelf(tmp_path)


@pytest.fixture
def artifacts(shelf: _Shelf) -> dict[str, Artifact]:
    return {
        "bundle": shelf.put("bundle", {"program": "p"}),
        "quantize": shelf.put("quantize", {"quantisation.json": QUANTISED.model_dump_json()}),
    }


def test_layers_stand_under_their_own_names_the_worst_first_and_the_three_worst_are_marked() -> None:
    heading, columns, *rows = layer_losses(QUANTISED).splitlines()
    assert "the worst layer first" in heading
    assert columns.split() == ["added", "result", "read", "operator", "layer"]
    assert [row.split() for row in rows] == [
        ["12.00%", "13.00%", "5.00%", "Gemm", "head/gemm", "(worst)"],
        ["4.00%", "5.00%", "3.00%", "Mul", "block/mul", "(worst)"],
        ["3.00%", "3.00%", "0.00%", "Conv", "stem/conv", "(worst)"],
        ["1.62%", "13.10%", "13.00%", "Relu", "tail"],
        ["0.00%", "4.00%", "5.00%", "Add", "block/add"],
    ]


def test_a_layer_that_lost_nothing_is_not_marked() -> None:
    lossless = Quantised(ready_made=False, calibrated_from=4, operators={}, layers=LAYERS[2:3])
    assert "(worst)" not in layer_losses(lossless)


def test_a_ready_made_model_has_no_layers_to_compare() -> None:
    said = layer_losses(Quantised(ready_made=True, calibrated_from=0, operators={}))
    assert said == "the model came quantised, so there is no float32 model to compare its layers with\n"


def test_the_ladder_has_a_row_for_each_step_that_was_made() -> None:
    columns, *rows, message = ladder(RECORDS).splitlines()
    assert columns.split()[:4] == ["right", "as", "first", "off"]
    assert [row.split(maxsplit=3) for row in rows] == [
        ["98.0%", "100.0%", "0", "float32 in ONNX Runtime"],
        ["94.0%", "95.0%", "0.16", "int8 in ONNX Runtime"],
        ["94.0%", "95.0%", "0.17", "int8 on the target"],
    ]
    assert message == "quantising changed 2 of 50 decisions"


def test_a_model_that_is_not_decoded_has_differences_alone() -> None:
    _, row = ladder([_measurement("ladder.target.difference", 0.5)]).splitlines()
    assert row.split(maxsplit=1) == ["0.5", "int8 on the target"]


def test_an_int8_cell_gets_both_tables(shelf: _Shelf, artifacts: dict[str, Artifact]) -> None:
    shelf.checked(artifacts["bundle"].key)
    said = accuracy(Cell.parse(CELL), store=shelf.store, artifacts=artifacts)
    assert layer_losses(QUANTISED) in said
    assert ladder(RECORDS) in said


def test_a_float32_cell_gets_none(shelf: _Shelf) -> None:
    assert accuracy(Cell.parse("armv7-small-float32"), store=shelf.store, artifacts={}) == ""


def test_what_is_missing_is_told_with_what_to_run(shelf: _Shelf, artifacts: dict[str, Artifact]) -> None:
    said = accuracy(Cell.parse(CELL), store=shelf.store, artifacts=artifacts)
    run = "./inv pipeline --targets armv7 --only armv7-small-int8"
    assert said.endswith(f"no accuracy ladder: this cell was never checked; run {run}\n")
    shelf.checked("0" * 64)
    said = accuracy(Cell.parse(CELL), store=shelf.store, artifacts=artifacts)
    assert said.endswith(f"no accuracy ladder: the last check of this cell was of another bundle; run {run}\n")
    del artifacts["quantize"]
    said = accuracy(Cell.parse(CELL), store=shelf.store, artifacts=artifacts)
    assert f"the loss of each layer is gone from the store; {run} --stages quantize measures it again\n" in said


def test_a_damaged_quantisation_is_an_error_that_says_what_to_run(
    shelf: _Shelf, artifacts: dict[str, Artifact]
) -> None:
    (damaged,) = artifacts["quantize"].files
    path = shelf.store.object_path(damaged.object)
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(StoreError, match="run the stage `quantize` again"):
        accuracy(Cell.parse(CELL), store=shelf.store, artifacts=artifacts)
