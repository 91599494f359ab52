"""Something that crossfarm needs of the machine that it runs on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from crossfarm.errors import EXIT_GOOD, EXIT_INFRASTRUCTURE
from crossfarm.util.console import Console
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


def show_requirements(rows: Sequence[Requirement], *, console: Console) -> None:
    """Show what is found, what is missing, what that costs and what to do."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        console.line(f"{'missing' if row.found is None else 'found  '}  {row.name:<{width}}  {row.found or row.cost}")
    missing = [row for row in rows if row.found is None]
    for row in missing:
        console.line(f"{row.name}: {row.how_to_install}{'' if row.is_wanted else ' (optional)'}")
    wanted = [row for row in missing if row.is_wanted]
    if any(row.packages or row.python or row.npm or row.environments for row in wanted):
        console.line("./inv setup installs what is missing")
    if not wanted:
        console.line("nothing that is needed is missing")
