"""What git is asked about a work tree."""

from __future__ import annotations

from pathlib import Path


def describe_command(folder: Path) -> list[str]:
    """Return the command that prints the commit of the work tree around a folder, with `-dirty` when files differ."""
    return ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
