"""What grows beside the artifacts: caches of tools, abandoned temporary folders, logs of jobs that nothing declares."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Set
from pathlib import Path

from crossfarm.config.cell import Cell
from crossfarm.config.project import Project
from crossfarm.errors import StoreError
from crossfarm.stages import STAGES
from crossfarm.store.live_runs import count_live_runs
from crossfarm.store.store import Store, raise_store_error
from crossfarm.util.scratch import abandoned_folders, remove_abandoned

_RESULTS = ("results.jsonl", "results.previous.jsonl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldSpace:
    """Something that may go, or that `doctor` tells of.

    Attributes:
        path: file or folder.
        size: bytes of all regular files in it.
        used: when it was last changed, in seconds since the epoch.
    """

    path: Path
    size: int
    used: float


def held(path: Path) -> HeldSpace:
    """Return what a file or folder holds; links are counted, never followed. What vanishes meanwhile counts nothing."""
    size, used = 0, 0.0
    waiting = [path]
    while waiting:
        current = waiting.pop()
        with contextlib.suppress(OSError):
            status = current.lstat()
            used = max(used, status.st_mtime)
            if current.is_dir() and not current.is_symlink():
                waiting += [Path(entry.path) for entry in os.scandir(current)]
            else:
                size += status.st_size
    return HeldSpace(path=path, size=size, used=used)


def compiler_cache(store: Path) -> Path:
    """Return where jobs on this host find zig's cache; one that the environment names is not the store's."""
    return store / "zig"


def remove_compiler_cache(
    store: Store, *, age_seconds: float | None, size_bytes: int | None, others: int, dry_run: bool
) -> int:
    """Remove zig's cache as a whole where it is too old, or store and cache together are too large. Returns the bytes.

    Its files name each other, so that it goes whole or not at all; the next link builds the C library again. It goes
    before any artifact does: those take longer to make.

    Args:
        store: whose cache it is.
        age_seconds: it goes when nothing was added to it for so long; None for no limit.
        size_bytes: what store and cache may hold together; None for no limit.
        others: bytes of the artifacts.
        dry_run: only say how much it would be.

    Raises:
        StoreError: the store cannot be written.
    """
    cache = held(compiler_cache(store.root))
    too_old = age_seconds is not None and time.time() - cache.used > age_seconds
    too_large = size_bytes is not None and others + cache.size > size_bytes
    if not cache.size or not (too_old or too_large):
        return 0
    try:
        with store.locked(fcntl.LOCK_EX):
            if count_live_runs(store):
                return 0
            if not dry_run:
                shutil.rmtree(cache.path)
    except OSError as error:
        raise_store_error(error, f"cannot remove {cache.path}")
    return cache.size


def tool_caches(home: Path) -> list[HeldSpace]:
    """Return what tools of accelerators built once: a C library for MERA's links, Verilated cores. All is made again.

    Args:
        home: the project's folder.
    """
    folders = (home / ".crossfarm" / name for name in ("zig-mera", "cores"))
    return [held(folder) for folder in folders if folder.is_dir()]


def remove_tool_caches(caches: list[HeldSpace], *, age_seconds: float | None, dry_run: bool) -> int:
    """Remove caches to which nothing was added for so long, None for all of them; returns their bytes."""
    old = [cache for cache in caches if age_seconds is None or time.time() - cache.used > age_seconds]
    for cache in () if dry_run else old:
        shutil.rmtree(cache.path, ignore_errors=True)
    return sum(cache.size for cache in old)


def abandoned() -> list[HeldSpace]:
    """Return the temporary folders of this user whose owners are dead."""
    return [held(path) for path in abandoned_folders()]


def remove_folders(folders: list[HeldSpace], *, dry_run: bool) -> int:
    """Remove abandoned temporary folders; returns the bytes of those that are gone."""
    return sum(folder.size for folder in folders if dry_run or remove_abandoned(folder.path))


def vanished_logs(out: Path, project: Project) -> list[HeldSpace]:
    """Return the logs of jobs that belong to no declared model and target, and to neither of the last two runs.

    Args:
        out: folder of the reports.
        project: what is declared.
    """
    declared = _declared(project) | _last_jobs(out)
    return [held(path) for path in sorted((out / "logs").glob("*.log")) if _is_vanished(path.stem, declared)]


def remove_logs(logs: list[HeldSpace], out: Path, *, dry_run: bool) -> int:
    """Remove logs, unless a run writes its reports there; returns the bytes.

    Raises:
        StoreError: one cannot be removed.
    """
    if dry_run or not logs:
        return sum(log.size for log in logs)
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for log in logs:
            log.path.unlink(missing_ok=True)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be removed: {error.strerror}; see who owns it") from error
    finally:
        os.close(folder)
    return sum(log.size for log in logs)


def _declared(project: Project) -> Set[str]:
    """Return the names of the logs of all models and cells that can be asked for."""
    names = {model.name for model in project.models_file.models}
    cells = {
        Cell(target=target, model=model.name, variant=variant).id
        for target in project.targets
        for model in project.models_file.models
        for variant in ("float32", "int8")
    }
    return {f"{stage}-{subject}" for stage in STAGES for subject in names | cells | set(project.targets)}


def _last_jobs(out: Path) -> Set[str]:
    return {job.replace(":", "-", 1) for name in _RESULTS for job in _jobs(out / name)}


def _jobs(path: Path) -> Iterator[str]:
    """Yield the ids of the jobs in a file of records; a line that cannot be read names none."""
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, AttributeError):
                job = json.loads(line).get("job")
                if isinstance(job, str):
                    yield job


def _is_vanished(name: str, declared: Set[str]) -> bool:
    return name.startswith(tuple(f"{stage}-" for stage in STAGES)) and name not in declared
