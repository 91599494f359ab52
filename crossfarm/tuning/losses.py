"""What int8 costs a cell in accuracy: the layers that lost it, and what is left after each step to the board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from crossfarm.config.cell import Cell
from crossfarm.errors import StoreError
from crossfarm.results import CheckRecord, MeasurementRecord, Record, from_json
from crossfarm.stages.check.stage import RECORDS
from crossfarm.stages.quantize.artifact import FILE_NAME, LayerError, Quantised
from crossfarm.store.store import Artifact, Store

_MARKED = 3
"""The worst layers are marked, as many as summary.md names."""
_STEPS = {
    "float": "float32 in ONNX Runtime",
    "quantised": "int8 in ONNX Runtime",
    "compiled": "int8 compiled, on this host",
    "target": "int8 on the target",
}
"""Rung in the names of measurements -> what computed the output, in the order of the ladder."""


def accuracy(cell: Cell, *, store: Store, artifacts: Mapping[str, Artifact]) -> str:
    """Return as lines what int8 cost a cell; empty for a cell of another variant.

    What the store does not hold is not made; the lines say what to run.

    Args:
        cell: the cell.
        store: with the cell's artifacts.
        artifacts: the cell's, by stage: `bundle`, and `quantize` where it is there.

    Raises:
        StoreError: an artifact is damaged.
    """
    if cell.variant != "int8":
        return ""
    again = f"./inv pipeline --targets {cell.target} --only {cell.id}"
    quantised = artifacts.get("quantize")
    if quantised is None:
        layers = f"the loss of each layer is gone from the store; {again} --stages quantize measures it again\n"
    else:
        layers = layer_losses(_quantisation(store, quantised))
    last = store.last_artifact(f"check:{cell.id}")
    if last is None:
        return f"\n{layers}\nno accuracy ladder: this cell was never checked; run {again}\n"
    if last.document.get("inputs", {}).get("bundle") != artifacts["bundle"].key:
        return f"\n{layers}\nno accuracy ladder: the last check of this cell was of another bundle; run {again}\n"
    lines = store.file_path(last, RECORDS).read_bytes().splitlines()
    return f"\n{layers}\n{ladder([from_json(line) for line in lines])}"


def _quantisation(store: Store, artifact: Artifact) -> Quantised:
    try:
        return Quantised.model_validate_json(store.file_path(artifact, FILE_NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(f"{FILE_NAME} is damaged: {error}; run the stage `quantize` again") from error


def layer_losses(quantised: Quantised) -> str:
    """Return a table of the layers that take quantised tensors as lines, by the names of the model, the worst first."""
    if quantised.ready_made:
        return "the model came quantised, so there is no float32 model to compare its layers with\n"
    if not quantised.layers:
        return "no layer takes quantised tensors\n"
    layers = sorted(quantised.layers, key=lambda layer: -layer.own)
    rows = [("added", "result", "read", "operator", "layer"), *map(_cells, layers)]
    lines = ["what quantising lost, the worst layer first: how far a result is from float32, as a share of its length"]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for number, (*numbers, operator, name) in enumerate(rows):
        mark = "  (worst)" if 0 < number <= _MARKED and layers[number - 1].own > 0 else ""
        lines.append("  ".join([*map(str.rjust, numbers, widths), operator.ljust(widths[3]), name + mark]))
    return "\n".join(lines) + "\n"


def _cells(layer: LayerError) -> Sequence[str]:
    return f"{layer.own:.2%}", f"{layer.error:.2%}", f"{layer.before:.2%}", layer.operator, layer.name


def ladder(records: Iterable[Record]) -> str:
    """Return the accuracy ladder of a cell as lines: a row for each step, and which step lost some.

    Args:
        records: of the stage `check`.
    """
    records = list(records)
    found = {record.name: record.value for record in records if isinstance(record, MeasurementRecord)}
    rows = [("right", "as first", "off", "accuracy after each step, by the last check")]
    for rung, words in _STEPS.items():
        if (difference := found.get(f"ladder.{rung}.difference")) is not None:
            right, same = found.get(f"ladder.{rung}.right"), found.get(f"ladder.{rung}.agreement")
            rows.append((_share(right), _share(same), f"{difference:.2g}", words))
    if len(rows) == 1:
        return "no accuracy ladder: the last check of this cell has none\n"
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*map(str.rjust, numbers, widths), words]) for *numbers, words in rows]
    lines += [
        record.message
        for record in records
        if isinstance(record, CheckRecord) and record.name == "accuracy.ladder" and record.message
    ]
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
