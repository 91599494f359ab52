"""How often verdicts about latencies are wrong, as `./inv bench alarms` measured it last; stands in every page."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from crossfarm.util.text import count

FILE = Path(__file__).with_name("alarms.json")
"""`./inv bench alarms --arguments --write` writes it anew."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class Alarms:
    """What was measured.

    Attributes:
        kinds: of noise that were simulated.
        simulated_pairs: of one program, of each kind.
        worst_alarms: confirmed regressions among them, of the worst kind.
        slower_pairs: whose second program is 5 % slower, at a coefficient of variation of 2 %.
        found: how many of those were called a regression.
        real_model: whose program was started on a host again and again.
        real_pairs: of samples of that program.
        real_looked: how many of them looked like a regression before the confirmation.
        real_alarms: how many were confirmed.
        real_processors: of that host.
        real_load: how many processes wanted one meanwhile, on average; more than there are disturb the measurement.
    """

    kinds: int
    simulated_pairs: int
    worst_alarms: int
    slower_pairs: int
    found: int
    real_model: str
    real_pairs: int
    real_looked: int
    real_alarms: int
    real_processors: int
    real_load: float


@functools.cache
def read_alarms() -> Alarms:
    """Return what was measured."""
    return Alarms(**json.loads(FILE.read_text(encoding="utf-8")))


def in_words() -> str:
    """Return it in two sentences."""
    found = read_alarms()
    share, slower = found.worst_alarms / found.simulated_pairs, found.found / found.slower_pairs
    simulated, real = (count(number, "false alarm") for number in (found.worst_alarms, found.real_alarms))
    return (
        f"Verdicts about latencies, simulated: {simulated} in {found.simulated_pairs:,} pairs of one program "
        f"({share:.2%}, the worst of {found.kinds} kinds of noise); of programs that are 5 % slower {found.found:,} of "
        f"{found.slower_pairs:,} are found ({slower:.2%}). Measured: {real} in {found.real_pairs} pairs of "
        f"{found.real_model} on a host, of which {found.real_looked} looked slower before they were confirmed; it has "
        f"{found.real_processors} processors, and its load was {found.real_load:.1f}. ./inv bench alarms does both."
    )
