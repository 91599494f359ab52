"""What an image is, before anybody builds it: a digest over its Dockerfile, what that copies, and its base's digest.

Nothing is asked of an engine or a registry, and the few small files are read anew each time: the result is part of
every key, and a plan is made from it in milliseconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from crossfarm.errors import ConfigError, nearest
from crossfarm.images.dockerfile import copied_files
from crossfarm.images.lock import pinned_base

BASE = "base"
FOLDER = Path("dockerfiles")
SUFFIX = ".Dockerfile"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageIdentity:
    """An image by what goes into it.

    Attributes:
        name: dockerfiles/NAME.Dockerfile makes it.
        reference: what an engine knows it by: `crossfarm-NAME:` and the first 16 digits of the digest.
        digest: sha256, as 64 digits, over Dockerfile, copied files and the base's digest.
        base: name of the image below it; None when that is the Debian of images.lock.
    """

    name: str
    reference: str
    digest: str
    base: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextFile:
    """A file that a build may see.

    Attributes:
        path: below the project's folder, with `/`.
        content: all of it.
        executable: whether it may be run; nothing else of its mode counts.
    """

    path: str
    content: bytes
    executable: bool


def identities(root: Path, names: Iterable[str]) -> Mapping[str, ImageIdentity]:
    """Return images by name, with the images below them, each after its base.

    Args:
        root: the project's folder, which holds dockerfiles/ and images.lock.
        names: as toolchain files say under `image`.

    Raises:
        ConfigError: a Dockerfile, a file that it copies or images.lock is missing or cannot be used.
    """
    found: dict[str, ImageIdentity] = {}
    for name in (BASE, *sorted(set(names) - {BASE})):
        base = None if name == BASE else BASE
        below = found[base].digest if base else pinned_base(root).digest
        digest = _digest(context(root, name), base=below)
        found[name] = ImageIdentity(name=name, reference=f"crossfarm-{name}:{digest[:16]}", digest=digest, base=base)
    return found


def context(root: Path, name: str) -> tuple[ContextFile, ...]:
    """Return what a build of an image is sent: its Dockerfile, then the files that this one copies, sorted by path.

    Raises:
        ConfigError: one of them is missing, or the Dockerfile copies more than files.
    """
    path = dockerfile_path(name)
    try:
        dockerfile = _read(root, path.as_posix())
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}, but image {name!r} is made from it{nearest(name, known_names(root))}"
        ) from error
    files = [dockerfile]
    for copied in copied_files(path, dockerfile.content.decode("utf-8", "replace")):
        try:
            files.append(_read(root, copied))
        except OSError as error:
            raise ConfigError(f"{path}: copies {copied}: {error.strerror}; name single files that exist") from error
    return tuple(files)


def dockerfile_path(name: str) -> Path:
    """Return where the Dockerfile of an image lies, below the project's folder."""
    return FOLDER / f"{name}{SUFFIX}"


def known_names(root: Path) -> list[str]:
    """Return the names of all images that the project declares."""
    return sorted(path.name.removesuffix(SUFFIX) for path in (root / FOLDER).glob(f"*{SUFFIX}"))


def _read(root: Path, path: str) -> ContextFile:
    file = root / path
    if file.is_symlink():
        raise OSError(0, "is a symbolic link")
    return ContextFile(path=path, content=file.read_bytes(), executable=bool(file.stat().st_mode & 0o100))


def _digest(files: Iterable[ContextFile], *, base: str) -> str:
    hasher = hashlib.sha256(f"base {base}\n".encode())
    for file in files:
        content = hashlib.sha256(file.content).hexdigest()
        hasher.update(f"{file.path}\0{'x' if file.executable else '-'} {content}\n".encode())
    return hasher.hexdigest()
