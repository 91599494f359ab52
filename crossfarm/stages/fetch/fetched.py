"""What the stage `fetch` leaves, read by the stages that come after it."""

from __future__ import annotations

from pathlib import Path

from crossfarm.config.sources import FileSource, Package, PackageSource, UrlSource
from crossfarm.stages.fetch.archives import read_member
from crossfarm.stages.fetch.artifact import fetched_file


def fetch_source(source: FileSource | UrlSource | Package) -> FileSource | UrlSource | Package:
    """Return the source as the stage `fetch` knows it: a package is fetched once, whichever of its files are wanted."""
    if isinstance(source, PackageSource):
        return Package(package=source.package, sha256=source.sha256)
    return source


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
