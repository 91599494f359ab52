"""What the scores mean: classes, texts and decisions of a model, held against the reference and against the labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from crossfarm.config.checks import Checks
from crossfarm.config.decoding import Classify, CtcText, Detect
from crossfarm.results import CheckRecord, MeasurementRecord
from crossfarm.stages.check.comparison import argmax_agrees
from crossfarm.stages.check.decoding import class_name, ctc_text, decisions, top_classes
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.reference.artifact import Case, Reference

Row = CheckRecord | MeasurementRecord

MOST_DETAILS = 200
"""Lines that a row shows at most; wrong answers come first when there are more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
    """The first output of a model on all cases.

    Attributes:
        output: of the board, shape (cases, ...).
        expected: of the reference, the same shape.
        reference: its cases and names.
        decode: what the scores are.
        checks: what must hold.
        labelled_only: decisions count on labelled cases alone, where there are any: noise may lie between two classes,
            and 8 bits then decide either way.
    """

    output: Array
    expected: Array
    reference: Reference
    decode: Classify | CtcText | Detect
    checks: Checks
    labelled_only: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedAnswer:
    """What a model said to one labelled case.

    Attributes:
        is_right: the best answer is the label.
        is_near: the label is among the five best.
        line: the answer in words.
    """

    is_right: bool
    is_near: bool
    line: str


def decoded_records(
    decoded: Decoded,
    *,
    check: Callable[..., CheckRecord],
    measurement: Callable[[str, float, str], MeasurementRecord],
) -> Iterator[Row]:
    """Yield whether board and reference decide alike, then for each data set how many labelled cases are right.

    Args:
        decoded: the scores.
        check: makes a row of this cell.
        measurement: makes a number of this cell from name, value and unit.
    """
    yield from _agreement(decoded, check=check, measurement=measurement)
    datasets = dict.fromkeys(case.dataset for case in decoded.reference.cases if case.label is not None)
    for dataset in datasets:
        labelled = [
            number
            for number, case in enumerate(decoded.reference.cases)
            if case.dataset == dataset and case.label is not None
        ]
        found = [answer(decoded, decoded.output[number], number) for number in labelled]
        expected = [answer(decoded, decoded.expected[number], number) for number in labelled]
        note = _note(decoded, labelled)
        for name, limit, is_good in _questions(decoded):
            right, reference_right = sum(map(is_good, found)), sum(map(is_good, expected))
            share = right / len(found)
            yield check(
                name=f"{name}.{dataset}",
                status="informative" if limit is None else "passed" if share >= limit else "failed",
                value=share,
                limit=limit,
                unit="share",
                message=_share_message(right, len(found), reference_right, limit) + (f"; {note}" if note else ""),
                note=note,
                cases=len(found),
                details=_details(found) if name in ("accuracy.top1", "text") else (),
            )
            yield measurement(f"{name}.{dataset}", share, "share")


def _note(decoded: Decoded, labelled: Sequence[int]) -> str | None:
    """Say that a data set holds one class, where it does: a model that always answers with it is right everywhere."""
    classes = {decoded.reference.cases[number].label for number in labelled}
    return "one class only" if len(classes) == 1 and not isinstance(decoded.decode, CtcText) else None


def _questions(decoded: Decoded) -> list[tuple[str, float | None, Callable[[DecodedAnswer], bool]]]:
    """Return name, limit and the meaning of good for each row that a data set gets."""
    if isinstance(decoded.decode, CtcText):
        return [("text", decoded.checks.text, lambda answer: answer.is_right)]
    rows: list[tuple[str, float | None, Callable[[DecodedAnswer], bool]]] = [
        ("accuracy.top1", decoded.checks.top1, lambda answer: answer.is_right)
    ]
    if isinstance(decoded.decode, Classify) and decoded.output[0].size > 5:
        rows.append(("accuracy.top5", decoded.checks.top5, lambda answer: answer.is_near))
    return rows


def _agreement(
    decoded: Decoded,
    *,
    check: Callable[..., CheckRecord],
    measurement: Callable[[str, float, str], MeasurementRecord],
) -> Iterator[Row]:
    """Yield the share of cases in which the board decides as the reference does."""
    if isinstance(decoded.decode, Detect):
        name, what = "accuracy.decision", "decisions"
        threshold = decoded.decode.threshold
        finite = np.isfinite(decoded.output.astype(np.float64))
        same = ((decoded.output > threshold) == (decoded.expected > threshold)) & finite
        agrees = same.reshape(len(same), -1).all(axis=1)
    else:
        name, what = "accuracy.argmax", "argmax"
        agrees = argmax_agrees(decoded.output, decoded.expected)
    counted = _counted(decoded)
    equal, count, limit = int(np.count_nonzero(agrees[counted])), int(np.count_nonzero(counted)), decoded.checks.argmax
    share = equal / count
    kind = "cases" if counted.all() else "labelled cases"
    yield check(
        name=name,
        status="passed" if share >= limit else "failed",
        value=share,
        limit=limit,
        unit="share",
        cases=count,
        message=f"{what} equal to the reference's in {equal} of {count} {kind} ({share:.2%}, limit {limit:.2%})",
        details=tuple(
            f"{decoded.reference.cases[number].name} differs{'' if counted[number] else ', which is not counted'}"
            for number in np.flatnonzero(~agrees)[:MOST_DETAILS]
        ),
    )
    yield measurement(name, share, "share")


def _counted(decoded: Decoded) -> Array:
    """Return of each case whether its decision counts, bool of shape (cases,)."""
    labelled = np.array([case.label is not None for case in decoded.reference.cases])
    return labelled if decoded.labelled_only and labelled.any() else np.ones(len(labelled), bool)


def answer(decoded: Decoded, scores: Array, number: int) -> DecodedAnswer:
    """Put the scores of a labelled case into words."""
    case = decoded.reference.cases[number]
    match decoded.decode:
        case CtcText():
            return _text_answer(scores, case, decoded.reference.characters or ())
        case Detect(threshold=threshold):
            decision = decisions(scores, threshold)[0]
            is_right = decision == case.label
            line = f"{case.name}: {decision} ({float(np.reshape(scores, -1)[0]):.3f})"
            return DecodedAnswer(is_right=is_right, is_near=is_right, line=_marked(line, is_right, str(case.label)))
        case Classify() as decode:
            return _class_answer(scores, case, decode, decoded.reference.classes)


def _text_answer(scores: Array, case: Case, characters: Sequence[str]) -> DecodedAnswer:
    text = ctc_text(scores, characters)
    is_right = text == case.label
    return DecodedAnswer(
        is_right=is_right, is_near=is_right, line=_marked(f"{case.name}: {text!r}", is_right, repr(case.label))
    )


def _class_answer(scores: Array, case: Case, decode: Classify, names: Sequence[str] | None) -> DecodedAnswer:
    label = case.label
    if decode.labels is not None and isinstance(label, int):
        label = decode.labels[label] if 0 <= label < len(decode.labels) else None
    best = top_classes(scores, max(decode.top, 5))
    flat = np.reshape(scores, -1)
    shown = ", ".join(f"{class_name(index, names)} {float(flat[index]):.4g}" for index in best[: decode.top])
    wanted = class_name(label, names) if isinstance(label, int) else repr(label)
    is_right = best[0] == label
    return DecodedAnswer(
        is_right=is_right,
        is_near=label in best[:5],
        line=_marked(f"{case.name}: {shown}", is_right, wanted),
    )


def _marked(line: str, is_right: bool, wanted: str) -> str:
    return f"{line} - right" if is_right else f"{line} - WRONG, it is {wanted}"


def _share_message(right: int, count: int, reference_right: int, limit: float | None) -> str:
    gate = "gates nothing" if limit is None else f"limit {limit:.2%}"
    return f"{right} of {count} right ({right / count:.2%}, {gate}); the reference has {reference_right}"


def _details(answers: Sequence[DecodedAnswer]) -> tuple[str, ...]:
    """Return a line per answer; when there are too many, the wrong ones first, and how many are left out."""
    if len(answers) <= MOST_DETAILS:
        return tuple(answer.line for answer in answers)
    ordered = sorted(answers, key=lambda answer: answer.is_right)
    shown = tuple(answer.line for answer in ordered[:MOST_DETAILS])
    return (*shown, f"{len(answers) - MOST_DETAILS} more are not shown; the wrong ones stand first")
