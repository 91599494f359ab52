"""The ladder of an int8 cell: the accuracy after each step from float32 to the board, and which step lost some."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from crossfarm.config.decoding import Classify, CtcText, Detect
from crossfarm.results import CheckRecord, MeasurementRecord
from crossfarm.stages.check.comparison import OutputScale, compare
from crossfarm.stages.check.decoded import Decoded, answer
from crossfarm.stages.check.decoding import ctc_text
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.quantize.artifact import LayerError

Row = CheckRecord | MeasurementRecord

_WORST_LAYERS, _NAMED_LAYERS = 10, 3
"""Layers that the details and the message of a row name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rung:
    """The first output after one step.

    Attributes:
        name: in the names of measurements: float, quantised, compiled, target.
        words: what computed it.
        step: the step that led here, as something that loses accuracy; empty on the first rung.
        output: shape (cases, ...).
    """

    name: str
    words: str
    step: str
    output: Array


def ladder_records(
    rungs: Sequence[Rung],
    decoded: Decoded | None,
    *,
    yardstick: OutputScale,
    agreement: float | None,
    check: Callable[..., CheckRecord],
    measurement: Callable[[str, float, str], MeasurementRecord],
) -> Iterator[Row]:
    """Yield one row that tells every rung and where accuracy was lost, and the numbers of each.

    Args:
        rungs: from the float32 model, or for a ready-made one from the quantised model, to the board.
        decoded: what the scores mean; `output` and `expected` are not used. None for models that are not decoded.
        yardstick: what differences are a share of.
        agreement: least share of labelled cases (of all, without labels) that the quantised model must decide as the
            float32 model does; None when nothing gates that.
        check: makes a row of this cell.
        measurement: makes a number of this cell from name, value and unit.
    """
    cases = _counted_cases(decoded, len(rungs[0].output))
    decisions = [_decisions(rung.output[cases], decoded) for rung in rungs]
    right = [_right(rung.output, decoded, cases) for rung in rungs]
    lines, losses = [], []
    for number, rung in enumerate(rungs):
        difference = compare(rung.output, rungs[0].output, tolerance=1.0, yardstick=yardstick).relative
        equal = sum(map(_same, decisions[number], decisions[0]))
        yield measurement(f"ladder.{rung.name}.difference", difference, "scale")
        parts = [] if number == 0 else [f"furthest from {rungs[0].words}: {difference:.2g} of the scale"]
        if decoded is not None:
            yield measurement(f"ladder.{rung.name}.agreement", equal / len(cases), "share")
            parts += [] if number == 0 else [f"decides {equal} of {len(cases)} cases as that"]
        if right[number] is not None:
            yield measurement(f"ladder.{rung.name}.right", (right[number] or 0) / len(cases), "share")
            parts.insert(0, f"{right[number]} of {len(cases)} right")
        lines.append(f"{rung.words}: {', '.join(parts) or 'where the ladder begins'}")
        if number:
            losses.append(_loss(rung.step, decisions[number - 1 : number + 1], right[number - 1 : number + 1]))
    yield _row(rungs, decisions, losses, lines, agreement=agreement if decoded is not None else None, check=check)


def layer_records(layers: Sequence[LayerError], *, check: Callable[..., CheckRecord]) -> Iterator[Row]:
    """Yield a row that gates nothing and names the layers in which quantising lost most; none where none is known."""
    worst = sorted(layers, key=lambda layer: -layer.own)[:_WORST_LAYERS]
    if worst:
        yield check(
            name="accuracy.layers",
            status="informative",
            value=worst[0].own,
            unit="share",
            message=f"quantising loses most in {'; '.join(map(_layer, worst[:_NAMED_LAYERS]))}",
            details=tuple(map(_layer, worst)),
            operators=tuple(layer.name for layer in worst),
        )


def _layer(layer: LayerError) -> str:
    return f"{layer.name} ({layer.operator}): its result is {layer.error:.1%} off, what it reads {layer.before:.1%}"


def _row(
    rungs: Sequence[Rung],
    decisions: Sequence[Sequence[object]],
    losses: Sequence[str],
    lines: Sequence[str],
    *,
    agreement: float | None,
    check: Callable[..., CheckRecord],
) -> CheckRecord:
    told = [loss for loss in losses if loss]
    message = f"{'; '.join(told)}" if told else "no step lost or changed a decision"
    if agreement is None or rungs[0].name != "float":
        return check(
            name="accuracy.ladder", status="informative", cases=len(decisions[0]), message=message, details=tuple(lines)
        )
    equal, count = sum(map(_same, decisions[1], decisions[0])), len(decisions[0])
    share = equal / count
    return check(
        name="accuracy.ladder",
        status="passed" if share >= agreement else "failed",
        value=share,
        limit=agreement,
        unit="share",
        cases=count,
        message=f"{rungs[1].words} decides {equal} of {count} cases ({share:.2%}) as float32 (limit {agreement:.2%}); "
        f"{message}",
        details=tuple(lines),
    )


def _counted_cases(decoded: Decoded | None, count: int) -> list[int]:
    """Return the labelled cases; all when there is none: random inputs are nothing that a model was calibrated for."""
    cases = decoded.reference.cases if decoded is not None else ()
    return [number for number, case in enumerate(cases) if case.label is not None] or list(range(count))


def _decisions(output: Array, decoded: Decoded | None) -> list[object]:
    if decoded is None:
        return [None] * len(output)
    return [_decision(scores, decoded.decode, decoded.reference.characters or ()) for scores in output]


def _decision(scores: Array, decode: Classify | CtcText | Detect, characters: Sequence[str]) -> object:
    if isinstance(decode, CtcText):
        return ctc_text(scores, characters)
    if isinstance(decode, Detect):
        return tuple((np.reshape(scores, -1) > decode.threshold).tolist())
    return int(np.argmax(scores))


def _right(output: Array, decoded: Decoded | None, cases: Sequence[int]) -> int | None:
    if decoded is None or decoded.reference.cases[cases[0]].label is None:
        return None
    return sum(answer(decoded, output[number], number).is_right for number in cases)


def _same(left: object, right: object) -> bool:
    return left == right


def _loss(step: str, decisions: Sequence[Sequence[object]], right: Sequence[int | None]) -> str:
    """Say what a step did; empty when it changed no decision."""
    changed = len(decisions[0]) - sum(map(_same, *decisions))
    if not changed:
        return ""
    before, after = right
    if before is None or after is None:
        return f"{step} changed {changed} of {len(decisions[0])} decisions"
    words = "lost none" if after == before else f"lost {before - after}" if after < before else f"won {after - before}"
    return f"{step} changed {changed} of {len(decisions[0])} decisions and {words} of {before} right ones"
