"""Something that crossfarm needs of the machine that it runs on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from crossfarm.errors import EXIT_GOOD, EXIT_INFRASTRUCTURE
from crossfarm.util.environments import ToolEnvironment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requirement:
    """Something that crossfarm needs of this machine.

    Attributes:
        name: what it is.
        found: what was found, in a few words; None when it is missing.
        how_to_install: what to do when it is missing.
        cost: what does not work without it.
        packages: Debian packages that bring it.
        python: requirements files, relative to the project's folder, that bring it.
        npm: folders with a package.json and its lock, relative to the project's folder, that bring it.
        environments: Python environments of tools that bring it.
        is_wanted: the chosen models, targets or tests need it; `setup` leaves out what only `doctor` tells of.
    """

    name: str
    found: str | None
    how_to_install: str
    cost: str
    packages: tuple[str, ...] = ()
    python: tuple[Path, ...] = ()
    npm: tuple[Path, ...] = ()
    environments: tuple[ToolEnvironment, ...] = ()
    is_wanted: bool = True


def exit_code_of(rows: Iterable[Requirement]) -> int:
    """Return 0 when nothing is missing that is wanted, else 3."""
    return EXIT_INFRASTRUCTURE if any(row.found is None and row.is_wanted for row in rows) else EXIT_GOOD
