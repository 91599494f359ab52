"""Writes a file so that a reader finds the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from crossfarm.errors import StoreError


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`; its folder is made when it is not there.

    Raises:
        StoreError: the disk is full, or the folder may not be written. What stood at `path` is still there then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("x", encoding="utf-8", errors="replace", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror}; free some space or give another --out"
        ) from error
