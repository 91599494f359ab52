"""Garbage collection of a store: by age, by size, and by whether anything names it; and the reading of every object."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import time
from collections.abc import Set
from pathlib import Path

from crossfarm.errors import StoreError
from crossfarm.store.live_runs import count_live_runs, sweep
from crossfarm.store.store import Store, raise_store_error
from crossfarm.util.trees import remove_tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retention:
    """What may stay.

    Attributes:
        age_seconds: artifacts that were not used for so long go; None for no limit.
        size_bytes: the least recently used artifacts go until the rest is at most this size; None for no limit.
    """

    age_seconds: float | None = None
    size_bytes: int | None = None


def collect_garbage(store: Store, limits: Retention) -> int:
    """Remove artifacts beyond the limits, then every object that no artifact names. Returns the bytes freed.

    Artifacts of live runs stay, and runs that died leave nothing behind.

    Raises:
        StoreError: the store cannot be written.
    """
    try:
        with store.locked(fcntl.LOCK_EX):
            return _collect(store, limits)
    except OSError as error:
        raise_store_error(error, f"cannot clean the store {store.root}")


def verify(store: Store) -> list[str]:
    """Hash every object of every artifact, drop the artifacts that are damaged, and say which and why.

    Raises:
        StoreError: the store cannot be written.
    """
    told = []
    try:
        for path in store.manifests():
            artifact = store.read(path.name)
            damage = store.damage(artifact, thorough=True) if artifact else "its manifest cannot be read"
            if damage is None or not path.exists():  # a run may have dropped it meanwhile
                continue
            if artifact is None:
                path.unlink(missing_ok=True)
            else:
                store.drop(artifact)
            told.append(f"{artifact.job if artifact else path.name}: {damage}")
    except OSError as error:
        raise_store_error(error, f"cannot verify the store {store.root}")
    return told


def remove_store(store: Store) -> None:
    """Remove the whole store.

    Raises:
        StoreError: a run is going on in it, or it cannot be removed.
    """
    try:
        with store.locked(fcntl.LOCK_EX):
            if count_live_runs(store):
                raise StoreError(f"a run is going on in {store.root}; wait for its end, or stop it with Ctrl-C")
            if not remove_tree(store.root):
                raise StoreError(f"something in {store.root} cannot be removed; see whose it is (ls -la)")
    except OSError as error:
        raise_store_error(error, f"cannot remove the store {store.root}")


def _collect(store: Store, limits: Retention) -> int:
    protected = sweep(store)
    manifests = store.manifests()
    kept = _choose(store, manifests, protected, limits)
    objects: set[str] = set()
    groups: set[str] = set()
    for path in manifests:
        artifact = store.read(path.name) if path.name in kept else None
        if artifact is None:
            path.unlink(missing_ok=True)
            continue
        objects.update(file.object for file in artifact.files)
        groups.update(artifact.document.get("parameters", {}).values())
    for lock in (store.root / "locks").iterdir():
        if lock.name not in kept and lock.name not in protected:
            lock.unlink(missing_ok=True)
    for half_written in (store.root / "last").glob(".*"):
        half_written.unlink(missing_ok=True)
    return _remove_unnamed(store.root / "objects", objects) + _remove_unnamed(store.root / "groups", groups)


def _choose(store: Store, manifests: list[Path], protected: Set[str], limits: Retention) -> set[str]:
    """Return the keys to keep: those of live runs, then the most recently used ones within the limits."""
    kept: set[str] = set()
    seen: set[str] = set()
    total = 0
    now = time.time()
    uses = {path: _last_use(path) for path in manifests}
    for path in sorted(manifests, key=lambda path: (path.name in protected, uses[path]), reverse=True):
        artifact = store.read(path.name)
        if artifact is None:
            continue
        fresh = {file.object: file.size for file in artifact.files if file.object not in seen}
        size = sum(fresh.values())
        too_old = limits.age_seconds is not None and now - uses[path] > limits.age_seconds
        too_large = limits.size_bytes is not None and total + size > limits.size_bytes
        if path.name in protected or not (too_old or too_large):
            kept.add(path.name)
            seen.update(fresh)
            total += size
    return kept


def _last_use(manifest: Path) -> float:
    """Return when an artifact was last used, in seconds since the epoch; 0 when a run has just dropped it."""
    with contextlib.suppress(FileNotFoundError):
        return manifest.stat().st_mtime
    return 0.0


def _remove_unnamed(root: Path, named: Set[str]) -> int:
    freed = 0
    for path in root.glob("??/*"):
        if path.name not in named:
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                freed += size
    return freed


def count_garbage(store: Store, limits: Retention) -> tuple[int, int]:
    """Return the bytes that `collect_garbage` would free now, and those that would stay; nothing is changed.

    Raises:
        StoreError: the store cannot be read.
    """
    try:
        with store.locked(fcntl.LOCK_EX):
            manifests = store.manifests()
            kept = _choose(store, manifests, _used_by_live_runs(store), limits)
            artifacts = [store.read(path.name) for path in manifests if path.name in kept]
            named = {file.object for artifact in artifacts if artifact for file in artifact.files}
            going = staying = 0
            for path in (store.root / "objects").glob("??/*"):
                with contextlib.suppress(FileNotFoundError):
                    size = path.stat().st_size
                    going, staying = (going, staying + size) if path.name in named else (going + size, staying)
            return going, staying
    except OSError as error:
        raise_store_error(error, f"cannot look through the store {store.root}")


def _used_by_live_runs(store: Store) -> set[str]:
    """Return the keys that live runs use; what dead runs left stays."""
    protected: set[str] = set()
    for path in (store.root / "runs").iterdir():
        with contextlib.suppress(FileNotFoundError), path.open("r+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                protected.update(stream.read().split())
    return protected
