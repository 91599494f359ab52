"""Folders that a job wrote: measured, listed, and removed, at any depth and without following a link.

A job may leave what it likes: links to other places, pipes, folders in folders in folders, files of a terabyte that
hold nothing. So nothing here recurses or uses a path of more than one name: each folder is opened relative to the one
above it, and a file is what its descriptor says.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from crossfarm.errors import OutputError

GIB = 1 << 30
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without O_NONBLOCK, opening a pipe would wait for somebody who writes to it."""
_BLOCK = 512
"""Unit of `st_blocks`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeLimits:
    """How large the output of a job may be.

    Attributes:
        depth: folders in folders; artifacts have two or three.
        entries: files and folders; twice the 50,000 images on which classifiers are commonly compared.
        bytes: sum of the files' sizes, and just as much on the disk: what the largest single file may have.
    """

    depth: int = 32
    entries: int = 100_000
    bytes: int = 16 * GIB


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeEntry:
    """A thing below a folder that is no folder.

    Attributes:
        parts: its path below the folder.
        folder: descriptor of the folder that holds it, until the walk goes on.
        status: of itself, not of what a link points to.
    """

    parts: tuple[str, ...]
    folder: int
    status: os.stat_result

    @property
    def path(self) -> str:
        """Return the path below the folder, with slashes."""
        return "/".join(self.parts)

    def require_file(self) -> None:
        """See that it is a plain file.

        Raises:
            OutputError: it is not.
        """
        if not stat.S_ISREG(self.status.st_mode):
            raise self._no_file()

    def open(self) -> int:
        """Open it for reading and return the descriptor, which the caller closes.

        Raises:
            OutputError: it is no plain file.
            OSError: it is gone, or cannot be read.
        """
        self.require_file()
        try:
            descriptor = os.open(self.parts[-1], _FILE, dir_fd=self.folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # it became a link or a socket
                raise self._no_file() from None
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise self._no_file()

    def _no_file(self) -> OutputError:
        return OutputError(f"a job wrote {self.path!r}, which is no plain file; artifacts hold files only")


def walk(folder: Path, limits: TreeLimits, *, is_live: bool = False, uncounted: int = 0) -> Iterator[TreeEntry]:
    """Yield all that is below a folder and no folder itself, in the order of the names within each folder.

    Args:
        folder: itself no link.
        limits: what it may hold.
        is_live: somebody still works there; what vanishes meanwhile is passed over.
        uncounted: so many folders in one another stand above an output, and do not add to its depth.

    Raises:
        OutputError: there is more than the limits allow.
        OSError: a folder cannot be read.
    """
    count = _Count(limits)
    stack: list[_Level] = []
    try:
        stack.append(_Level(os.open(folder, _FOLDER), (), limits.entries))
        while stack:
            level = stack[-1]
            if not level.names:
                os.close(stack.pop().descriptor)
                continue
            name = level.names.pop()
            try:
                status = os.stat(name, dir_fd=level.descriptor, follow_symlinks=False)
                count.add(status, depth=len(level.parts) + 1 - uncounted)
                if stat.S_ISDIR(status.st_mode):
                    stack.append(_Level(_enter(level.descriptor, name), (*level.parts, name), limits.entries))
                    continue
            except OSError:
                if is_live:
                    continue
                raise
            yield TreeEntry(parts=(*level.parts, name), folder=level.descriptor, status=status)
    finally:
        for level in stack:
            os.close(level.descriptor)


def excess(folder: Path, limits: TreeLimits, *, uncounted: int = 0) -> str | None:
    """Return in what a folder, in which somebody may still work, is more than it may be; None when it is not."""
    try:
        for _ in walk(folder, limits, is_live=True, uncounted=uncounted):
            pass
    except OutputError as error:
        return str(error)
    except OSError:  # it is not there yet, or not any more
        return None
    return None


def remove_tree(path: Path) -> bool:
    """Remove a file, a link, or a folder with all that it holds; returns whether nothing is left. Never raises.

    Folders that were closed are opened up on the way.
    """
    try:
        above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    try:
        return _remove(above, [path.name])
    finally:
        os.close(above)


def empty_folder(folder: Path) -> bool:
    """Remove all that a folder holds; returns whether nothing is left. Never raises."""
    try:
        descriptor = os.open(folder, _FOLDER)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    try:
        return _remove(descriptor, _names(descriptor)) and not _names(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


class _Level:
    """One open folder of a walk, with the names in it that are still to come, the next one last."""

    def __init__(self, descriptor: int, parts: tuple[str, ...], most: int) -> None:
        self.descriptor, self.parts = descriptor, parts
        self.names: list[str] = []
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    self.names.append(entry.name)
                    if len(self.names) > most:
                        break  # more than may be counted; there may be millions
        except BaseException:
            os.close(descriptor)
            raise
        self.names.sort(reverse=True)


class _Count:
    """What a walk has come by so far."""

    def __init__(self, limits: TreeLimits) -> None:
        self._limits = limits
        self._entries = self._size = self._stored = 0
        self._linked: set[tuple[int, int]] = set()

    def add(self, status: os.stat_result, *, depth: int) -> None:
        """Count one thing.

        Raises:
            OutputError: that is more than may be.
        """
        limits = self._limits
        self._entries += 1
        if self._entries > limits.entries:
            raise OutputError(f"its output has more than {limits.entries:,} files and folders, the most that it may")
        if stat.S_ISDIR(status.st_mode):
            if depth > limits.depth:
                raise OutputError(f"its output has folders more than {limits.depth} deep, the most that it may")
            return
        self._size += status.st_size
        if status.st_nlink == 1 or (status.st_dev, status.st_ino) not in self._linked:
            self._stored += status.st_blocks * _BLOCK
            if status.st_nlink > 1:
                self._linked.add((status.st_dev, status.st_ino))
        for found, where in ((self._stored, "on the disk"), (self._size, "by the sizes of its files")):
            if found > limits.bytes:
                size, most = f"{found / GIB:.3g} GiB", f"{limits.bytes / GIB:.3g}"
                raise OutputError(f"its output has {size} {where}, and may have {most}")


def _enter(above: int, name: str) -> int:
    """Open a folder, after giving its owner back all rights to it."""
    handle = os.open(name, _HANDLE, dir_fd=above)
    try:
        if os.fstat(handle).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{handle}", stat.S_IRWXU)  # noqa: PTH101 - a handle of this kind has no fchmod
        return os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)


def _remove(folder: int, names: list[str]) -> bool:
    """Remove things from an open folder. However deep they are, two descriptors are open at a time.

    The way back up goes through `..`, which must be the folder that was left; a folder that somebody moves meanwhile is
    left alone.
    """
    is_whole = True
    current, waiting = os.dup(folder), list(names)
    above: list[tuple[str, tuple[int, int], list[str]]] = []
    try:
        waiting, is_whole = _unlink(current, waiting)
        while waiting or above:
            if waiting:
                name = waiting.pop()
                try:
                    below = _enter(current, name)
                except OSError:
                    is_whole = False
                    continue
                above.append((name, _identity(current), waiting))
                os.close(current)
                current = below
                waiting, gone = _unlink(current, _names(current))
                is_whole = is_whole and gone
                continue
            name, identity, waiting = above.pop()
            back = os.open("..", _FOLDER, dir_fd=current)
            os.close(current)
            current = back
            if _identity(current) != identity:
                return False
            try:
                os.rmdir(name, dir_fd=current)
            except OSError:
                is_whole = False
    except OSError:
        return False
    finally:
        os.close(current)
    return is_whole


def _unlink(folder: int, names: list[str]) -> tuple[list[str], bool]:
    """Remove what is no folder; returns the folders, and whether all others are gone."""
    folders, is_whole = [], True
    for name in names:
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            folders.append(name)
        except FileNotFoundError:
            pass
        except OSError:
            is_whole = False
    return folders, is_whole


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _identity(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino
