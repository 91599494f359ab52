"""Reads single files out of wheels and other zip archives, without unpacking anything that could do harm."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from crossfarm.errors import ConfigError, FetchError, nearest

MEMBER_LIMIT = 2 << 30
TREE_LIMIT = 4 << 30
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
        FetchError: not a zip archive, damaged, or larger than `limit` when unpacked.
    """
    with _open(archive, archive.name) as opened:
        left = limit
        for info in opened.infolist():
            if info.is_dir() or _is_link(info):
                continue
            target = folder / checked_path(info.filename, archive.name)
            content = _read(opened, info.filename, archive.name, left)
            left -= len(content)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def checked_path(member: str, where: str) -> PurePosixPath:
    """Return the path of a file inside an archive, refused when it could lead out of a folder.

    Raises:
        ConfigError: the path is empty, absolute, has `..`, a drive or a backslash.
    """
    path = PurePosixPath(member)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in member or ":" in path.parts[0]:
        raise ConfigError(
            f"{where}: the path {member!r} leads out of the archive; give a path inside it, without a leading / or .."
        )
    return path


def _open(source: Path | io.BytesIO, where: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{where} is not a zip archive: {error}; check the source in models.yaml") from error


def _read(archive: zipfile.ZipFile, member: str, where: str, limit: int) -> bytes:
    """Read one file; what the header says about its size is not trusted."""
    path = checked_path(member, where)
    try:
        info = archive.getinfo(path.as_posix())
    except KeyError:
        raise ConfigError(
            f"{where} has no file {member!r}{_nearest_member(member, archive)}; correct `path` in models.yaml"
        ) from None
    if info.file_size > limit:
        raise FetchError(_too_large(where, member, limit))
    content = bytearray()
    try:
        with archive.open(info) as stream:
            for chunk in iter(lambda: stream.read(_CHUNK), b""):
                content += chunk
                if len(content) > limit:
                    raise FetchError(_too_large(where, member, limit))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise FetchError(f"{where}: {member} cannot be unpacked: {error}; fetch it again") from error
    return bytes(content)


def _too_large(where: str, member: str, limit: int) -> str:
    return f"{where}: {member} is larger than {limit} bytes when unpacked, which is the most that is read"


def _nearest_member(member: str, archive: zipfile.ZipFile) -> str:
    """Return the hint with the nearest name: a file of the same base name elsewhere comes before a similar path."""
    names = archive.namelist()
    same_base = [name for name in names if PurePosixPath(name).name == PurePosixPath(member).name]
    return f"; perhaps you meant {same_base[0]!r}" if same_base else nearest(member, _files(names))


def _files(names: list[str]) -> Iterator[str]:
    return (name for name in names if not name.endswith("/"))


def _is_link(info: zipfile.ZipInfo) -> bool:
    file_type_bits = info.external_attr >> 16 & 0o170000
    return file_type_bits == 0o120000
