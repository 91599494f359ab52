"""Budgets: the most time, memory and cycles that a cell may take, for every target or for each."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from crossfarm.config.base import Count, Declared, Name, Number

_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|KiB|MiB|GiB)")
_FACTORS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes(value: Any) -> Any:
    """Return bytes of `300 KiB`; what is no such text is left to what judges integers."""
    found = _BYTES.fullmatch(value) if isinstance(value, str) else None
    return int(float(found[1]) * _FACTORS[found[2]]) if found else value


Milliseconds = Annotated[Number, Field(gt=0.0)]
Memory = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(strict=True, ge=1, le=2**62, description="a size such as `300 KiB` or `1.5 MiB`, or a number of bytes"),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{_BYTES.pattern}$"}]}
    ),
]


class Budgets(Declared):
    """Limits; each is given once, or by target. What is not given limits nothing."""

    latency_p50: Milliseconds | dict[Name, Milliseconds] | None = None
    """Milliseconds that half of all runs may take; gates on silicon alone."""
    latency_p90: Milliseconds | dict[Name, Milliseconds] | None = None
    """Milliseconds that nine of ten runs may take; gates on silicon alone."""
    load_time: Milliseconds | dict[Name, Milliseconds] | None = None
    """Milliseconds until the model can run; gates on silicon alone."""
    peak_rss: Memory | dict[Name, Memory] | None = None
    """Memory that the program may hold at once; gates on silicon alone."""
    arena: Memory | dict[Name, Memory] | None = None
    """Size of the block that holds all tensors of a run."""
    weights: Memory | dict[Name, Memory] | None = None
    """Size of the weights."""
    program: Memory | dict[Name, Memory] | None = None
    """Size of the program file."""
    cycles: Count | dict[Name, Count] | None = None
    """Cycles that a run on an accelerator may take, as simulated or estimated."""

    def of_target(self, target: str) -> dict[str, float]:
        """Return key -> limit for a target, in the units above; memory in bytes."""
        found: dict[str, float] = {}
        if self.model_fields_set.isdisjoint(_names()):
            return found
        for key in _names():
            limit = getattr(self, key)
            limit = limit.get(target) if isinstance(limit, Mapping) else limit
            if limit is not None:
                found[key] = limit
        return found


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(Budgets.model_fields)
