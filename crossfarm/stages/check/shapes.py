"""Rows about boxes, masks and embeddings: how they agree with the reference's, and with the labels."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from crossfarm.config.checks import Checks
from crossfarm.config.decoding import Boxes, Embeddings, Masks
from crossfarm.errors import ConfigError
from crossfarm.results import CheckRecord, MeasurementRecord
from crossfarm.stages.check.boxes import Found, are_same, average_precision, found_boxes
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.reference.artifact import Reference

Row = CheckRecord | MeasurementRecord
_MOST_DETAILS = 200

_PRECISION, _RANK = "accuracy.map50", "accuracy.rank1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapes:
    """The outputs of a model on all cases.

    Attributes:
        model: its name, for messages.
        pairs: output -> that of the board and of the reference, shape (cases, ...); the first one is the model's first.
        reference: its cases and inputs.
        decode: what the outputs mean.
        checks: what must hold.
    """

    model: str
    pairs: Mapping[str, tuple[Array, Array]]
    reference: Reference
    decode: Boxes | Masks | Embeddings
    checks: Checks

    @property
    def counted(self) -> list[int]:
        """Return the cases of real data; all where there is none, as noise has neither things nor shapes."""
        cases = self.reference.cases
        return [number for number, case in enumerate(cases) if case.kind == "data"] or list(range(len(cases)))

    @property
    def first(self) -> tuple[Array, Array]:
        """Return the first output of the board and of the reference."""
        return next(iter(self.pairs.values()))


def shape_records(
    shapes: Shapes,
    *,
    check: Callable[..., CheckRecord],
    measurement: Callable[[str, float, str], MeasurementRecord],
) -> Iterator[Row]:
    """Yield the rows that the kind of the model has, each with its number.

    Args:
        shapes: the outputs.
        check: makes a row of this cell.
        measurement: makes a number of this cell from name, value and unit.

    Raises:
        ConfigError: `decode` is about other outputs than the model has.
    """
    match shapes.decode:
        case Boxes() as boxes:
            rows = _box_rows(shapes, boxes)
        case Masks() as masks:
            rows = iter([_mask_row(shapes, masks.threshold)])
        case Embeddings():
            rows = _embedding_rows(shapes)
    for row in rows:
        yield check(**row.fields())
        yield measurement(row.name, row.value, "share")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    """One share.

    Attributes:
        name: of the check.
        value: the share.
        limit: least that holds; None where nothing gates.
        message: what was found.
        cases: of how many it is.
        details: a line for each case that is to be told.
    """

    name: str
    value: float
    limit: float | None
    message: str
    cases: int
    details: Sequence[str] = ()

    def fields(self) -> dict[str, object]:
        """Return what a CheckRecord is made of."""
        status = "informative" if self.limit is None else "passed" if self.value >= self.limit else "failed"
        gate = "gates nothing" if self.limit is None else f"limit {self.limit:.6g}"
        return {
            "name": self.name,
            "status": status,
            "value": self.value,
            "limit": self.limit,
            "unit": "share",
            "message": f"{self.message} ({gate})",
            "cases": self.cases,
            "details": tuple(self.details[:_MOST_DETAILS]),
        }


def _box_rows(shapes: Shapes, decode: Boxes) -> Iterator[_Row]:
    found, expected = (_all_boxes(shapes, decode, place) for place in (0, 1))
    cases, counted = shapes.reference.cases, shapes.counted
    same = [are_same(found[number], expected[number]) for number in counted]
    boxes = sum(len(expected[number]) for number in counted)
    yield _Row(
        name="accuracy.boxes",
        value=sum(same) / len(same),
        limit=shapes.checks.argmax,
        message=f"{sum(same)} of {len(same)} cases have the reference's {boxes} boxes, no edge further than a pixel",
        cases=len(same),
        details=[
            f"{cases[number].name}: {_shown(found[number])}; the reference has {_shown(expected[number])}"
            for number, is_same in zip(counted, same, strict=True)
            if not is_same
        ],
    )
    for dataset, numbers in _labelled(shapes, lambda number: cases[number].boxes is not None).items():
        labels = [cases[number].boxes or () for number in numbers]
        ours, theirs = (average_precision([boxes[number] for number in numbers], labels) for boxes in (found, expected))
        yield _Row(
            name=f"{_PRECISION}.{dataset}",
            value=ours,
            limit=shapes.checks.map50,
            message=f"mean precision {ours:.4f} over {sum(map(len, labels))} labelled boxes in {len(numbers)} cases, "
            f"matched at an intersection over union of 0.5; the reference has {theirs:.4f}",
            cases=len(numbers),
            details=[
                f"{cases[number].name}: {_shown(found[number])}; labelled {len(label)}"
                for number, label in zip(numbers, labels, strict=True)
            ],
        )


def _all_boxes(shapes: Shapes, decode: Boxes, place: int) -> list[list[Found]]:
    """Return the boxes of each case, of the board (0) or of the reference (1)."""
    height, width = _input_size(shapes)
    try:
        return [
            found_boxes(
                {name: pair[place][number] for name, pair in shapes.pairs.items()}, decode, height=height, width=width
            )
            for number in range(len(shapes.reference.cases))
        ]
    except ValueError as error:
        raise ConfigError(f"model {shapes.model}: decode: {error}; correct it") from None


def _input_size(shapes: Shapes) -> tuple[int, int]:
    """Return height and width of the first input: the two axes of three behind the batch that are no channels."""
    shape = shapes.reference.inputs[0].shape if shapes.reference.inputs else ()
    if len(shape) != 4:
        raise ConfigError(f"model {shapes.model}: decode of kind boxes needs images; its input is {list(shape)}")
    return (shape[2], shape[3]) if shape[1] in (1, 3) else (shape[1], shape[2])


def _shown(found: Sequence[Found]) -> str:
    shown = ", ".join(f"[{', '.join(f'{edge:.1f}' for edge in item.box)}] {item.score:.3f}" for item in found[:5])
    return f"{len(found)} boxes {shown}" if found else "none"


def _mask_row(shapes: Shapes, threshold: float) -> _Row:
    output, expected = (values.reshape(len(values), -1) > threshold for values in shapes.first)
    shares = {number: _share(output[number], expected[number]) for number in shapes.counted}
    worst = min(shares, key=lambda number: shares[number])
    covered = float(np.mean(expected[list(shares)]))
    return _Row(
        name="accuracy.masks",
        value=shares[worst],
        limit=shapes.checks.iou,
        message=f"least intersection over union with the reference's mask {shares[worst]:.6f}, in case "
        f"{shapes.reference.cases[worst].name}; the masks cover {covered:.1%} of {len(shares)} cases",
        cases=len(shares),
    )


def _share(one: Array, other: Array) -> float:
    """Return the intersection over union of two masks; 1 where both are empty."""
    whole = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / whole if whole else 1.0


def _embedding_rows(shapes: Shapes) -> Iterator[_Row]:
    output, expected = (_directions(values) for values in shapes.first)
    cases = shapes.reference.cases
    cosines = np.nan_to_num(np.sum(output * expected, axis=1), nan=-1.0)
    worst = int(np.argmin(cosines))
    yield _Row(
        name="accuracy.embeddings",
        value=float(min(cosines[worst], 1.0)),
        limit=shapes.checks.cosine,
        message=f"least cosine with the reference's vector {cosines[worst]:.8f}, in case {cases[worst].name}",
        cases=len(cases),
    )
    counted = shapes.counted
    if len(counted) > 2:
        same = [_nearest(output, number, counted) == _nearest(expected, number, counted) for number in counted]
        yield _Row(
            name="accuracy.rank",
            value=sum(same) / len(same),
            limit=shapes.checks.argmax,
            message=f"{sum(same)} of {len(same)} cases have the same nearest case as in the reference",
            cases=len(same),
            details=[
                f"{cases[number].name}: nearest is {cases[_nearest(output, number, counted)].name}"
                for number in counted
            ],
        )
    for dataset, labelled in _labelled(shapes, lambda number: cases[number].label is not None).items():
        counts = collections.Counter(cases[number].label for number in labelled)
        numbers = [number for number in labelled if counts[cases[number].label] > 1]
        if len(counts) > 1 and numbers:
            ours, theirs = (
                sum(cases[_nearest(vectors, number, labelled)].label == cases[number].label for number in numbers)
                for vectors in (output, expected)
            )
            yield _Row(
                name=f"{_RANK}.{dataset}",
                value=ours / len(numbers),
                limit=shapes.checks.rank1,
                message=f"{ours} of {len(numbers)} cases have a nearest case of their own label; the reference has "
                f"{theirs}",
                cases=len(numbers),
            )


def _directions(values: Array) -> Array:
    """Return the vectors with length 1, shape (cases, numbers); one of zeros stays so."""
    vectors = values.reshape(len(values), -1).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))


def _nearest(vectors: Array, number: int, among: Sequence[int]) -> int:
    """Return which other case has the largest cosine with case `number`; of equal ones the first."""
    others = [other for other in among if other != number]
    return others[int(np.argmax(vectors[others] @ vectors[number]))]


def _labelled(shapes: Shapes, has_label: Callable[[int], bool]) -> dict[str, list[int]]:
    """Return data set -> its labelled cases."""
    found: dict[str, list[int]] = {}
    for number, case in enumerate(shapes.reference.cases):
        if case.dataset is not None and has_label(number):
            found.setdefault(case.dataset, []).append(number)
    return found
