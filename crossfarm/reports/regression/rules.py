"""Which numbers are judged, by how much each may change, and whether that gates."""

from __future__ import annotations

import dataclasses
import functools
from fnmatch import fnmatchcase
from typing import Literal

Method = Literal["samples", "exact", "noisy"]
"""`samples`: two sets of samples are compared. `exact`: the same bundle gives the same number again, so one old value
is enough. `noisy`: one value of a run, held against the median of the runs before."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """How numbers of a name are judged.

    Attributes:
        names: a glob over their names.
        method: see Method.
        is_better_higher: more of it is better.
        relative: a change up to this share of the old value is none.
        absolute: nor is one up to this, in the number's unit.
        gates: a regression of it is a failure.
        silicon_only: a clock that is emulated, simulated or estimated says nothing about it.
    """

    names: str
    method: Method
    is_better_higher: bool = False
    relative: float = 0.0
    absolute: float = 0.0
    gates: bool = True
    silicon_only: bool = False


_HALF_A_POINT = 0.005
RULES = (
    Rule(names="latency.p50", method="samples", relative=0.03, silicon_only=True),
    # Simulated cycles repeat exactly; a tenth of a percent is what alignment of data alone does.
    Rule(names="cycles.simulated", method="exact", relative=0.001),
    Rule(names="cycles.estimated", method="exact", relative=0.001, gates=False),
    # The answers of a bundle repeat exactly, so any change is one; half a point of many cases is let pass.
    Rule(names="accuracy.argmax", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="accuracy.decision", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="accuracy.top[15].*", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="accuracy.boxes", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="accuracy.rank", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="accuracy.map50.*", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="accuracy.rank1.*", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="text.*", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="ladder.*.right", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    Rule(names="ladder.*.agreement", method="exact", is_better_higher=True, absolute=_HALF_A_POINT),
    # Another order of additions moves a difference of rounding errors; a factor of two beyond float32's own is more.
    Rule(names="accuracy.max_abs_diff.*", method="exact", relative=1.0, absolute=1e-6),
    Rule(names="program", method="exact", relative=0.01, absolute=1024),
    Rule(names="weights", method="exact", relative=0.01, absolute=1024),
    Rule(names="arena", method="exact", relative=0.01, absolute=1024),
    Rule(names="workspace_peak", method="exact", relative=0.01, absolute=1024),
    # What follows depends on the machine and on what else it does.
    Rule(names="peak_rss", method="noisy", relative=0.1, absolute=256 * 1024, silicon_only=True),
    Rule(names="load_time", method="noisy", relative=0.5, absolute=5e6, gates=False, silicon_only=True),
    Rule(names="compile_time", method="noisy", relative=0.5, absolute=2.0, gates=False),
)
"""The first that fits counts; a number that none fits is not judged."""


@functools.lru_cache(maxsize=4096)
def rule_of(name: str) -> Rule | None:
    """Return the rule for a number; None when it is not judged."""
    return next((rule for rule in RULES if fnmatchcase(name, rule.names)), None)
