"""Temporary folders that tell whether their owner lives: it holds a lock on the folder, which ends with it.

A killed process leaves its folder. Its process id would not tell: it may be another process's by now, or one of another
process namespace. The kernel lets go of a lock however its holder ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "crossfarm-"
PURPOSES = (
    *("board-run", "confirm", "core", "link", "litert", "mera", "nngen", "peak", "profile", "quantize", "rtl", "tune"),
    *("torchscript", "userland", "vela"),
)
"""What such folders are for; part of their names."""
_SECONDS_TO_LOCK = 600.0
"""A folder that is younger may not have been locked yet."""


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty folder in the temporary folder of this machine; it goes when the block ends.

    Args:
        purpose: one of PURPOSES.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"{purpose!r} is none of {PURPOSES}")
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{purpose}-") as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(descriptor)


def abandoned_folders(parent: Path | None = None) -> list[Path]:
    """Return the folders of this user whose owners are dead.

    Args:
        parent: where to look; None for the temporary folder of this machine.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    found = [path for purpose in PURPOSES for path in parent.glob(f"{PREFIX}{purpose}-*")]
    return sorted(path for path in found if _is_abandoned(path))


def remove_abandoned(path: Path) -> bool:
    """Remove a folder of `abandoned_folders`; returns whether it is gone."""
    if not _is_abandoned(path):
        return False
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _is_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
        if not is_ours or time.time() - status.st_mtime < _SECONDS_TO_LOCK:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
