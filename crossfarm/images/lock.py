"""images.lock: which Debian the images are built on, pinned by the digest of its content.

A line is `NAME@sha256:DIGEST  # TAG`. The project's images.lock pins the image of a registry. A machine that made its
own Debian has the same file in `.crossfarm`, and that one counts there.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from crossfarm.errors import ConfigError
from crossfarm.util.files import write_text

LOCK = Path("images.lock")
OWN_LOCK = Path(".crossfarm", "images.lock")

_LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._/:-]*)@(?P<digest>sha256:[0-9a-f]{64})\s+#\s+(?P<tag>\S+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pin:
    """A base image and its content.

    Attributes:
        name: the image's name, with its registry where that is not Docker's own: `debian`.
        digest: `sha256:` and 64 digits: of the manifest where a registry has it, of the file system where it was made
            here.
        tag: what the name meant when it was pinned: `bookworm-slim`.
        is_own: made on this machine; no registry has it.
    """

    name: str
    digest: str
    tag: str
    is_own: bool = False

    @property
    def reference(self) -> str:
        """What an engine knows it by: an image of a registry by its digest, one made here by a tag."""
        return f"{self.name}:{self.digest[7:23]}" if self.is_own else f"{self.name}@{self.digest}"


def pinned_base(root: Path, *, own: bool = True) -> Pin:
    """Return the base image that counts on this machine.

    Args:
        root: the project's folder.
        own: whether one that was made on this machine comes first.

    Raises:
        ConfigError: there is no lock file, or it does not hold one line as above.
    """
    if own and (root / OWN_LOCK).exists():
        return _read(root / OWN_LOCK, is_own=True)
    return _read(root / LOCK, is_own=False)


def write_pin(path: Path, pin: Pin) -> None:
    """Write a lock file at once or not at all; comments of an old one stay.

    Args:
        path: the file; its folder is made.
        pin: what it says from now on.
    """
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")] if path.exists() else []
    write_text(path, "\n".join([*comments, f"{pin.name}@{pin.digest}  # {pin.tag}"]) + "\n")


def _read(path: Path, *, is_own: bool) -> Pin:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; ./inv images --update-lock writes it") from error
    found = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")]
    matches = [(number, _LINE.fullmatch(line.strip())) for number, line in found]
    if len(matches) != 1 or matches[0][1] is None:
        number = next((number for number, match in matches if match is None), len(lines))
        raise ConfigError(
            f"{path}:{number}: one line like debian@sha256:DIGEST  # bookworm-slim is expected; "
            + ("remove the file" if is_own else "./inv images --update-lock writes it")
        )
    match = matches[0][1]
    return Pin(name=match["name"], digest=match["digest"], tag=match["tag"], is_own=is_own)
