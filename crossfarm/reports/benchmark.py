"""The judged numbers of a run for github-action-benchmark, one file a direction: its custom form has no other way.

Only numbers that the verdicts of crossfarm.reports.regression look at are there, under the same terms: no time of an
emulated clock, nothing that is not finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from crossfarm.reports.regression.rules import rule_of
from crossfarm.reports.run_view import CellOutcome, Overview
from crossfarm.results import MeasurementRecord
from crossfarm.util.text import one_line


def render(seen: Overview) -> tuple[str, str]:
    """Return two documents: the numbers of which less is better, and those of which more is."""
    rows = [row for cell in seen.cells for row in _rows(cell)]
    smaller, bigger = ([entry for is_higher, entry in rows if is_higher == wanted] for wanted in (False, True))
    return f"{json.dumps(smaller, indent=1)}\n", f"{json.dumps(bigger, indent=1)}\n"


def _rows(cell: CellOutcome) -> Iterator[tuple[bool, dict[str, Any]]]:
    for name, found in cell.measurements.items():
        rule = rule_of(name)
        is_real = found.provenance.timing == "silicon"
        if rule is None or not math.isfinite(found.value) or (rule.silicon_only and not is_real):
            continue
        # What depends on the board is a series of its own for each: two boards of one type differ.
        where = f" on {one_line(found.provenance.board)}" if rule.silicon_only else ""
        entry: dict[str, Any] = {
            "name": f"{one_line(cell.id)} {one_line(name)}{where}",
            "unit": one_line(found.unit),
            "value": found.value,
        }
        if (spread := _deviation(found.samples)) is not None:
            entry["range"] = f"± {spread:.4g}"
        yield rule.is_better_higher, entry | {"extra": _extra(found)}


def _extra(found: MeasurementRecord) -> str:
    place = found.provenance
    compiler = f"TVM {place.tvm_version}" if place.tvm_version else None
    samples = f"{len(found.samples)} samples" if found.samples else None
    parts = (place.timing, place.cpu_model, place.governor, place.emulator, compiler, samples)
    return one_line(", ".join(filter(None, parts)))


def _deviation(samples: Sequence[float]) -> float | None:
    """Return the standard deviation; None for fewer than two, or where one is not finite."""
    if len(samples) < 2:
        return None
    mean = math.fsum(samples) / len(samples)
    found = math.sqrt(math.fsum((value - mean) ** 2 for value in samples) / (len(samples) - 1))
    return found if math.isfinite(found) else None
