"""Cells: what one model is made into for one target."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Self

from crossfarm.errors import ConfigError

_ID = re.compile(r"([a-z0-9][a-z0-9_]*)-([a-z0-9][a-z0-9_]*)-([a-z0-9][a-z0-9_]*)")
"""Three names as in crossfarm/config/base.py, which hold no '-'."""
_SHOWN = 80


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

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cell that has this id; whether anything declares it is not looked at.

        Raises:
            ConfigError: it is no id of a cell.
        """
        found = _ID.fullmatch(text)
        if found is None:
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            raise ConfigError(
                f"{shown!r} is not the id of a cell; give TARGET-MODEL-VARIANT, like armv7-mnist_cnn-float32; "
                "./inv plan lists all cells"
            )
        return cls(target=found[1], model=found[2], variant=found[3])
