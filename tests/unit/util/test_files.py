"""A file is there as a whole, the old one or the new one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossfarm.util.files import replacing, write_bytes, write_json, write_text


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Stands in for a full disk: the kernel refuses what goes beyond the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.md"
    write_text(path, "one\n")
    write_text(path, "two é\n")
    assert path.read_bytes() == "two é\n".encode()
    assert [item.name for item in path.parent.iterdir()] == ["report.md"]


def test_bytes_and_json_are_written_too(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"\x00\xff")
    write_json(tmp_path / "b", {"good": True})
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert json.loads((tmp_path / "b").read_text()) == {"good": True}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    with full_disk(4096), pytest.raises(OSError, match="File too large"):
        write_text(path, "x" * 100_000)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.md"]


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "wheel"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of")
        assert path.read_text() == "old"
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_synced_then_renamed_then_its_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "report.md", list[tuple[str, bool]]()
    path.write_text("old")
    fsync = os.fsync

    def record(descriptor: int) -> None:
        is_new = path.read_text() == "new"
        done.append(("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file", is_new))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_text(path, "new")
    assert done == [("file", False), ("folder", True)]


@pytest.mark.parametrize(("code", "refused"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_synced_is_no_fault_and_a_broken_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, refused: bool
) -> None:
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(code)) if refused else contextlib.nullcontext():
        write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_permission_bits_of_the_old_file_stay_and_a_new_one_has_those_of_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "new", "text")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    secret = tmp_path / "secret"
    secret.write_text("old")
    secret.chmod(0o600)
    write_text(secret, "new")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_link_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    target, path = tmp_path / "theirs", tmp_path / "ours"
    target.write_text("theirs")
    target.chmod(0o444)
    path.symlink_to(target)
    write_text(path, "ours")
    assert (target.read_text(), path.read_text(), path.is_symlink()) == ("theirs", "ours", False)
    assert path.stat().st_mode & stat.S_IWUSR


def test_a_name_as_long_as_file_systems_allow_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    write_text(path, "text")
    assert path.read_text() == "text"


@pytest.mark.parametrize("write", [write_text, lambda path, text: write_bytes(path, text.encode()), write_json])
def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OSError, match=r"exists|directory"):
        write(tmp_path / "out" / "report.md", "text")
