"""Cells: what one model is made into for one target."""

from __future__ import annotations

import dataclasses
import functools


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """model x target x variant. The id is flat and safe as a file name: `aarch64-efficientnet_lite0-float32`."""

    model: str
    target: str
    variant: str

    @functools.cached_property  # a plan asks for it many times for each cell
    def id(self) -> str:
        """Return the cell's id."""
        return f"{self.target}-{self.model}-{self.variant}"
