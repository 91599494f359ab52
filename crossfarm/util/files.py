"""Writes a file so that a reader finds the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAME = 40
"""Letters of the file's name in the temporary one: file systems allow 255 bytes, and a letter may take four."""


@contextlib.contextmanager
def replacing(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Yield the path of a new, empty file beside `path`; when the block ends well, it takes the place of `path`.

    It is synced to the disk before that, and its folder after it. When the block raises, the new file goes and what
    stood at `path` is still there. A file that is replaced passes its permission bits on to the new one.

    Args:
        path: the file; its folder is made when it is not there.
        lasting: sync; without it a loss of power may leave an empty file, which takes what can be made again.

    Raises:
        OSError: the disk is full, or the folder may not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:_NAME]}.{secrets.token_hex(8)}.tmp")
    # A new file under a name that nobody can guess: in a folder where others write no link of theirs is followed.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        permissions = _permissions(path)
        if permissions is not None:
            os.fchmod(descriptor, permissions)
        yield temporary
        if lasting:
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    if lasting:
        sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, *, lasting: bool = True) -> None:
    """Write `content` to `path`, as `replacing` does.

    Raises:
        OSError: the disk is full, or the folder may not be written. What stood at `path` is still there then.
    """
    with replacing(path, lasting=lasting) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, lasting: bool = True) -> None:
    """Write `text` as UTF-8 to `path`, as `replacing` does; what UTF-8 cannot hold becomes a question mark.

    Raises:
        OSError: the disk is full, or the folder may not be written. What stood at `path` is still there then.
    """
    write_bytes(path, text.encode("utf-8", errors="replace"), lasting=lasting)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document and a newline to `path`, as `replacing` does.

    Raises:
        OSError: the disk is full, or the folder may not be written. What stood at `path` is still there then.
        TypeError: the document is none.
    """
    write_text(path, f"{json.dumps(document)}\n")


def sync_folder(folder: Path) -> None:
    """Make new names in a folder last beyond a loss of power, on file systems that can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written and not be read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _permissions(path: Path) -> int | None:
    """Return the permission bits of a plain file; None where there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else None
