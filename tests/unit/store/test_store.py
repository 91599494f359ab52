"""The store: what is read was written whole, whatever happened in between."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from crossfarm.errors import DamagedError, StoreError
from crossfarm.store.garbage import Retention, collect_garbage
from crossfarm.store.keys import KeyDocument, digest_json
from crossfarm.store.live_runs import live_run
from crossfarm.store.store import Artifact, Store

GROUPS = {"model m": {"name": "m"}}


def _document(seed: object = 0) -> KeyDocument:
    return KeyDocument(
        stage="compile",
        version=1,
        parameters={name: digest_json(group) for name, group in GROUPS.items()},
        sources=digest_json(seed),
        inputs={},
        image="host",
        tools={},
    )


def _put(
    store: Store,
    files: dict[str, bytes],
    *,
    seed: object = 0,
    job: str = "compile:a-m-float32",
    place: Path | None = None,
) -> Artifact:
    document = _document(seed)
    folder = (place or store.root / "work") / f"job-{document.key()[:12]}"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    return store.put(key=document.key(), job=job, folder=folder, document=document, groups=GROUPS, seconds=1.5)


names = st.text("abcdefgh", min_size=1, max_size=6)
contents = st.dictionaries(names, st.binary(max_size=200), max_size=4)


@given(contents)
@settings(max_examples=settings().max_examples // 2)
def test_what_is_put_is_restored_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder / "store")
    artifact = _put(store, files)
    read = store.read(artifact.key)
    assert read == artifact
    store.restore(read, folder / "restored")
    assert {path.name: path.read_bytes() for path in (folder / "restored").iterdir()} == files


def test_folders_and_the_right_to_execute_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    source = store.root / "work" / "x"
    (source / "inputs").mkdir(parents=True)
    (source / "inputs" / "0.bin").write_bytes(b"same")
    (source / "program").write_bytes(b"same")
    (source / "program").chmod(0o755)
    document = _document()
    artifact = store.put(key=document.key(), job="j", folder=source, document=document, groups=GROUPS, seconds=0)
    store.restore(artifact, tmp_path / "out")
    assert os.access(tmp_path / "out" / "program", os.X_OK)
    assert not (tmp_path / "out" / "inputs" / "0.bin").stat().st_mode & 0o111


def test_an_unknown_key_is_no_artifact(tmp_path: Path) -> None:
    assert Store(tmp_path).read("0" * 64) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99, "key": "x"}'])
def test_a_manifest_that_is_torn_is_no_artifact(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    artifact = _put(store, {"a": b"1"})
    store.artifact_path(artifact.key).write_text(text)
    assert store.read(artifact.key) is None


def test_a_corrupt_object_is_found_told_dropped_and_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    artifact = _put(store, {"model.o": b"good", "weights.bin": b"whole"})
    path = store.file_path(artifact, "model.o")
    path.chmod(0o644)
    path.write_bytes(b"evil")
    damage = store.damage(artifact)
    assert damage is not None
    assert "model.o" in damage
    assert "corrupt" in damage
    with pytest.raises(StoreError, match=r"model\.o is corrupt.*dropped"):
        store.restore(artifact, tmp_path / "out")
    assert store.read(artifact.key) is None
    assert not path.exists()
    again = _put(store, {"model.o": b"good", "weights.bin": b"whole"})
    assert store.damage(again, thorough=True) is None


def test_a_flipped_bit_that_left_no_trace_in_the_times_is_found_before_a_job_reads_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    artifact = _put(store, {"model.o": b"good"})
    path = store.file_path(artifact, "model.o")
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"gooe")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.damage(artifact) is None
    with pytest.raises(StoreError, match="corrupt"):
        store.restore(artifact, tmp_path / "out")


def test_a_missing_object_is_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = _put(store, {"a": b"1"})
    store.file_path(artifact, "a").unlink()
    damage = store.damage(artifact)
    assert damage is not None
    assert "missing" in damage


def test_a_put_over_a_tampered_object_makes_it_whole_again(tmp_path: Path) -> None:
    """An object of the same name is taken as it is only while its size and mtime are as they were left."""
    store = Store(tmp_path)
    first = _put(store, {"a": b"good"}, seed=1, job="compile:one")
    path = store.file_path(first, "a")
    for content in (b"evil", b"longer"):
        path.chmod(0o644)
        path.write_bytes(content)
        again = _put(store, {"a": b"good"}, seed=len(content), job="compile:two")
        assert path.read_bytes() == b"good"
        assert store.damage(again, thorough=True) is None
        assert store.damage(first, thorough=True) is None
        assert path.stat().st_mode & 0o222 == 0


def test_a_put_over_a_whole_object_leaves_it_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.file_path(_put(store, {"a": b"good"}, seed=1), "a")
    before = path.stat().st_ino
    _put(store, {"a": b"good"}, seed=2)
    assert path.stat().st_ino == before


def test_a_dropped_artifact_leaves_whole_objects_to_those_who_share_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    damaged = _put(store, {"own": b"mine", "shared": b"ours"}, seed=1, job="compile:one")
    other = _put(store, {"shared": b"ours"}, seed=2, job="compile:two")
    own = store.file_path(damaged, "own")
    own.chmod(0o644)
    own.write_bytes(b"evil")
    store.drop(damaged)
    assert store.read(damaged.key) is None
    assert not own.exists()
    assert store.damage(other, thorough=True) is None
    store.restore(other, tmp_path / "out")
    assert (tmp_path / "out" / "shared").read_bytes() == b"ours"


def test_a_drop_of_an_artifact_whose_objects_are_gone_is_no_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = _put(store, {"a": b"1", "b": b"2"})
    store.file_path(artifact, "a").unlink()
    store.drop(artifact)
    store.drop(artifact)
    assert store.read(artifact.key) is None
    assert store.file_path(artifact, "b").read_bytes() == b"2"


def test_a_link_in_the_output_of_a_job_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folder = tmp_path / "store" / "work" / "x"
    folder.mkdir()
    (folder / "escape").symlink_to("/etc/passwd")
    document = _document()
    with pytest.raises(StoreError, match="no plain file"):
        store.put(key=document.key(), job="j", folder=folder, document=document, groups=GROUPS, seconds=0)
    assert store.read(document.key()) is None


def test_a_store_on_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use the store"):
        Store(tmp_path / "file" / "store")


def test_the_last_artifact_of_a_job_is_the_newest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _put(store, {"a": b"1"}, seed=1)
    second = _put(store, {"a": b"2"}, seed=2)
    last = store.last_artifact("compile:a-m-float32")
    assert last == second
    assert last is not None
    assert store.groups(last) == GROUPS


def test_gc_keeps_what_a_live_run_uses_and_frees_the_rest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = _put(store, {"a": b"1" * 100, "shared": b"s"}, seed=1, job="compile:k")
    gone = _put(store, {"b": b"2" * 100, "shared": b"s"}, seed=2, job="compile:g")
    with live_run(store, "run-1", [kept.key]):
        freed = collect_garbage(store, Retention(age_seconds=0))
    assert freed >= 100
    assert store.read(gone.key) is None
    assert store.damage(kept, thorough=True) is None


def test_gc_by_size_lets_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifacts = [_put(store, {"a": bytes([n]) * 100}, seed=n, job=f"compile:{n}") for n in range(3)]
    for age, artifact in enumerate(artifacts):
        os.utime(store.artifact_path(artifact.key), (1000 + age, 1000 + age))
    os.utime(store.artifact_path(artifacts[0].key), (2000, 2000))
    collect_garbage(store, Retention(size_bytes=200))
    assert [store.read(artifact.key) is not None for artifact in artifacts] == [True, False, True]


def test_gc_sweeps_what_a_killed_run_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.root / "runs" / "dead").write_text("0" * 64)
    (store.root / "work" / "dead" / "job").mkdir(parents=True)
    collect_garbage(store, Retention())
    assert not (store.root / "runs" / "dead").exists()
    assert not (store.root / "work" / "dead").exists()


def test_a_run_sweeps_what_killed_runs_left_and_leaves_live_ones_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.root / "runs" / "dead").write_text("0" * 64)
    (store.root / "work" / "dead" / "job").mkdir(parents=True)
    with live_run(store, "first", []) as first, live_run(store, "second", []) as second:
        assert sorted(path.name for path in (store.root / "work").iterdir()) == ["first", "second"]
        assert first.is_dir()
        assert second.is_dir()
    assert not list((store.root / "work").iterdir())
    assert not list((store.root / "runs").iterdir())


def test_whoever_waits_for_a_key_may_give_up(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 2

    with first.key_lock("k") as is_held:
        assert is_held
        with second.key_lock("k", stop=stop) as is_held_too:
            assert not is_held_too
    with second.key_lock("k", stop=stop) as is_held:
        assert is_held


def test_an_artifact_that_was_made_again_meanwhile_is_not_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    stale = _put(store, {"a": b"first"})
    store.file_path(stale, "a").unlink()
    fresh = _put(store, {"a": b"second"})
    assert fresh.key == stale.key
    with pytest.raises(DamagedError):
        store.restore(stale, tmp_path / "out")
    assert store.read(fresh.key) == fresh


def test_a_stray_file_among_the_artifacts_harms_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = _put(store, {"a": b"1"})
    (store.root / "artifacts" / "stray").write_text("")
    assert store.known_keys() == {artifact.key}


def test_a_store_whose_path_no_compiler_can_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not UTF-8"):
        Store(tmp_path / "caf\udce9")


def test_runs_that_come_and_go_while_gc_collects_disturb_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    errors: list[BaseException] = []
    enough = threading.Event()

    def come_and_go(number: int) -> None:
        try:
            while not enough.is_set():
                with live_run(store, f"run-{number}", []) as work:
                    assert work.is_dir()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for number in range(40):
        with live_run(store, "keeper", [_document(number).key()]) as work:
            kept = _put(store, {"a": bytes([number])}, seed=number, place=work)
            collect_garbage(store, Retention(age_seconds=0))
            assert store.damage(kept, thorough=True) is None
    enough.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_many_threads_may_put_the_same_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    document = _document()
    errors: list[BaseException] = []

    def put(number: int) -> None:
        try:
            folder = store.root / "work" / str(number)
            folder.mkdir()
            (folder / "a").write_bytes(b"x" * 10_000)
            store.put(key=document.key(), job="j", folder=folder, document=document, groups=GROUPS, seconds=0)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    artifact = store.read(document.key())
    assert artifact is not None
    assert store.damage(artifact, thorough=True) is None


class StoreMachine(RuleBasedStateMachine):
    """Puts, damage, gc in any order: an artifact that can be read and is whole holds exactly what was put."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name) / "store")
        self.put_files: dict[str, dict[str, bytes]] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(target=keys, seed=st.integers(0, 3), files=contents)
    def put(self, seed: int, files: dict[str, bytes]) -> str:
        artifact = _put(self.store, files, seed=(seed, sorted(files.items()).__repr__()))
        self.put_files[artifact.key] = files
        return artifact.key

    @rule(key=keys, junk=st.binary(max_size=10))
    def scribble(self, key: str, junk: bytes) -> None:
        artifact = self.store.read(key)
        for file in artifact.files[:1] if artifact else ():
            path = self.store.object_path(file.object)
            if path.exists():
                path.chmod(0o644)
                path.write_bytes(junk)

    @rule(limit=st.integers(0, 400))
    def collect(self, limit: int) -> None:
        collect_garbage(self.store, Retention(size_bytes=limit))

    @invariant()
    def whole_artifacts_hold_what_was_put(self) -> None:
        for key, files in self.put_files.items():
            artifact = self.store.read(key)
            if artifact is None or self.store.damage(artifact) is not None:
                continue
            found = {file.path: self.store.object_path(file.object).read_bytes() for file in artifact.files}
            assert found == files


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=12, deadline=None)
