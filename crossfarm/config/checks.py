"""What must hold for the outputs of a model: `checks` in models.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from crossfarm.config.base import Declared, Integer, Number, Share, TensorName, refuse_repeated
from crossfarm.config.budgets import Budgets

Positive = Annotated[Number, Field(gt=0.0)]


class OutputCheck(Declared):
    """How one output is compared, where it is not as all others are."""

    name: TensorName
    """Of the output."""
    tolerance: Annotated[Number, Field(ge=0.0, le=1.0)] | None = None
    """In place of the `tolerance` of all outputs; integers and booleans are compared exactly without it."""
    scale: Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """Of what the tolerance is a share: one number for all channels, or one for each; seen in the reference else."""
    axis: Annotated[Integer, Field(ge=-8, le=7)] | None = None
    """Along which the channels stand, counted from 0, or from the last one backwards with -1; the last one else."""


def _different_names(outputs: tuple[OutputCheck, ...]) -> tuple[OutputCheck, ...]:
    refuse_repeated("names of outputs", (output.name for output in outputs))
    return outputs


OutputChecks = Annotated[tuple[OutputCheck, ...], AfterValidator(_different_names)]


class Checks(Budgets):
    """What must hold. Shares are of the cases of a data set."""

    tolerance: Annotated[Number, Field(gt=0.0, le=1.0)] = 1e-4
    """Largest |target - reference| in a channel of an output, as a share of the channel's scale (its largest
    |reference|)."""
    outputs: OutputChecks = ()
    """Outputs that are compared otherwise."""
    argmax: Share = 1.0
    """Share of cases whose argmax equals the reference's, for models that are decoded."""
    top1: Share | None = None
    """Share of labelled cases that must be right."""
    top5: Share | None = None
    """Share of labelled cases whose class must be among the best five."""
    text: Share | None = None
    """Share of texts that must be read exactly."""
    map50: Share | None = None
    """Least mean precision of labelled boxes, matched at an intersection over union of 0.5."""
    iou: Share = 0.99
    """Least intersection over union of a mask and the reference's."""
    cosine: Share = 0.9999
    """Least cosine of a vector and the reference's, for embeddings."""
    rank1: Share | None = None
    """Share of labelled cases whose nearest other case must have their label, for embeddings."""


def inherited(outputs: Sequence[OutputCheck], given: Sequence[OutputCheck]) -> tuple[OutputCheck, ...]:
    """Return how outputs are compared for int8: as `given`; what that leaves open of scale and axis as in `outputs`.

    A scale and an axis describe an output, whatever computed it; a tolerance does not.
    """
    found = {output.name: output.model_copy(update={"tolerance": None}) for output in outputs}
    for output in given:
        before = found.get(output.name, output)
        found[output.name] = output.model_copy(
            update={
                "scale": before.scale if output.scale is None else output.scale,
                "axis": before.axis if output.axis is None else output.axis,
            }
        )
    return tuple(found.values())
