"""What bundles of the backend ethos_u hold, and the Python environment of the tools that make and run them."""

from __future__ import annotations

from crossfarm.bundles.accelerator import AcceleratorReport
from crossfarm.util.environments import ToolEnvironment

ENVIRONMENT = ToolEnvironment(name="ethos_u")
"""Holds Vela and LiteRT."""
ORIGINAL = "original.tflite"
"""The model as it came, and as the stage `prepare` keeps it."""
COMPILED = "vela.tflite"
"""What Vela made of it."""
CLOCK = "clock"
"""Name of the quantity in accelerator.json by which cycles become time, in MHz."""


def megahertz_of(report: AcceleratorReport) -> int:
    """Return the clock by which cycles become time."""
    return int(next(item.value for item in report.quantities if item.name == CLOCK))
