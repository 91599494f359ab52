"""Writes a wheel: a zip archive with a fixed layout. Equal files give equal bytes.

The format: https://packaging.python.org/specifications/binary-distribution-format
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_OLDEST = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip archive can hold."""
_UNIX = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class WheelFile:
    """A file of an archive: its content, and whether it may be executed."""

    content: bytes
    is_executable: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a wheel says about itself.

    Attributes:
        name: of the distribution: letters, digits and single `_` between them.
        version: by PEP 440.
        platforms: its platform tags.
        summary: one line.
        licence: SPDX expression.
        description: the page that a package index would show, Markdown.
        requires: requirements; those of an extra name it: `pillow; extra == "images"`.
        extras: names of the extras.
        generator: what wrote the wheel, with its version.
    """

    name: str
    version: str
    platforms: tuple[str, ...]
    summary: str
    licence: str
    description: str
    requires: tuple[str, ...]
    extras: tuple[str, ...]
    generator: str

    @property
    def file_name(self) -> str:
        """Name of the wheel."""
        return f"{self.name}-{self.version}-py3-none-{'.'.join(self.platforms)}.whl"


def write_wheel(path: Path, metadata: Metadata, files: Mapping[str, WheelFile]) -> None:
    """Write a wheel.

    Args:
        path: the file to create.
        metadata: what it says about itself.
        files: path in site-packages -> file.

    Raises:
        OSError: the file cannot be written.
    """
    folder = f"{metadata.name}-{metadata.version}.dist-info"
    whole = {
        **dict(sorted(files.items())),
        f"{folder}/METADATA": WheelFile(content=_metadata(metadata).encode()),
        f"{folder}/WHEEL": WheelFile(content=_wheel(metadata).encode()),
    }
    record = [_row(name, file.content) for name, file in whole.items()]
    whole[f"{folder}/RECORD"] = WheelFile(content="".join([*record, f"{folder}/RECORD,,\n"]).encode())
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in whole.items():
            info = zipfile.ZipInfo(name, _OLDEST)
            info.create_system = _UNIX
            info.external_attr = (0o100755 if file.is_executable else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, file.content)


def _metadata(metadata: Metadata) -> str:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {metadata.name}",
        f"Version: {metadata.version}",
        f"Summary: {metadata.summary}",
        f"License: {metadata.licence}",
        "Requires-Python: >=3.8",
        *(f"Requires-Dist: {requirement}" for requirement in metadata.requires),
        *(f"Provides-Extra: {extra}" for extra in metadata.extras),
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join(lines) + f"\n\n{metadata.description}"


def _wheel(metadata: Metadata) -> str:
    lines: Sequence[str] = [
        "Wheel-Version: 1.0",
        f"Generator: {metadata.generator}",
        "Root-Is-Purelib: false",
        *(f"Tag: py3-none-{platform}" for platform in metadata.platforms),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, content: bytes) -> str:
    """Return a line of RECORD; no name of ours holds a comma or a quote."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"
