"""Where a file comes from: a path, an address, a file inside a pinned package, or a PyTorch factory."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from crossfarm.config.base import Declared, Line, Number, PinnedPackage, RelativePath, Sha256

_FORMS = ("file", "url", "package", "factory")


class FileSource(Declared):
    """A file beside models.yaml. `sha256` is optional, because the file's content is part of every key anyway."""

    file: RelativePath
    """Relative to the folder of models.yaml, without '..'."""
    sha256: Sha256 | None = None
    """Of its content."""


class UrlSource(Declared):
    """A file to download over https (or http on this machine), pinned by the sha256 of its content."""

    url: Annotated[
        str,
        Field(
            pattern=r"^(https://[^\s/]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?)/[^\s\x00-\x1f\x7f]*$",
            max_length=2000,
            description="an https:// address with a path",
        ),
    ]
    sha256: Sha256
    """Of its content."""


class Package(Declared):
    """A wheel `name==version` from the package index that pip is configured with, pinned by the sha256 of the wheel."""

    package: PinnedPackage
    """`name==version`."""
    sha256: Sha256
    """Of the wheel."""


class PackageSource(Package):
    """A file inside a wheel."""

    path: RelativePath
    """Path inside the wheel; `!` steps into a zip archive: `a/b.zip!c.tflite`."""


def _form(value: object) -> str | None:
    """Return the form of a source by the key that it has; none when it has no such key, or several."""
    present = [form for form in _FORMS if (form in value if isinstance(value, dict) else hasattr(value, form))]
    return present[0] if len(present) == 1 else None


_FILE = Annotated[FileSource, Tag("file")]
_URL = Annotated[UrlSource, Tag("url")]
_MEMBER = Annotated[PackageSource, Tag("package")]

FileOrPackage = Annotated[_FILE | Annotated[Package, Tag("package")], Discriminator(_form)]
"""A folder or a whole wheel."""
SingleFile = Annotated[_FILE | _URL | _MEMBER, Discriminator(_form)]
"""One file, wherever it is."""


class FactorySource(Declared):
    """A PyTorch module: a callable that builds it, and the state loaded into it (weights only, no pickled code)."""

    factory: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$",
            max_length=200,
            description="`module:callable`",
        ),
    ]
    """`module:callable`, found in `packages` (put on the path unpacked, never installed) or beside models.yaml."""
    arguments: tuple[str | int | Number | bool, ...] = ()
    """What the callable is called with."""
    packages: tuple[Package, ...] = ()
    """Wheels that hold the code."""
    state: SingleFile | None = None
    """The trained weights; without it the module is as the callable made it."""
    output_names: tuple[Line, ...] = Field(default=("output",), min_length=1)
    """Names for the outputs, in order."""


Source = Annotated[_FILE | _URL | _MEMBER | Annotated[FactorySource, Tag("factory")], Discriminator(_form)]
