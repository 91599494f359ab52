"""How the variant `int8` of a model is made from float32, and what must hold for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossfarm.config.base import Declared, Integer, Name, Number, Share
from crossfarm.config.checks import OutputChecks


class QuantisedChecks(Declared):
    """What must hold for int8. The reference is the quantised model in ONNX Runtime."""

    tolerance: Annotated[Number, Field(gt=0.0, le=1.0)] = 0.05
    """Largest |target - reference| in a channel of an output, as a share of the channel's scale (its largest
    |reference|)."""
    outputs: OutputChecks = ()
    """Outputs that are compared otherwise; a scale or an axis that is left out is that of the model's checks."""
    argmax: Share = 1.0
    """Share of cases whose argmax equals the reference's, for models that are decoded."""
    agreement: Share = 0.9
    """Share of cases that the reference must decide as the float32 model does."""
    top1: Share | None = None
    """Share of labelled cases that must be right."""
    top5: Share | None = None
    """Share of labelled cases whose class must be among the best five."""
    text: Share | None = None
    """Share of texts that must be read exactly."""


class Quantisation(Declared):
    """How int8 is made from float32: static, from inputs of real data."""

    calibration: Annotated[Integer, Field(ge=1, le=4096)] = 128
    """Inputs from which ranges are taken, spread evenly over `data`; all of them where there are fewer."""
    data: tuple[Name, ...] = ()
    """Names of the data sets that these inputs come from; without them those of the model, on which it is tried too."""
    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    """How a range follows from what was seen."""
    scales: Literal["float", "power_of_two"] = "float"
    """`power_of_two`: all scales are 2**k and all zero points 0, as accelerators with shifters want it."""
    checks: QuantisedChecks = QuantisedChecks()
    """What must hold for int8, in place of the model's checks."""
