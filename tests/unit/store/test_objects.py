"""Putting a hostile output into a store changes nothing of the host, and stores what was hashed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.errors import OutputError, StoreError
from crossfarm.store import objects
from crossfarm.store.garbage import remove_store
from crossfarm.store.keys import KeyDocument, digest_json
from crossfarm.store.live_runs import live_run
from crossfarm.store.objects import OBJECT_MTIME_NS, add_object
from crossfarm.store.store import Artifact, Store
from crossfarm.util.trees import TreeLimits, empty_folder, walk

DOCUMENT = KeyDocument(
    stage="compile", version=1, parameters={}, sources=digest_json(0), inputs={}, image="host", tools={}
)

DEEP = 1100
"""More than Python recurses."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    yield Store(tmp_path / "store")
    assert empty_folder(tmp_path)


@pytest.fixture
def output(store: Store) -> Path:
    folder = store.root / "work" / "run" / "output"
    folder.mkdir(parents=True)
    return folder


def _put(store: Store, output: Path, limits: TreeLimits | None = None) -> Artifact:
    return store.put(
        key=DOCUMENT.key(),
        job="j",
        folder=output,
        document=DOCUMENT,
        groups={},
        seconds=0,
        limits=limits or TreeLimits(),
    )


def _nest(top: Path, depth: int) -> None:
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_file_that_becomes_a_link_while_others_are_hashed_changes_nothing_of_the_host(
    store: Store, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    before = secret.stat()
    for name in ("a", "b", "c"):
        (output / name).write_text(name)
    calls = 0
    copy = objects._copy

    def swap(source: int, target: int, size: int, what: str) -> str:
        nonlocal calls
        calls += 1
        if calls == at:
            for name in ("a", "b", "c"):
                (output / name).unlink(missing_ok=True)
                (output / name).symlink_to(secret)
        return copy(source, target, size, what)

    monkeypatch.setattr(objects, "_copy", swap)
    if at < 3:
        with pytest.raises(OutputError, match="no plain file"):
            _put(store, output)
        assert store.read(DOCUMENT.key()) is None
    else:  # all were open or read before
        _put(store, output)
    after = secret.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ino) == (before.st_mode, before.st_mtime_ns, before.st_ino)
    assert secret.read_text() == "secret"
    assert not [path for path in (store.root / "objects").rglob("*") if path.is_symlink()]


def test_a_folder_that_becomes_a_link_is_not_entered(
    store: Store, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "key").write_text("secret")
    (output / "a").write_text("a")
    (output / "b").mkdir()
    (output / "b" / "key").write_text("mine")
    copy = objects._copy

    def swap(source: int, target: int, size: int, what: str) -> str:
        if what == "a":
            (output / "b").rename(output / "c")
            (output / "b").symlink_to(home)
        return copy(source, target, size, what)

    monkeypatch.setattr(objects, "_copy", swap)
    with pytest.raises(StoreError):
        _put(store, output)
    assert (home / "key").read_text() == "secret"


def test_whoever_still_has_a_file_open_cannot_change_what_was_stored(store: Store, output: Path) -> None:
    path = output / "weights"
    path.write_bytes(b"genuine")
    with path.open("r+b") as held:
        artifact = _put(store, output)
        held.write(b"changed")
    assert store.file_path(artifact, "weights").read_bytes() == b"genuine"
    assert store.damage(artifact, thorough=True) is None


@pytest.mark.parametrize("change", [b"longer than it was", b""])
def test_a_file_that_changes_while_it_is_stored_is_refused(
    store: Store, output: Path, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    (output / "weights").write_bytes(b"genuine")
    copy = objects._copy

    def write(source: int, target: int, size: int, what: str) -> str:
        (output / "weights").write_bytes(change)
        return copy(source, target, size, what)

    monkeypatch.setattr(objects, "_copy", write)
    with pytest.raises(StoreError, match="changed while it was stored"):
        _put(store, output)
    assert [path.name for path in (store.root / "work").iterdir()] == ["run"]


def test_a_second_name_of_a_file_of_the_host_leaves_that_file_as_it_is(
    store: Store, output: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    os.link(secret, output / "mine")
    artifact = _put(store, output)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert store.file_path(artifact, "mine").stat().st_ino != secret.stat().st_ino


def test_no_bits_that_change_a_programs_user_reach_the_store(store: Store, output: Path) -> None:
    (output / "program").write_text("x")
    (output / "program").chmod(0o7777)
    artifact = _put(store, output)
    assert stat.S_IMODE(store.file_path(artifact, "program").stat().st_mode) == 0o555


def test_a_file_of_holes_takes_no_room_in_the_store(store: Store, output: Path) -> None:
    with (output / "hollow").open("wb") as hollow:
        hollow.truncate(64 << 20)
        hollow.seek(32 << 20)
        hollow.write(b"something")
    wanted = hashlib.sha256((output / "hollow").read_bytes()).hexdigest()
    artifact = _put(store, output)
    path = store.file_path(artifact, "hollow")
    assert path.name == wanted
    assert path.stat().st_size == 64 << 20
    assert path.stat().st_blocks * 512 <= 4 << 20
    assert store.damage(artifact, thorough=True) is None


def test_a_name_that_is_no_text_is_refused_in_words(store: Store, output: Path) -> None:
    (output / "caf\udce9").write_text("x")
    with pytest.raises(StoreError, match="not UTF-8"):
        _put(store, output)


def test_a_pipe_is_refused_before_anything_is_copied(store: Store, output: Path) -> None:
    (output / "a").write_text("a")
    os.mkfifo(output / "z")
    with pytest.raises(OutputError, match="no plain file"):
        _put(store, output)
    assert list((store.root / "objects").iterdir()) == []


def test_an_output_of_a_thousand_folders_in_one_another_is_refused_and_swept(store: Store, output: Path) -> None:
    _nest(output, DEEP)
    with pytest.raises(OutputError, match="folders more than 32 deep"):
        _put(store, output)
    with live_run(store, "next", []):
        assert sorted(path.name for path in (store.root / "work").iterdir()) == ["next"]
    assert list((store.root / "work").iterdir()) == []


def test_a_run_removes_its_own_deep_folders_and_the_whole_store_can_be_removed(store: Store) -> None:
    with live_run(store, "one", []) as work:
        _nest(work, DEEP)
    assert list((store.root / "work").iterdir()) == []
    (store.root / "work" / "dead").mkdir()
    _nest(store.root / "work" / "dead", DEEP)
    remove_store(store)
    assert not store.root.exists()


def test_an_output_that_is_too_large_or_too_many_is_refused(store: Store, output: Path) -> None:
    with (output / "hollow").open("wb") as hollow:
        hollow.truncate(192 << 30)
    with pytest.raises(OutputError, match="192 GiB by the sizes of its files, and may have 16"):
        _put(store, output)
    (output / "hollow").unlink()
    for number in range(21):
        (output / f"{number}").touch()
    with pytest.raises(OutputError, match="more than 20 files and folders"):
        _put(store, output, TreeLimits(entries=20))


def test_other_users_do_not_see_what_jobs_write(store: Store) -> None:
    assert stat.S_IMODE((store.root / "work").stat().st_mode) == 0o700
    (store.root / "work").chmod(0o755)  # as it was in earlier versions
    Store(store.root)
    assert stat.S_IMODE((store.root / "work").stat().st_mode) == 0o700
    with live_run(store, "one", []) as work:
        assert stat.S_IMODE(work.stat().st_mode) == 0o700


@pytest.mark.parametrize(("mode", "stored"), [(0o700, 0o555), (0o4711, 0o555), (0o677, 0o444), (0o000, 0o444)])
def test_an_object_may_be_executed_where_the_owner_of_the_file_might_and_has_the_time_of_all(
    store: Store, output: Path, mode: int, stored: int
) -> None:
    (output / "file").write_bytes(b"abc")
    (output / "file").chmod(mode)
    artifact = _put(store, output)
    status = store.file_path(artifact, "file").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_size) == (stored, 10**18, 3)
    assert artifact.files[0].executable is (stored == 0o555)
    assert not (output / "file").exists()


def test_a_copy_is_closed_to_others_while_it_grows_and_is_a_file_of_its_own(
    store: Store, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (output / "file").write_bytes(b"abc")
    seen: list[tuple[int, int, str]] = []
    copy = objects._copy

    def look(source: int, target: int, size: int, what: str) -> str:
        seen.append((stat.S_IMODE(os.fstat(target).st_mode), size, what))
        (name,) = (path.name for path in (store.root / "work").iterdir() if path.is_file())
        assert name.startswith(".adding-")
        return copy(source, target, size, what)

    monkeypatch.setattr(objects, "_copy", look)
    _put(store, output)
    assert seen == [(0o600, 3, "file")]
    assert [path.name for path in (store.root / "work").iterdir()] == ["run"]


@pytest.mark.parametrize("taken", ["file", "link"])
def test_a_copy_replaces_nothing_and_follows_nothing(store: Store, output: Path, taken: str) -> None:
    (output / "file").write_bytes(b"abc")
    (output.parent / "kept").write_bytes(b"kept")
    temporary = output.parent / "temporary"
    if taken == "file":
        temporary.write_bytes(b"kept")
    else:
        temporary.symlink_to(output.parent / "kept")
    for found in walk(output, TreeLimits()):
        with pytest.raises(FileExistsError):
            add_object(found, temporary, store.object_path)
    assert (output.parent / "kept").read_bytes() == b"kept"
    assert temporary.read_bytes() == b"kept"


def test_a_disk_that_takes_one_byte_at_a_time_takes_all(
    store: Store, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (output / "file").write_bytes(b"a few bytes")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:1])))
    artifact = _put(store, output)
    assert store.file_path(artifact, "file").read_bytes() == b"a few bytes"


def test_files_of_about_a_block_are_stored_whole(store: Store, output: Path) -> None:
    block = 1 << 20
    contents = {f"{size}": b"x" * size for size in (0, 1, block - 1, block, block + 1)}
    contents["zeros"] = bytes(block + 1)
    contents["zeros first"] = bytes(block) + b"x"
    for name, content in contents.items():
        (output / name).write_bytes(content)
    artifact = _put(store, output)
    assert {file.path: store.file_path(artifact, file.path).read_bytes() for file in artifact.files} == contents


def test_no_descriptor_stays_open_whatever_happens(store: Store, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    (output / "file").write_bytes(b"abc")
    _put(store, output)
    assert descriptors() == before
    (output / "file").write_bytes(b"abc")

    def fail(source: int, target: int, size: int, what: str) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(objects, "_copy", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        _put(store, output)
    assert descriptors() == before
    assert [path.name for path in (store.root / "work").iterdir()] == ["run"]
    assert (output / "file").read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("content", "mtime", "stays"),
    [(b"abc", OBJECT_MTIME_NS, True), (b"abc", 1, False), (b"abcd", OBJECT_MTIME_NS, False), (b"", 1, False)],
)
def test_an_object_stays_only_while_its_size_and_its_time_are_as_they_were_left(
    store: Store, output: Path, content: bytes, mtime: int, stays: bool
) -> None:
    (output / "file").write_bytes(b"abc")
    path = store.file_path(_put(store, output), "file")
    path.chmod(0o600)
    path.write_bytes(content)
    os.utime(path, ns=(mtime, mtime))
    before = path.stat().st_ino
    (output / "file").write_bytes(b"abc")
    _put(store, output)
    assert (path.stat().st_ino == before) is stays
    assert path.read_bytes() == b"abc"
