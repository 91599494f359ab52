"""What a search found, as a table for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from crossfarm.tuning.records import TakenChoices


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A layer behind its search.

    Attributes:
        layer: its key.
        tried: kinds of the variants that were measured, the rule's own with them.
        wrong: variants that gave wrong outputs or could not be built.
        before: nanoseconds in a run of the untuned model.
        after: nanoseconds with the variant that was taken.
        share: of the untuned model's time.
    """

    layer: str
    tried: tuple[str, ...]
    wrong: int
    before: float
    after: float
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TunedCell:
    """A cell behind its search.

    Attributes:
        cell: its id.
        rows: the slowest layer first.
        taken: what went into the records.
        is_better: the tuned model was taken.
        seconds: that the search took.
        is_emulated: times were an emulator's.
    """

    cell: str
    rows: tuple[LayerRow, ...]
    taken: TakenChoices
    is_better: bool
    seconds: float
    is_emulated: bool


def table(outcome: TunedCell) -> str:
    """Return the table as lines, and what was decided."""
    rows = [("tried", "before ms", "after ms", "share", "layer")]
    rows += [
        (str(len(row.tried)), f"{row.before / 1e6:.3f}", f"{row.after / 1e6:.3f}", f"{row.share:.1%}", row.layer)
        for row in outcome.rows
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [outcome.cell]
    for *numbers, layer in rows:
        lines.append("  ".join([*map(str.rjust, numbers, widths), layer]))
    lines.append(_kinds(outcome))
    wrong = sum(row.wrong for row in outcome.rows)
    if wrong:
        lines.append(f"{wrong} variants gave wrong outputs or could not be built, and were not timed")
    lines.append(_verdict(outcome))
    if outcome.is_emulated:
        lines.append("not measured on silicon")
    return "\n".join(lines) + "\n"


def kind_of(choice: Mapping[str, Any]) -> str:
    """Return how a layer is computed by a choice, given as plain JSON values."""
    if "tile" in choice:
        return "Winograd"
    if choice.get("depth_block"):
        return "NCHWc"
    return "im2col" if choice.get("gathered_rows") else "direct"


def _kinds(outcome: TunedCell) -> str:
    tried = [kind for row in outcome.rows for kind in row.tried]
    counts = {kind: tried.count(kind) for kind in ("direct", "NCHWc", "im2col", "Winograd")}
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"variants tried: {said or 'none'}"


def _verdict(outcome: TunedCell) -> str:
    taken = outcome.taken
    low, high = taken.interval
    what = f"{taken.runs} runs in {outcome.seconds:.0f} s"
    if not taken.pairs:
        return f"nothing is faster than the rules' choices; {what}"
    said = f"tuned / untuned {taken.ratio:.3f} ({low:.3f} to {high:.3f} with 95 % confidence, {taken.pairs} pairs)"
    return f"{said}: {'taken' if outcome.is_better else 'not taken'}; {what}"
