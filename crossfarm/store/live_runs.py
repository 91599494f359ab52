"""Live runs of a store: what protects the artifacts that a run uses, and sweeps what killed runs left.

A run holds the lock of its file in `runs/` as long as it lives; the kernel lets go of it however the run ends.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path

from crossfarm.store.store import Store, raise_store_error
from crossfarm.util.trees import remove_tree


@contextlib.contextmanager
def live_run(store: Store, run: str, keys: Iterable[str]) -> Iterator[Path]:
    """Protect `keys` from gc as long as the block runs.

    Args:
        store: the store.
        run: id of the run.
        keys: keys of all artifacts that it may use or make.

    Yields:
        The run's work folder, empty and on the store's file system; it is removed at the end.

    Raises:
        StoreError: the store cannot be written.
    """
    path, work = store.root / "runs" / run, store.root / "work" / run
    try:
        _sweep_unless_busy(store)
        with store.locked(fcntl.LOCK_SH):
            stream = path.open("w")
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.write("\n".join(keys))
            stream.flush()
            work.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise_store_error(error, f"cannot begin a run in the store {store.root}")
    try:
        yield work
    finally:
        remove_tree(work)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        stream.close()


def sweep(store: Store) -> set[str]:
    """Return the keys that live runs use, and remove what dead runs left. The caller holds the store's lock alone."""
    protected: set[str] = set()
    alive: set[str] = set()
    for path in (store.root / "runs").iterdir():
        with contextlib.suppress(FileNotFoundError), path.open("r+") as stream:  # a run may end meanwhile
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alive.add(path.name)
                protected.update(stream.read().split())
            else:
                path.unlink(missing_ok=True)
    for work in (store.root / "work").iterdir():
        if work.name not in alive:
            remove_tree(work)
    return protected


def count_live_runs(store: Store) -> int:
    """Return how many runs use the store. The caller holds the store's lock alone."""
    sweep(store)
    return sum(1 for _ in (store.root / "runs").iterdir())


def _sweep_unless_busy(store: Store) -> None:
    with contextlib.suppress(BlockingIOError), store.locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
        sweep(store)
