"""badge.json: the outcome of a run as an endpoint of shields.io, which makes a badge of it."""

from __future__ import annotations

import json
from typing import Any

from crossfarm.errors import StoreError
from crossfarm.reports.run_view import UNCHECKED, Overview
from crossfarm.util.text import count

LABEL = "crossfarm"
_GREEN, _RED, _ORANGE, _GREY = "brightgreen", "red", "orange", "lightgrey"


def render(seen: Overview) -> str:
    """Return the badge of a run."""
    counts = seen.counts
    wrong = counts["failed"] + counts["error"]
    if wrong:
        return _badge(f"{wrong} of {count(len(seen.cells), 'cell')} failed", _RED)
    if seen.failed_others:
        return _badge(f"{count(len(seen.failed_others), 'job')} failed", _RED)
    if not seen.is_complete:
        return _badge("incomplete", _ORANGE)
    if not counts["passed"]:
        return _badge("known failures only" if counts["known failure"] else UNCHECKED, _GREY)
    return _badge(f"{counts['passed']} of {count(len(seen.cells), 'cell')} passed", _GREEN)


def with_regressions(text: str, regressed: int) -> str:
    """Return the badge of a run that was compared with what was before.

    Args:
        text: as `render` gave it.
        regressed: how many rows of the comparison gate.

    Raises:
        StoreError: the text is no badge.
    """
    try:
        badge: dict[str, Any] = json.loads(text)
        message, colour = str(badge["message"]), str(badge["color"])
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError("badge.json is no badge of crossfarm; ./inv report writes it again") from error
    if not regressed:
        return _badge(message, colour)
    return _badge(f"{message.partition(', ')[0]}, {regressed} regressed", _RED)


def _badge(message: str, colour: str) -> str:
    badge = {"schemaVersion": 1, "label": LABEL, "message": message, "color": colour}
    return json.dumps(badge | ({"isError": True} if colour == _RED else {})) + "\n"
