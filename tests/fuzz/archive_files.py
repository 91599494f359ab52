"""Hostile zip archives: names that lead out, sizes that lie, bombs, links, damage."""

from __future__ import annotations

import io
import random
import stat
import warnings
import zipfile
from pathlib import Path

from crossfarm.errors import CrossfarmError
from crossfarm.stages.fetch.archives import extract_tree, read_member
from tests.fuzz.harness import HarmError, Kind
from tests.fuzz.spoiling import spoil

LIMIT = 4 << 20
"""Bytes that may come out of an archive."""
NAMES = (
    "model.onnx", "a/model.onnx", "../out.txt", "../../out.txt", "/tmp/out.txt", "a/../../out.txt", "C:\\out.txt",
    "a\\..\\out.txt", "a//b", "./a", ".", "..", "", "/", "a/", "a/b/" * 40 + "c", "x" * 300, "é",
    "a\0b", "con", "a\nb", "\x1b[2J", "model.onnx/", "model.onnx/inside", "-rf", "a" * 60_000,
)  # fmt: skip


def make(rng: random.Random, folder: Path) -> None:
    """Write archive.zip and the name of a file to be read from it."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        for _ in range(rng.choice((0, 1, 2, 5, 20))):
            info = zipfile.ZipInfo(rng.choice(NAMES) or "empty")
            info.compress_type = rng.choice(
                (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            )
            kind = rng.choice((stat.S_IFREG, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR))
            info.external_attr = (kind | rng.choice((0o644, 0o755, 0o4777, 0))) << 16
            content = rng.choice((b"", b"x", b"/etc/passwd", rng.randbytes(500), bytes(rng.choice((1000, 6 << 20)))))
            archive.writestr(info, content)
        if rng.random() < 0.3:
            archive.writestr("inner.zip", _inner(rng))
    content = stream.getvalue()
    if rng.random() < 0.6:
        content = _lie(rng, content) if rng.random() < 0.5 else spoil(rng, content)
    (folder / "archive.zip").write_bytes(content)
    wanted = rng.choice((*NAMES, "inner.zip!model.onnx", "inner.zip!../x", "!", "inner.zip!", "gone"))
    (folder / "member").write_bytes(wanted.encode("utf-8", "replace"))


def _inner(rng: random.Random) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(rng.choice((10, 6 << 20))))
    return spoil(rng, stream.getvalue()) if rng.random() < 0.5 else stream.getvalue()


def _lie(rng: random.Random, content: bytes) -> bytes:
    """Change one field of one header: version, flags, method, sums, sizes, lengths, offsets."""
    data = bytearray(content)
    for mark in rng.sample((b"PK\1\2", b"PK\3\4", b"PK\5\6"), k=rng.randint(1, 3)):
        at = data.rfind(mark)
        if at >= 0:
            field = at + 4 + 2 * rng.randrange(20)
            data[field : field + 2] = rng.choice((b"\0\0", b"\1\0", b"\xff\xff", b"\0\x80", rng.randbytes(2)))
    return bytes(data)


def feed(folder: Path) -> bool:
    """Read one file of the archive, then unpack all; both may be refused, by errors of our own."""
    member = (folder / "member").read_bytes().decode()
    (folder / "tree").mkdir()
    accepted = 0
    for act in (
        lambda: read_member(folder / "archive.zip", member, limit=LIMIT),
        lambda: extract_tree(folder / "archive.zip", folder / "tree", limit=LIMIT),
    ):
        try:
            act()
            accepted += 1
        except CrossfarmError:
            pass
    files = [path for path in (folder / "tree").rglob("*") if not path.is_dir()]
    if any(path.is_symlink() or not path.is_file() for path in files):
        raise HarmError("something that is no regular file was unpacked")
    if sum(path.stat().st_size for path in files) > LIMIT:
        raise HarmError(f"more than {LIMIT} bytes were unpacked")
    return accepted > 0


KIND = Kind(name="archives", count=500, make=make, feed=feed)
