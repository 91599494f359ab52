"""A file that a job wrote becomes an object of the store: copied while it is hashed, so nobody else has it open."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from crossfarm.errors import StoreError
from crossfarm.util.trees import TreeEntry

OBJECT_MTIME_NS = 1_000_000_000 * 10**9
"""mtime of every object (2001-09-09): any later write changes it."""
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)


def add_object(found: TreeEntry, temporary: Path, object_path: Callable[[str], Path]) -> tuple[str, int]:
    """Make an object of a file, unless there is one, and remove the file.

    The file is read once, through one descriptor. The object is a new file: whoever still has the other one open cannot
    write to it, and of the rights of the other one nothing comes along but whether its owner may execute it.

    Args:
        found: the file.
        temporary: where the copy grows; does not exist, on the file system of the objects.
        object_path: from the name of an object to its path.

    Returns:
        Name and size of the object.

    Raises:
        OutputError: it is no plain file.
        StoreError: its name is no text, or somebody still writes to it.
        OSError: the disk is full.
    """
    try:
        found.path.encode()
    except UnicodeEncodeError:
        raise StoreError(
            f"a job wrote {found.path!r}, whose name is not UTF-8; artifacts hold such names only"
        ) from None
    source = found.open()
    try:
        status = os.fstat(source)
        # Not `files.replacing`: what the object is called is known only when all of it was copied, and its folder is
        # synced once for all objects of an artifact, before the manifest that names them is written.
        target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            executable = bool(status.st_mode & stat.S_IXUSR)
            name = _copy(source, target, status.st_size, found.path) + ("x" if executable else "")
            path = object_path(name)
            if not _is_untouched(path, status.st_size):
                os.fchmod(target, 0o555 if executable else 0o444)
                os.utime(target, ns=(OBJECT_MTIME_NS, OBJECT_MTIME_NS))
                os.fsync(target)
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.rename(path)
        finally:
            os.close(target)
            temporary.unlink(missing_ok=True)
        os.unlink(found.parts[-1], dir_fd=found.folder)
    finally:
        os.close(source)
    return name, status.st_size


def _copy(source: int, target: int, size: int, what: str) -> str:
    """Copy `size` bytes and return their sha256; blocks of zeros become holes, as they may have been.

    Raises:
        StoreError: the file is not of that size any more.
    """
    digest = hashlib.sha256()
    left = size
    while chunk := os.read(source, min(_CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            break
        digest.update(chunk)
        if chunk == _ZEROS[: len(chunk)]:
            os.lseek(target, len(chunk), os.SEEK_CUR)
            continue
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]
    if left:
        raise StoreError(f"{what} changed while it was stored: somebody still writes to it; run it again")
    os.ftruncate(target, size)
    return digest.hexdigest()


def _is_untouched(path: Path, size: int) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return status.st_size == size and status.st_mtime_ns == OBJECT_MTIME_NS
