"""What sits at the other end of a stream: a terminal that can be drawn on, one that shows colours, and how large it is.

NO_COLOR (no-color.org) takes colours away from everything; FORCE_COLOR (force-color.org) brings them where nobody sits,
as in the log of a CI server that shows them; TERM=dumb takes both colours and drawing away.
"""

from __future__ import annotations

import os
import sys
from typing import IO

from crossfarm.util.text import write

_USUAL = os.terminal_size((80, 24))
_DUMB = ("dumb", "unknown")


def is_interactive(stream: IO[str]) -> bool:
    """Say whether somebody watches who can be shown what changes: a terminal that is not dumb, and no CI."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and not in_ci and os.environ.get("TERM") not in _DUMB


def has_colour(stream: IO[str]) -> bool:
    """Say whether colours may be written; NO_COLOR outweighs FORCE_COLOR, and that one all else."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_interactive(stream)


def size_of(stream: IO[str]) -> os.terminal_size | None:
    """Return columns and rows of the terminal; None when the stream is none, 80 by 24 when it does not say."""
    try:
        if not stream.isatty():
            return None
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # it was closed, or has no file
        return _USUAL
    return os.terminal_size((size.columns or _USUAL.columns, size.lines or _USUAL.lines))


def say(text: str, *, is_clean: bool = False) -> None:
    """Write to the standard output, cleaned; a reader that has gone (`| head`) does not stop a run.

    Args:
        text: whole lines.
        is_clean: it is a report, which was cleaned before it got its colours.
    """
    try:
        write(sys.stdout, text, is_clean=is_clean)
        sys.stdout.flush()
    except OSError:
        silence()


def silence() -> None:
    """Let the standard output lead nowhere, because its reader has gone.

    What is still buffered would be written, and fail again, when the interpreter ends.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
