"""Writes a tar.gz of a folder. Equal files give equal bytes."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

_TIME = 315532800
"""1980-01-01; tar warns of the year 1970."""


def write_archive(path: Path, folder: Path, *, name: str) -> None:
    """Write a tar.gz that unpacks into one folder.

    Args:
        path: the file to create.
        folder: whose files go into it; they keep the right to be executed, and nothing else of their origin.
        name: of the folder that it unpacks into.

    Raises:
        OSError: a file cannot be read or written.
    """
    with (
        path.open("wb") as stream,
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            info = tarfile.TarInfo(f"{name}/{file.relative_to(folder).as_posix()}")
            info.size, info.mtime = file.stat().st_size, _TIME
            info.mode = 0o755 if os.access(file, os.X_OK) else 0o644
            with file.open("rb") as content:
                archive.addfile(info, content)
