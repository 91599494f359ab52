"""What lies where in a store, what each read and write says when the file system refuses, and what is left behind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfarm.errors import DamagedError, StoreError
from crossfarm.store.keys import KeyDocument, canonical_json, digest_json
from crossfarm.store.objects import OBJECT_MTIME_NS
from crossfarm.store.store import Artifact, Store, StoredFile, raise_store_error

GROUPS = {"model m": {"a": 1}, "toolchain t": {"b": [2]}}
DOCUMENT = KeyDocument(
    stage="compile",
    version=3,
    parameters={name: digest_json(group) for name, group in GROUPS.items()},
    sources="5" * 64,
    inputs={"prepare": "6" * 64},
    image="host",
    tools={"apache-tvm": "0.27.0"},
)
KEY = DOCUMENT.key()
JOB = "compile:t-m-float32"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""sha256 of the three letters abc."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, **files: bytes) -> Artifact:
    folder = store.root / "work" / "job"
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for name, content in (files or {"program": b"abc", "text": b"abc"}).items():
        (folder / "sub" / name).write_bytes(content)
        if name == "program":
            (folder / "sub" / name).chmod(0o700)
    return store.put(key=KEY, job=JOB, folder=folder, document=DOCUMENT, groups=GROUPS, seconds=1.23456)


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_new_store_has_its_folders_in_folders_that_need_not_exist(tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet" / "store"
    Store(root)
    Store(root)
    names = ["artifacts", "groups", "last", "locks", "objects", "runs", "work"]
    assert sorted(path.name for path in root.iterdir()) == names


def test_an_artifact_lies_where_the_layout_says(store: Store) -> None:
    artifact = put(store)
    assert artifact == Artifact(
        key=KEY,
        job=JOB,
        seconds=1.235,
        document=DOCUMENT.to_json(),
        files=(
            StoredFile(path="sub/program", object=f"{ABC}x", size=3),
            StoredFile(path="sub/text", object=ABC, size=3),
        ),
    )
    assert [file.executable for file in artifact.files] == [True, False]
    assert files_below(store.root) == sorted(
        [
            f"artifacts/{KEY[:2]}/{KEY}",
            *(f"groups/{digest[:2]}/{digest}" for digest in DOCUMENT.parameters.values()),
            f"last/{JOB}",
            "lock",
            f"objects/ba/{ABC}",
            f"objects/ba/{ABC}x",
        ]
    )
    assert store.artifact_path(KEY) == store.root / "artifacts" / KEY[:2] / KEY
    assert store.object_path(ABC) == store.root / "objects" / "ba" / ABC
    assert json.loads(store.artifact_path(KEY).read_text()) == {
        "format": 1,
        "key": KEY,
        "job": JOB,
        "seconds": 1.235,
        "document": DOCUMENT.to_json(),
        "files": [["sub/program", f"{ABC}x", 3], ["sub/text", ABC, 3]],
    }
    assert (store.root / "last" / JOB).read_text() == KEY
    for name, digest in DOCUMENT.parameters.items():
        assert (store.root / "groups" / digest[:2] / digest).read_text() == canonical_json(GROUPS[name])
    assert store.known_keys() == {KEY}
    assert store.known_jobs() == {JOB}
    assert store.manifests() == [store.artifact_path(KEY)]


def test_what_was_stored_is_read_back(store: Store) -> None:
    artifact = put(store)
    assert store.read(KEY) == artifact
    assert store.last_artifact(JOB) == artifact
    assert store.last_artifact("compile:other") is None
    (store.root / "last" / JOB).write_text(f" {KEY}\n")
    assert store.last_artifact(JOB) == artifact
    (store.root / "last" / JOB).write_text("\n")
    assert store.last_artifact(JOB) is None
    (store.root / "last" / JOB).write_bytes(b"\xff")
    assert store.last_artifact(JOB) is None


def test_groups_that_are_gone_or_torn_are_left_out(store: Store) -> None:
    artifact = put(store)
    assert store.groups(artifact) == GROUPS
    model, toolchain = DOCUMENT.parameters.values()
    (store.root / "groups" / model[:2] / model).unlink()
    assert store.groups(artifact) == {"toolchain t": {"b": [2]}}
    (store.root / "groups" / toolchain[:2] / toolchain).write_text("{")
    assert store.groups(artifact) == {}
    assert store.groups(Artifact(key=KEY, job=JOB, seconds=0, document={}, files=())) == {}


def test_groups_that_are_there_are_not_written_again(store: Store) -> None:
    put(store)
    paths = [store.root / "groups" / digest[:2] / digest for digest in DOCUMENT.parameters.values()]
    before = [path.stat().st_ino for path in paths]
    put(store)
    assert [path.stat().st_ino for path in paths] == before


@pytest.mark.parametrize("change", [{"format": 2}, {"key": "0" * 64}, {"files": [["a", ABC]]}, {"files": 1}])
def test_a_manifest_of_another_format_key_or_shape_is_no_artifact(store: Store, change: dict[str, object]) -> None:
    put(store)
    path = store.artifact_path(KEY)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert store.read(KEY) is None


def test_manifests_that_are_half_written_are_removed(store: Store) -> None:
    put(store)
    half = store.artifact_path(KEY).with_name(f".{KEY}.123")
    half.write_text("{")
    assert store.manifests() == [store.artifact_path(KEY)]
    assert not half.exists()


def _replaced_by_a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _replaced_by_a_file(path: Path) -> None:
    if path.is_dir():
        for inner in sorted(path.rglob("*"), reverse=True):
            inner.rmdir() if inner.is_dir() else inner.unlink()
        path.rmdir()
    path.write_text("")


BREAKS: dict[str, tuple[Callable[[Store, Artifact], None], Callable[[Store, Artifact], object], str]] = {
    "read": (
        lambda store, _: _replaced_by_a_folder(store.artifact_path(KEY)),
        lambda store, _: store.read(KEY),
        f"cannot read artifact {KEY}: Is a directory",
    ),
    "known keys": (
        lambda store, _: _replaced_by_a_file(store.root / "artifacts"),
        lambda store, _: store.known_keys(),
        "cannot list the artifacts of {root}: Not a directory",
    ),
    "known jobs": (
        lambda store, _: _replaced_by_a_file(store.root / "last"),
        lambda store, _: store.known_jobs(),
        "cannot list the jobs of {root}: Not a directory",
    ),
    "drop": (
        lambda store, _: _replaced_by_a_folder(store.artifact_path(KEY)),
        lambda store, artifact: store.drop(artifact),
        f"cannot drop the damaged artifact of {JOB}: Is a directory",
    ),
    "put": (
        lambda store, _: _replaced_by_a_file(store.root / "last"),
        lambda store, _: put(store),
        f"cannot store the artifact of {JOB}: File exists",
    ),
    "restore": (
        lambda store, _: (store.root / "file").write_text(""),
        lambda store, artifact: store.restore(artifact, store.root / "file" / "out"),
        f"cannot lay out the artifact of {JOB}: Not a directory",
    ),
    "key lock": (
        lambda store, _: _replaced_by_a_file(store.root / "locks"),
        lambda store, _: store.key_lock(KEY).__enter__(),
        f"cannot lock {KEY[:12]} in the store {{root}}: Not a directory",
    ),
    "file path": (
        lambda store, _: None,
        lambda store, artifact: store.file_path(artifact, "sub/other"),
        f"the artifact of {JOB} holds no sub/other; remove it with ./inv clean and run again",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_the_file_system_refuses_is_told_in_one_line(store: Store, what: str) -> None:
    break_it, do, message = BREAKS[what]
    artifact = put(store)
    break_it(store, artifact)
    with pytest.raises(StoreError) as caught:
        do(store, artifact)
    assert str(caught.value) == message.format(root=store.root)


def test_a_store_that_cannot_be_made_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "file" / "store")
    assert str(caught.value) == f"cannot use the store {tmp_path}/file/store: Not a directory"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "it: the disk is full; free some space, for example with ./inv clean --older-than 7"),
        (errno.EDQUOT, "it: the disk is full; free some space, for example with ./inv clean --older-than 7"),
        (errno.EIO, "it: Input/output error"),
    ],
)
def test_a_full_disk_is_told_from_other_errors(number: int, told: str) -> None:
    with pytest.raises(StoreError) as caught:
        raise_store_error(OSError(number, os.strerror(number)), "it")
    assert str(caught.value) == told
    with pytest.raises(StoreError, match=r"^it: odd$"):
        raise_store_error(OSError("odd"), "it")


def test_damage_names_the_object_and_the_file(store: Store) -> None:
    artifact = put(store)
    assert store.damage(artifact) is None
    assert store.damage(artifact, thorough=True) is None
    path = store.object_path(ABC)
    path.chmod(0o600)
    for content in (b"abd", b"ab"):
        path.write_bytes(content)
        assert store.damage(artifact) == "object ba7816bf8f01 of sub/text is corrupt"
    path.unlink()
    assert store.damage(artifact) == "object ba7816bf8f01 of sub/text is missing"
    path.symlink_to(path)
    assert store.damage(artifact) == (
        "object ba7816bf8f01 of sub/text cannot be read (Too many levels of symbolic links)"
    )


def test_an_object_whose_time_alone_changed_is_whole_and_one_whose_time_did_not_is_hashed_on_demand(
    store: Store,
) -> None:
    artifact = put(store)
    path = store.object_path(f"{ABC}x")
    os.utime(path)
    assert store.damage(artifact) is None
    path.chmod(0o600)
    path.write_bytes(b"abd")
    os.utime(path, ns=(0, OBJECT_MTIME_NS))
    assert store.damage(artifact) is None
    assert store.damage(artifact, thorough=True) == "object ba7816bf8f01 of sub/program is corrupt"
    path.write_bytes(b"abcd")
    os.utime(path, ns=(0, OBJECT_MTIME_NS))
    assert store.damage(artifact) == "object ba7816bf8f01 of sub/program is corrupt"


@pytest.mark.parametrize("content", [b"abd", b"abcd"])
def test_a_drop_removes_damaged_objects_and_leaves_whole_ones(store: Store, content: bytes) -> None:
    artifact = put(store)
    store.object_path(ABC).chmod(0o600)
    store.object_path(ABC).write_bytes(content)
    store.drop(artifact)
    assert not store.artifact_path(KEY).exists()
    assert not store.object_path(ABC).exists()
    assert store.object_path(f"{ABC}x").read_bytes() == b"abc"


def test_files_are_laid_out_as_links_and_the_artifact_counts_as_used(store: Store, tmp_path: Path) -> None:
    artifact = put(store)
    os.utime(store.artifact_path(KEY), (1, 1))
    out = tmp_path / "not" / "yet"
    store.restore(artifact, out)
    assert files_below(out) == ["sub/program", "sub/text"]
    assert (out / "sub" / "text").samefile(store.object_path(ABC))
    assert store.file_path(artifact, "sub/program") == store.object_path(f"{ABC}x")
    assert store.artifact_path(KEY).stat().st_mtime > 1
    store.touch("0" * 64)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_where_no_link_can_be_made_files_are_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number))

    artifact = put(store)
    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "out").mkdir()
    store.restore(artifact, tmp_path / "out")
    copy = tmp_path / "out" / "sub" / "program"
    assert copy.read_bytes() == b"abc"
    status = copy.stat()
    assert stat.S_IMODE(status.st_mode) == 0o555
    assert (status.st_nlink, status.st_mtime_ns) == (1, OBJECT_MTIME_NS)


def test_a_link_that_fails_for_another_reason_is_no_copy(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    artifact = put(store)
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match=f"cannot lay out the artifact of {JOB}: the disk is full"):
        store.restore(artifact, tmp_path / "out")
    assert files_below(tmp_path / "out") == []


def test_a_write_that_fails_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store)
    before = files_below(store.root)

    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        put(store)
    work = "work/job/sub/"
    assert [name for name in files_below(store.root) if not name.startswith(work)] == before


def test_a_damaged_artifact_stays_while_another_one_makes_it_again(store: Store, tmp_path: Path) -> None:
    artifact = put(store)
    store.object_path(ABC).unlink()
    message = f"the artifact of {JOB} is damaged: object ba7816bf8f01 of sub/text is missing; it was dropped"
    with Store(store.root).key_lock(KEY), pytest.raises(DamagedError, match=message):
        store.restore(artifact, tmp_path / "out", stop=lambda: True)
    assert store.artifact_path(KEY).exists()
    assert not (tmp_path / "out").exists()
    with pytest.raises(DamagedError, match=message):
        store.restore(artifact, tmp_path / "out")
    assert not store.artifact_path(KEY).exists()


def test_whoever_waits_for_a_key_gets_it_when_it_is_free(store: Store) -> None:
    """The lock is given back while the other one is asked whether it goes on waiting."""
    first = store.key_lock(KEY)
    assert first.__enter__()
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            first.__exit__(None, None, None)
        return False

    with Store(store.root).key_lock(KEY, stop=stop) as is_held:
        assert is_held
    assert asked == 2
    with store.key_lock("another"), store.key_lock(KEY) as is_held:
        assert is_held


def test_the_store_is_shared_by_those_who_add_and_closed_by_the_one_who_collects(store: Store) -> None:
    other = Store(store.root)
    with store.locked(fcntl.LOCK_SH):
        with other.locked(fcntl.LOCK_SH | fcntl.LOCK_NB):
            pass
        with pytest.raises(BlockingIOError), other.locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            pass
    with (
        store.locked(fcntl.LOCK_EX),
        pytest.raises(BlockingIOError),
        other.locked(fcntl.LOCK_SH | fcntl.LOCK_NB),
    ):
        pass
    with other.locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
        pass


def test_a_put_waits_for_the_one_who_collects(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    flock = fcntl.flock

    def record(stream: object, mode: int) -> None:
        modes.append(mode)
        flock(stream, mode)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", record)
    put(store)
    assert modes == [fcntl.LOCK_SH]


def test_every_file_is_synced_before_it_has_its_name_and_its_folder_after_that(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes | Path] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}")
        synced.append(path.resolve() if path.is_dir() else path.read_bytes())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    artifact = put(store)
    # Whatever names something else comes after it: the manifest after the objects and the groups.
    assert synced[:2] == [b"abc", b"abc"]
    folders = {store.object_path(file.object).parent for file in artifact.files}
    assert set(synced[2 : 2 + len(folders)]) == folders
    expected: list[bytes | Path] = []
    for name, digest in artifact.document["parameters"].items():
        expected += [canonical_json(GROUPS[name]).encode(), store.root / "groups" / digest[:2]]
    path = store.artifact_path(KEY)
    expected += [path.read_bytes(), path.parent, KEY.encode(), store.root / "last"]
    assert synced[2 + len(folders) :] == expected
