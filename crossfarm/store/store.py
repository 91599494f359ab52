"""The store: artifacts by key, their files by content, safe to share between processes and after kill -9.

    objects/ab/abcd...      one file by the sha256 of its content (`...x` when it is executable), read-only
    artifacts/ab/abcd...    one artifact by key: a JSON manifest of paths and objects; its mtime is its last use
    groups/ab/abcd...       parameter groups by digest, so that a later plan can say what changed
    last/JOB                key of the newest artifact of a job id
    runs/ID                 keys that a live run uses; the run holds a lock on the file as long as it lives
    work/RUN/               folders of running jobs; nobody else's to look into
    work/.adding-...        a file on its way to the objects
    locks/                  one lock per key, held while its artifact is made
    zig/                    the C compiler's own cache
    lock                    shared by whoever adds, exclusive for gc (crossfarm.store.garbage)

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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

from crossfarm.errors import DamagedError, StoreError
from crossfarm.store.keys import KeyDocument, canonical_json, digest_file
from crossfarm.store.objects import OBJECT_MTIME_NS, add_object
from crossfarm.util.files import sync_folder, write_text
from crossfarm.util.trees import TreeEntry, TreeLimits, walk

FORMAT = 1
TREE_LIMITS = TreeLimits()
LOCK_POLL_SECONDS = 0.05
"""How often a job that waits for another run looks whether it shall go on waiting."""


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
            str(root.absolute()).encode()
        except UnicodeEncodeError:
            raise StoreError(
                f"cannot use the store {root}: its path is not UTF-8, which compilers need; give another --store"
            ) from None
        self._objects, self._artifacts = f"{root}/objects", f"{root}/artifacts"
        try:
            for name in ("objects", "artifacts", "groups", "last", "runs", "work", "locks"):
                (root / name).mkdir(parents=True, exist_ok=True)
            _close_to_others(root / "work")
        except OSError as error:
            raise_store_error(error, f"cannot use the store {root}")

    def artifact_path(self, key: str) -> Path:
        """Return the path of the manifest of `key`, whether it is there or not."""
        return Path(f"{self._artifacts}/{key[:2]}/{key}")

    def object_path(self, name: str) -> Path:
        """Return the path of an object, whether it is there or not."""
        return Path(f"{self._objects}/{name[:2]}/{name}")

    def read(self, key: str) -> Artifact | None:
        """Return the artifact of `key`, or None when there is none that can be read."""
        try:
            with open(f"{self._artifacts}/{key[:2]}/{key}", "rb") as stream:  # noqa: PTH123 - asked for every job
                raw = json.loads(stream.read())
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
            raise_store_error(error, f"cannot read artifact {key}")

    def known_keys(self) -> set[str]:
        """Return the keys of all artifacts, as the folders list them; cheaper than asking for many one by one.

        Raises:
            StoreError: a folder of the store cannot be read.
        """
        found: set[str] = set()
        try:
            for folder in os.scandir(self.root / "artifacts"):
                if folder.is_dir():
                    found.update(entry.name for entry in os.scandir(folder))
        except OSError as error:
            raise_store_error(error, f"cannot list the artifacts of {self.root}")
        return found

    def known_jobs(self) -> set[str]:
        """Return the ids of all jobs that ever left an artifact.

        Raises:
            StoreError: a folder of the store cannot be read.
        """
        try:
            return {entry.name for entry in os.scandir(self.root / "last")}
        except OSError as error:
            raise_store_error(error, f"cannot list the jobs of {self.root}")

    def manifests(self) -> list[Path]:
        """Return the paths of all manifests; what a killed run left half-written is removed on the way."""
        found = []
        for path in (self.root / "artifacts").glob("??/*"):
            if path.name.startswith("."):
                path.unlink(missing_ok=True)
            else:
                found.append(path)
        return found

    def damage(self, artifact: Artifact, *, thorough: bool = False) -> str | None:
        """Say what is wrong with the objects of an artifact, or None when all are whole.

        Args:
            artifact: the artifact.
            thorough: hash every object; otherwise only those whose size or mtime is not as it was left.
        """
        for file in artifact.files:
            path = f"{self._objects}/{file.object[:2]}/{file.object}"
            try:
                status = os.stat(path)  # noqa: PTH116 - asked for every file of every artifact
                untouched = status.st_size == file.size and status.st_mtime_ns == OBJECT_MTIME_NS
                if untouched and not thorough:
                    continue
                if status.st_size != file.size or digest_file(Path(path)) != file.object[:64]:
                    return f"object {file.object[:12]} of {file.path} is corrupt"
            except FileNotFoundError:
                return f"object {file.object[:12]} of {file.path} is missing"
            except OSError as error:
                return f"object {file.object[:12]} of {file.path} cannot be read ({error.strerror})"
        return None

    def drop(self, artifact: Artifact) -> None:
        """Remove an artifact and those of its objects that are damaged; whole objects may belong to others too."""
        try:
            self.artifact_path(artifact.key).unlink(missing_ok=True)
            for file in artifact.files:
                path = self.object_path(file.object)
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_size != file.size or digest_file(path) != file.object[:64]:
                        path.unlink()
        except OSError as error:
            raise_store_error(error, f"cannot drop the damaged artifact of {artifact.job}")

    def last_artifact(self, job: str) -> Artifact | None:
        """Return the newest artifact of a job id, whatever its key, or None when there was none or it is gone."""
        try:
            key = (self.root / "last" / job).read_text().strip()
        except (OSError, ValueError):
            return None
        return self.read(key) if key else None

    def groups(self, artifact: Artifact) -> dict[str, Any]:
        """Return the parameter groups that an artifact's key was made of; those that are gone are left out."""
        found: dict[str, Any] = {}
        for name, digest in artifact.document.get("parameters", {}).items():
            with contextlib.suppress(OSError, ValueError):
                found[name] = json.loads((self.root / "groups" / digest[:2] / digest).read_bytes())
        return found

    def put(
        self,
        *,
        key: str,
        job: str,
        folder: Path,
        document: KeyDocument,
        groups: Mapping[str, Any],
        seconds: float,
        limits: TreeLimits = TREE_LIMITS,
    ) -> Artifact:
        """Move the files of `folder` into the store as the artifact of `key`.

        Args:
            key: the job's key.
            job: the job's id.
            folder: what the job wrote; its files are moved away.
            document: the key document.
            groups: the parameter groups that the document names by digest.
            seconds: wall time that the job took.
            limits: what the folder may hold.

        Raises:
            OutputError: the folder holds a link or a device, or more than it may.
            StoreError: the disk is full, or a file changes meanwhile.
        """
        seconds = round(seconds, 3)
        try:
            with self.locked(fcntl.LOCK_SH):
                for found in walk(folder, limits):  # all of it, before anything is copied
                    found.require_file()
                files = tuple(self._put_file(found) for found in walk(folder, limits))
                for objects in {self.object_path(file.object).parent for file in files}:
                    sync_folder(objects)
                for name, digest in document.parameters.items():
                    path = self.root / "groups" / digest[:2] / digest
                    if not path.exists():
                        write_text(path, canonical_json(groups[name]))
                manifest = {
                    "format": FORMAT,
                    "key": key,
                    "job": job,
                    "seconds": seconds,
                    "document": document.to_json(),
                    "files": [[file.path, file.object, file.size] for file in files],
                }
                write_text(self.artifact_path(key), canonical_json(manifest))
                write_text(self.root / "last" / job, key)
        except OSError as error:
            raise_store_error(error, f"cannot store the artifact of {job}")
        return Artifact(key=key, job=job, seconds=seconds, document=document.to_json(), files=files)

    def restore(self, artifact: Artifact, folder: Path, *, stop: Callable[[], bool] = lambda: False) -> None:
        """Lay the files of an artifact into `folder` as read-only links to the objects (copies across file systems).

        Args:
            artifact: the artifact.
            folder: where to; made when missing.
            stop: asked again and again while another one makes a damaged artifact again; true ends the waiting.

        Raises:
            DamagedError: an object is missing or its content is not what it was. The artifact is dropped, so that the
                next run makes it again.
            StoreError: the disk is full, or the folder cannot be written.
        """
        damage = self.damage(artifact, thorough=True)
        if damage:
            with self.key_lock(artifact.key, stop=stop) as is_held:
                # Another one may have made it again meanwhile, and an equal artifact need not be the damaged one.
                if is_held and self.read(artifact.key) == artifact and self.damage(artifact, thorough=True):
                    self.drop(artifact)
            raise DamagedError(
                f"the artifact of {artifact.job} is damaged: {damage}; it was dropped, run the same command again"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in artifact.files:
                target = folder / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(self.object_path(file.object), target)
        except OSError as error:
            raise_store_error(error, f"cannot lay out the artifact of {artifact.job}")
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
            os.utime(f"{self._artifacts}/{key[:2]}/{key}")

    @contextlib.contextmanager
    def key_lock(self, key: str, *, stop: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Hold the lock of a key, so that two runs that share the store do not make the same artifact twice.

        Args:
            key: the key.
            stop: asked again and again while another run holds the lock; true ends the waiting.

        Yields:
            Whether the lock is held; false only when `stop` said so.

        Raises:
            StoreError: the lock's file cannot be made.
        """
        try:
            stream = (self.root / "locks" / key).open("w")
        except OSError as error:
            raise_store_error(error, f"cannot lock {key[:12]} in the store {self.root}")
        with stream:
            is_held = _try_lock(stream)
            while not is_held and not stop():
                time.sleep(LOCK_POLL_SECONDS)
                is_held = _try_lock(stream)
            yield is_held

    @contextlib.contextmanager
    def locked(self, mode: int) -> Iterator[None]:
        """Hold the store's own lock: `fcntl.LOCK_SH` while something is added, `fcntl.LOCK_EX` while it is collected.

        Raises:
            BlockingIOError: it is taken, and `mode` holds `fcntl.LOCK_NB`.
            OSError: the store cannot be written.
        """
        with (self.root / "lock").open("a") as stream:
            fcntl.flock(stream, mode)
            yield

    def _put_file(self, found: TreeEntry) -> StoredFile:
        name, size = add_object(found, self.root / "work" / f".adding-{uuid.uuid4().hex}", self.object_path)
        return StoredFile(path=found.path, object=name, size=size)


def _close_to_others(folder: Path) -> None:
    """Keep other users out of what jobs write: a program that changes its user when it starts would do it for them."""
    status = folder.stat()
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != stat.S_IRWXU:
        folder.chmod(stat.S_IRWXU)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def _try_lock(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def raise_store_error(error: OSError, what: str) -> NoReturn:
    """Raise a StoreError that says what could not be done, why, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free some space, for example with ./inv clean --older-than 7"
        raise StoreError(f"{what}: the disk is full; {advice}") from error
    raise StoreError(f"{what}: {error.strerror or error}") from error
