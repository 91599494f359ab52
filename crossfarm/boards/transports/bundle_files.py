"""The files of a bundle by content, with the digest of the whole, as the store of a board has them."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from crossfarm.errors import BundleError

HEAD_BYTES = 64
"""Size of the header of weights.bin. It names the code that the weights belong to, so that it differs after every
compilation, and what follows it only when the weights do."""

_SMALLEST_WITH_BODY = 256 * 1024
_CHUNK_BYTES = 1 << 20
_PATH = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleFile:
    """A file of a bundle.

    Attributes:
        path: relative to the bundle.
        source: where it lies on this host.
        bytes: its size.
        sha256: of its content.
        body: sha256 of all but its first 64 bytes, for large files; else None.
        executable: whether it is a program.
    """

    path: str
    source: Path
    bytes: int
    sha256: str
    body: str | None
    executable: bool

    @property
    def row(self) -> str:
        """Return the line about this file that remote.sh reads."""
        mode = "755" if self.executable else "644"
        return f"{self.sha256} {self.bytes} {mode} {self.body or '-'} {self.path}\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleFiles:
    """A whole bundle.

    Attributes:
        files: sorted by path.
        digest: sha256 over their rows.
    """

    files: tuple[BundleFile, ...]
    digest: str

    @property
    def rows(self) -> bytes:
        """Return the lines about all files."""
        return "".join(file.row for file in self.files).encode()


def read_bundle(folder: Path) -> BundleFiles:
    """Read the files of a bundle.

    Raises:
        BundleError: there is no program, a file cannot be read, or has a name that a board is not given.
    """
    try:
        files = tuple(_files(folder))
    except OSError as error:
        raise BundleError(f"{error.filename} cannot be read: {error.strerror}; make the bundle again") from error
    if not any(file.path == "program" for file in files):
        raise BundleError("the bundle has no program; make the bundle again")
    digest = hashlib.sha256("".join(file.row for file in files).encode()).hexdigest()
    return BundleFiles(files=files, digest=digest)


def _files(folder: Path) -> Iterator[BundleFile]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if not _PATH.fullmatch(name):
            raise BundleError(
                f"the bundle has a file {name!r}; names on a board have letters, digits and any of _ . + -"
            )
        size = path.stat().st_size
        whole, body = hashlib.sha256(), hashlib.sha256()
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            whole.update(head)
            while chunk := stream.read(_CHUNK_BYTES):
                whole.update(chunk)
                if size >= _SMALLEST_WITH_BODY:
                    body.update(chunk)
        yield BundleFile(
            path=name,
            source=path,
            bytes=size,
            sha256=whole.hexdigest(),
            body=body.hexdigest() if size >= _SMALLEST_WITH_BODY else None,
            # The store may have lost the right to execute it.
            executable=name == "program",
        )


def write_archive(bundle: BundleFiles, wanted: Mapping[int, str], write: Callable[[bytes], None]) -> None:
    """Write the archive that `store` of remote.sh reads: rows, whole/SHA256, head/SHA256.

    Args:
        bundle: the bundle.
        wanted: number of a file -> `whole` or `head`; no two files with the same content.
        write: takes the archive's bytes as they come.
    """
    # Python's tarfile would copy each byte dozens of times on its way through a stream.
    write(_header("rows", len(bundle.rows)) + bundle.rows + _padding(len(bundle.rows)))
    for number, part in wanted.items():
        file = bundle.files[number]
        size = min(HEAD_BYTES, file.bytes) if part == "head" else file.bytes
        write(_header(f"{part}/{file.sha256}", size, executable=file.executable))
        left = size
        with file.source.open("rb") as stream:
            while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                write(chunk)
                left -= len(chunk)
        # A file that has shrunk meanwhile is filled up, and refused by its sha256.
        write(bytes(left) + _padding(size))
    write(bytes(2 * tarfile.BLOCKSIZE))


def sent_bytes(bundle: BundleFiles, wanted: Mapping[int, str]) -> int:
    """Return how many bytes of files an archive holds."""
    return sum(HEAD_BYTES if part == "head" else bundle.files[number].bytes for number, part in wanted.items())


def _header(name: str, size: int, *, executable: bool = False) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o755 if executable else 0o644
    return member.tobuf(format=tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
