"""Where a history is kept: a SQLite file, or a PostgreSQL database by its URL."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from crossfarm.errors import ConfigError
from crossfarm.util.database_url import shown_url
from crossfarm.util.text import one_line

VARIABLE = "CROSSFARM_HISTORY"
"""Environment variable that names the history where no option does; for a URL with a password."""
NO_HISTORY = "none"
_SQLITE, _POSTGRESQL = "sqlite:///", "postgresql://"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a history is kept; either `file` or `url` is given.

    Attributes:
        file: of SQLite.
        url: `postgresql://...`.
    """

    file: Path | None = None
    url: str = ""

    @property
    def shown(self) -> str:
        """Return it for people, on one line and without a password."""
        return one_line(str(self.file)) if self.file is not None else shown_url(self.url)


def read_place(text: str, *, said_by: str = "--history") -> Place:
    """Return the place that a user named: a path, `sqlite:///PATH` or `postgresql://USER@HOST/NAME`.

    Args:
        text: what was given.
        said_by: the option or the variable that gave it. What an option says is recorded as the command of the run, so
            it may hold no password.

    Raises:
        ConfigError: it is another URL, or an option with a password.
    """
    if text.startswith(_SQLITE):
        return Place(file=Path(text.removeprefix(_SQLITE)))
    if text.startswith(_POSTGRESQL):
        if said_by.startswith("--") and shown_url(text) != text:
            raise ConfigError(
                f"{said_by} {shown_url(text)}: the command of a run is recorded, so it may hold no password; give the "
                f"URL in the variable {VARIABLE}, or the password in a file that PGPASSFILE names"
            )
        return Place(url=text)
    if "://" in text:
        raise ConfigError(f"{said_by} {shown_url(text)}: give a file, {_SQLITE}PATH or {_POSTGRESQL}USER@HOST/NAME")
    return Place(file=Path(text))


def chosen_place(option: str, variable: str, *, default: Path) -> Place | None:
    """Return where the history of a run goes: the option counts before the variable; None where it is to have none.

    Raises:
        ConfigError: see `read_place`.
    """
    if option == NO_HISTORY or (not option and variable == NO_HISTORY):
        return None
    if option:
        return read_place(option)
    return read_place(variable, said_by=VARIABLE) if variable else Place(file=default)
