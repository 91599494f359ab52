"""The store: artifacts by key, their files by content, safe to share between processes and after kill -9.

    objects/ab/abcd...      one file by the sha256 of its content (`...x` when it is executable), read-only
    artifacts/ab/abcd...    one artifact by key: a JSON manifest of paths and objects; its mtime is its last use
    groups/ab/abcd...       parameter groups by digest, so that a later plan can say what changed
    last/JOB                key of the newest artifact of a job id
    runs/ID                 keys that a live run uses; the run holds a lock on the file as long as it lives
    work/RUN/               folders of running jobs
    lock                    shared by whoever adds, exclusive for gc

Whatever is added is written under a temporary name, synced and renamed, objects before the manifest that names them.
So a manifest that can be read names objects that were written whole. Objects carry a fixed mtime: a file that anybody
wrote to since shows by a cheap stat; its content is hashed before a job reads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from crossfarm.errors import StoreError
from crossfarm.keys import KeyDocument, canonical_json, digest_file

FORMAT = 1
OBJECT_MTIME_NS = 1_000_000_000 * 10**9
"""mtime of every object (2001-09-09): any later write changes it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file of an artifact: its path in it, the object that holds it, its size in bytes."""

    path: str
    object: str
    size: int

    @property
    def executable(self) -> bool:
        """Whether the file may be executed."""
        return self.object.endswith("x")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact:
    """A stored artifact.

    Attributes:
        key: its key.
        job: id of the job that made it.
        seconds: wall time that making it took.
        document: the key document as plain JSON.
        files: its files, sorted by path.
    """

    key: str
    job: str
    seconds: float
    document: Mapping[str, Any]
    files: tuple[StoredFile, ...]


class Store:
    """A folder of artifacts. One instance per process; threads may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for name in ("objects", "artifacts", "groups", "last", "runs", "work", "locks"):
                (root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _raise_store_error(error, f"cannot use the store {root}")
        self._lock_path = root / "lock"

    def artifact_path(self, key: str) -> Path:
        """Return the path of the manifest of `key`, whether it is there or not."""
        return self.root / "artifacts" / key[:2] / key

    def object_path(self, name: str) -> Path:
        """Return the path of an object, whether it is there or not."""
        return self.root / "objects" / name[:2] / name

    def read(self, key: str) -> Artifact | None:
        """Return the artifact of `key`, or None when there is none that can be read."""
        try:
            raw = json.loads(self.artifact_path(key).read_bytes())
            if raw["format"] != FORMAT or raw["key"] != key:
                return None
            return Artifact(
                key=key,
                job=raw["job"],
                seconds=raw["seconds"],
                document=raw["document"],
                files=tuple(StoredFile(path=path, object=name, size=size) for path, name, size in raw["files"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        except OSError as error:
            _raise_store_error(error, f"cannot read artifact {key}")

    def known_keys(self) -> set[str]:
        """Return the keys of all artifacts, as the folders list them; cheaper than asking for many one by one."""
        found: set[str] = set()
        for folder in (self.root / "artifacts").iterdir():
            found.update(path.name for path in folder.iterdir())
        return found

    def known_jobs(self) -> set[str]:
        """Return the ids of all jobs that ever left an artifact."""
        return {path.name for path in (self.root / "last").iterdir()}

    def damage(self, artifact: Artifact, *, thorough: bool = False) -> str | None:
        """Say what is wrong with the objects of an artifact, or None when all are whole.

        Args:
            artifact: the artifact.
            thorough: hash every object; otherwise only those whose size or mtime is not as it was left.
        """
        for file in artifact.files:
            path = self.object_path(file.object)
            try:
                status = path.stat()
            except FileNotFoundError:
                return f"object {file.object[:12]} of {file.path} is missing"
            untouched = status.st_size == file.size and status.st_mtime_ns == OBJECT_MTIME_NS
            if untouched and not thorough:
                continue
            if status.st_size != file.size or digest_file(path) != file.object[:64]:
                return f"object {file.object[:12]} of {file.path} is corrupt"
        return None

    def drop(self, artifact: Artifact) -> None:
        """Remove an artifact and those of its objects that are damaged; whole objects may belong to others too."""
        self.artifact_path(artifact.key).unlink(missing_ok=True)
        for file in artifact.files:
            path = self.object_path(file.object)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size != file.size or digest_file(path) != file.object[:64]:
                    path.unlink()

    def last_artifact(self, job: str) -> Artifact | None:
        """Return the newest artifact of a job id, whatever its key, or None."""
        try:
            return self.read((self.root / "last" / job).read_text().strip())
        except OSError:
            return None

    def groups(self, artifact: Artifact) -> dict[str, Any]:
        """Return the parameter groups that an artifact's key was made of; those that are gone are left out."""
        found: dict[str, Any] = {}
        for name, digest in artifact.document.get("parameters", {}).items():
            with contextlib.suppress(OSError, ValueError):
                found[name] = json.loads((self.root / "groups" / digest[:2] / digest).read_bytes())
        return found

    def put(
        self, *, key: str, job: str, folder: Path, document: KeyDocument, groups: Mapping[str, Any], seconds: float
    ) -> Artifact:
        """Move the files of `folder` into the store as the artifact of `key`.

        Args:
            key: the job's key.
            job: the job's id.
            folder: what the job wrote, on the store's own file system; its files are moved away.
            document: the key document.
            groups: the parameter groups that the document names by digest.
            seconds: wall time that the job took.

        Raises:
            StoreError: the disk is full, the folder holds a link or a device.
        """
        try:
            with self._locked(fcntl.LOCK_SH):
                files = tuple(self._put_file(folder, path) for path in _plain_files(folder))
                for name, digest in document.parameters.items():
                    path = self.root / "groups" / digest[:2] / digest
                    if not path.exists():
                        self._write(path, canonical_json(groups[name]))
                manifest = {
                    "format": FORMAT,
                    "key": key,
                    "job": job,
                    "seconds": round(seconds, 3),
                    "document": document.to_json(),
                    "files": [[file.path, file.object, file.size] for file in files],
                }
                self._write(self.artifact_path(key), canonical_json(manifest))
                self._write(self.root / "last" / job, key)
        except OSError as error:
            _raise_store_error(error, f"cannot store the artifact of {job}")
        return Artifact(key=key, job=job, seconds=seconds, document=document.to_json(), files=files)

    def restore(self, artifact: Artifact, folder: Path) -> None:
        """Lay the files of an artifact into `folder` as read-only links to the objects (copies across file systems).

        Raises:
            StoreError: an object is missing or its content is not what it was. The artifact is dropped, so that the
                next run makes it again.
        """
        damage = self.damage(artifact, thorough=True)
        if damage:
            self.drop(artifact)
            raise StoreError(
                f"the artifact of {artifact.job} is damaged: {damage}; it was dropped, run the same command again"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in artifact.files:
                target = folder / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(self.object_path(file.object), target)
        except OSError as error:
            _raise_store_error(error, f"cannot lay out the artifact of {artifact.job}")
        self.touch(artifact.key)

    def file_path(self, artifact: Artifact, path: str) -> Path:
        """Return where the content of one file of an artifact lies, for reading only.

        Raises:
            StoreError: the artifact has no such file.
        """
        for file in artifact.files:
            if file.path == path:
                return self.object_path(file.object)
        raise StoreError(f"the artifact of {artifact.job} holds no {path}; remove it with ./inv clean and run again")

    def touch(self, key: str) -> None:
        """Mark an artifact as used now, for gc."""
        with contextlib.suppress(OSError):
            os.utime(self.artifact_path(key))

    @contextlib.contextmanager
    def key_lock(self, key: str) -> Iterator[None]:
        """Hold the lock of a key, so that two runs that share the store do not make the same artifact twice."""
        with (self.root / "locks" / key).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def live_run(self, run: str, keys: Iterator[str]) -> Iterator[Path]:
        """Protect `keys` from gc as long as the block runs; yields the run's work folder and removes it at the end."""
        path, work = self.root / "runs" / run, self.root / "work" / run
        try:
            with self._locked(fcntl.LOCK_SH):
                stream = path.open("w")
                fcntl.flock(stream, fcntl.LOCK_EX)
                stream.write("\n".join(keys))
                stream.flush()
                work.mkdir(parents=True)
        except OSError as error:
            _raise_store_error(error, f"cannot begin a run in the store {self.root}")
        try:
            yield work
        finally:
            path.unlink(missing_ok=True)
            stream.close()
            _remove_tree(work)

    @contextlib.contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        with self._lock_path.open("a") as stream:
            fcntl.flock(stream, mode)
            yield

    def _put_file(self, folder: Path, path: Path) -> StoredFile:
        status = path.stat()
        executable = bool(status.st_mode & stat.S_IXUSR)
        name = digest_file(path) + ("x" if executable else "")
        target = self.object_path(name)
        if not _is_untouched(target, status.st_size):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.chmod(0o555 if executable else 0o444)
            os.utime(path, ns=(OBJECT_MTIME_NS, OBJECT_MTIME_NS))
            _sync(path)
            path.rename(target)
            _sync(target.parent)
        return StoredFile(path=path.relative_to(folder).as_posix(), object=name, size=status.st_size)

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex}")
        try:
            with temporary.open("w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)

    def collect_garbage(self, *, max_age_seconds: float | None = None, max_bytes: int | None = None) -> int:
        """Remove old artifacts, then every object that no artifact names. Returns the bytes freed.

        Args:
            max_age_seconds: artifacts that were not used for so long go.
            max_bytes: the least recently used artifacts go until the rest is at most this size.

        Artifacts of live runs stay, and runs that died leave nothing behind.
        """
        with self._locked(fcntl.LOCK_EX):
            protected = self._sweep_runs()
            artifacts = sorted(self._all_manifests(), key=lambda path: path.stat().st_mtime)
            kept = self._choose(artifacts, protected, max_age_seconds=max_age_seconds, max_bytes=max_bytes)
            needed: set[str] = set()
            groups: set[str] = set()
            for path in artifacts:
                artifact = self.read(path.name) if path.name in kept else None
                if artifact is None:
                    path.unlink(missing_ok=True)
                    continue
                needed.update(file.object for file in artifact.files)
                groups.update(artifact.document.get("parameters", {}).values())
            freed = _remove_unnamed(self.root / "objects", needed) + _remove_unnamed(self.root / "groups", groups)
            for lock in (self.root / "locks").iterdir():
                if lock.name not in kept and lock.name not in protected:
                    lock.unlink(missing_ok=True)
            return freed

    def verify(self) -> list[str]:
        """Hash every object of every artifact, drop the artifacts that are damaged, and say which and why."""
        told = []
        for path in list(self._all_manifests()):
            artifact = self.read(path.name)
            damage = self.damage(artifact, thorough=True) if artifact else "its manifest cannot be read"
            if artifact is None:
                path.unlink(missing_ok=True)
            elif damage:
                self.drop(artifact)
            if damage:
                told.append(f"{artifact.job if artifact else path.name}: {damage}")
        return told

    def live_runs(self) -> int:
        """Return how many runs use this store now."""
        with self._locked(fcntl.LOCK_EX):
            self._sweep_runs()
            return sum(1 for _ in (self.root / "runs").iterdir())

    def _sweep_runs(self) -> set[str]:
        """Return the keys of live runs; remove what dead ones left."""
        protected: set[str] = set()
        alive: set[str] = set()
        for path in (self.root / "runs").iterdir():
            with path.open("r+") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    alive.add(path.name)
                    protected.update(stream.read().split())
                else:
                    path.unlink(missing_ok=True)
        for work in (self.root / "work").iterdir():
            if work.name not in alive:
                _remove_tree(work)
        return protected

    def _all_manifests(self) -> Iterator[Path]:
        for path in (self.root / "artifacts").glob("??/*"):
            if path.name.startswith("."):
                path.unlink(missing_ok=True)
            else:
                yield path

    def _choose(
        self, artifacts: list[Path], protected: set[str], *, max_age_seconds: float | None, max_bytes: int | None
    ) -> set[str]:
        """Return the keys to keep; `artifacts` are sorted by last use, oldest first."""
        kept: set[str] = set()
        seen: set[str] = set()
        total = 0
        now = time.time()
        for path in reversed(artifacts):
            artifact = self.read(path.name)
            if artifact is None:
                continue
            fresh = [file for file in artifact.files if file.object not in seen]
            size = sum(file.size for file in fresh)
            too_old = max_age_seconds is not None and now - path.stat().st_mtime > max_age_seconds
            too_large = max_bytes is not None and total + size > max_bytes
            if path.name in protected or not (too_old or too_large):
                kept.add(path.name)
                seen.update(file.object for file in fresh)
                total += size
        return kept


def _plain_files(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted; links and devices are refused, because a store cannot vouch for them."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found.append(path)
        elif not stat.S_ISDIR(mode):
            name = path.relative_to(folder)
            raise StoreError(f"a job wrote {name}, which is no plain file; artifacts hold files only")
    return found


def _is_untouched(path: Path, size: int) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return status.st_size == size and status.st_mtime_ns == OBJECT_MTIME_NS


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _remove_unnamed(root: Path, named: set[str]) -> int:
    freed = 0
    for path in root.glob("??/*"):
        if path.name not in named:
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
    return freed


def _raise_store_error(error: OSError, what: str) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free some space, for example with ./inv clean --older-than 7"
        raise StoreError(f"{what}: the disk is full; {advice}") from error
    raise StoreError(f"{what}: {error.strerror or error}") from error
