"""Where this clone stands."""

from __future__ import annotations

from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
"""The folder of this clone: the package, runner/, toolchains/ and pipelines/ stand in it."""


def in_repository(path: Path) -> str:
    """Return a path as a code host's annotations need it: from the top of the repository that holds the file.

    Outside of a repository it is the path as it was given.
    """
    found = path.resolve()
    top = next((folder for folder in found.parents if (folder / ".git").exists()), None)
    return str(found.relative_to(top)) if top else str(path)
