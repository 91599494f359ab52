"""Python environments of tools that cannot stand beside crossfarm's own: each has a lock and a folder of its own.

`./inv setup` makes them (crossfarm.setup.environments); images bring theirs along.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from crossfarm.util.paths import HOME

PLACES = (Path("/opt/crossfarm/environments"), HOME / ".crossfarm" / "environments")
"""Where they are looked for: in an image, then in this clone."""
COMPLETE = ".complete"
"""Is written last, so that an environment that was left half-made is not taken for one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToolEnvironment:
    """A Python environment of its own.

    Attributes:
        name: of its lock, requirements/environments/NAME.txt.
        python: version of the interpreter, `3.10`.
        packages: Debian packages that its tools need beside it.
        programs: what of these packages must be on PATH.
        completed_by: module of crossfarm.setup whose `complete(folder, console=...)` adds what is on no package index.
    """

    name: str
    python: str = "3.11"
    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    completed_by: str | None = None

    @property
    def lock(self) -> Path:
        """Return its hashed list of distributions: that of the clone, or in an image the one that it was made of."""
        own = HOME / "requirements" / "environments" / f"{self.name}.txt"
        return own if own.exists() else PLACES[0] / own.name

    @property
    def folder_name(self) -> str:
        """Return the name of its folder; another lock is another environment."""
        return f"{self.name}-{hashlib.sha256(self.lock.read_bytes()).hexdigest()[:12]}"

    def interpreter(self) -> Path | None:
        """Return its Python; None when it has not been made."""
        for place in PLACES:
            folder = place / self.folder_name
            if (folder / COMPLETE).exists():
                return folder / "bin" / "python"
        return None

    def missing(self) -> str | None:
        """Return what to do for it; None when it is there."""
        if self.interpreter() is not None:
            return None
        return f"its Python environment {self.name} is not there; ./inv setup makes it"

    def folders(self) -> tuple[Path, ...]:
        """Return what its Python reads: its own folder, and that of the Python that it was made from."""
        python = self.interpreter()
        return () if python is None else (python.parent.parent, Path(os.path.realpath(python)).parent.parent)
