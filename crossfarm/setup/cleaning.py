"""Cleaning: what `clean` removes of all that grows, and says; and what `doctor` says of it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from crossfarm.config.project import Project
from crossfarm.errors import EXIT_GOOD, CrossfarmError
from crossfarm.images.outdated import OldImage, described, named_references, old_images, remove_old_images
from crossfarm.setup.leftovers import (
    abandoned,
    compiler_cache,
    held,
    remove_compiler_cache,
    remove_folders,
    remove_logs,
    remove_tool_caches,
    tool_caches,
    vanished_logs,
)
from crossfarm.store.garbage import Retention, collect_garbage, count_garbage, remove_store
from crossfarm.store.garbage import verify as verify_store
from crossfarm.store.store import Store
from crossfarm.util.text import write

_DAY = 86400.0
_MEBIBYTE = 2**20
_WORTH_TELLING = 2**20
"""Bytes; `doctor` is silent about less."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanRequest:
    """What shall go.

    Attributes:
        days: artifacts, compiler cache and images that were not used, or made, for so long.
        mebibytes: the least recently used artifacts, until the store is at most so large; the compiler's cache first.
        verify: artifacts with damaged objects.
        everything: the whole store with the compiler's cache in it, and the reports.
        images: container images that nothing names any more.
        dry_run: nothing; only say what would.
    """

    days: float | None = None
    mebibytes: float | None = None
    verify: bool = False
    everything: bool = False
    images: bool = False
    dry_run: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanedPlaces:
    """Where is cleaned.

    Attributes:
        store: folder of the store.
        out: folder of the reports.
        home: the project's folder, whose files name images.
        project: what is declared, by which logs are judged; None where the declarations cannot be read.
    """

    store: Path
    out: Path
    home: Path
    project: Project | None = None


def clean_up(request: CleanRequest, places: CleanedPlaces) -> int:
    """Free space, and say what went and how much that was; returns the exit code.

    Raises:
        StoreError: the store cannot be written, or a run is going on in it and everything is to go.
        EngineError: images are to go, and no container engine answers.
        ConfigError: images are to go, and a Dockerfile or images.lock cannot be used.
    """
    _clean_store(request, places)
    if request.everything or request.days is not None:
        age = None if request.everything else (request.days or 0.0) * _DAY
        freed = remove_tool_caches(tool_caches(places.home), age_seconds=age, dry_run=request.dry_run)
        _tell(request, freed, "what tools of accelerators built once; the next run builds it again")
    folders = abandoned()
    _tell(request, remove_folders(folders, dry_run=request.dry_run), f"{len(folders)} abandoned temporary folders")
    if places.project is not None and not request.everything:
        logs = vanished_logs(places.out, places.project)
        freed = remove_logs(logs, places.out, dry_run=request.dry_run)
        _tell(request, freed, f"{len(logs)} logs of jobs that nothing declares in {places.out / 'logs'}")
    if request.images:
        _clean_images(request, places)
    return EXIT_GOOD


def _clean_store(request: CleanRequest, places: CleanedPlaces) -> None:
    folder = places.store
    if not (folder / "objects").is_dir():
        _say(f"there is no store at {folder}")
        return
    store = Store(folder)
    if request.everything:
        size = held(folder).size + held(places.out).size
        if not request.dry_run:
            remove_store(store)
            shutil.rmtree(places.out, ignore_errors=True)
        _tell(request, size, f"{folder} and {places.out}", always=True)
        return
    for what in verify_store(store) if request.verify and not request.dry_run else ():
        _say(f"dropped {what}; the next run makes it again")
    limits = Retention(
        age_seconds=None if request.days is None else request.days * _DAY,
        size_bytes=None if request.mebibytes is None else int(request.mebibytes * _MEBIBYTE),
    )
    _, staying = count_garbage(store, Retention(age_seconds=limits.age_seconds))
    cache = remove_compiler_cache(
        store,
        age_seconds=limits.age_seconds,
        size_bytes=limits.size_bytes,
        others=staying,
        dry_run=request.dry_run,
    )
    _tell(request, cache, f"the compiler's cache {compiler_cache(folder)}; the next link fills it again")
    freed = count_garbage(store, limits)[0] if request.dry_run else collect_garbage(store, limits)
    _tell(request, freed, f"artifacts in {folder}", always=True)


def _clean_images(request: CleanRequest, places: CleanedPlaces) -> None:
    images = _old_images(places.home, days=request.days or 0.0)
    if not images:
        _say("there are no old images")
        return
    if request.dry_run:
        for line in described(images):
            _say(f"would remove {line}")
        return
    gone, freed = remove_old_images(images, say=_say)
    for name in gone:
        _say(f"removed the image {name}")
    _tell(request, freed, f"{len(gone)} images", always=True)


def _old_images(home: Path, *, days: float) -> list[OldImage]:
    from crossfarm.boards.virtual.kinds import KINDS
    from crossfarm.boards.virtual.userland import image_name

    named = named_references(home, boards=[image_name(kind) for kind in KINDS.values()])
    return old_images(named, age_seconds=days * _DAY)


def holdings(places: CleanedPlaces) -> Iterator[str]:
    """Yield a line for each thing that has grown by more than a mebibyte, and what removes it; takes milliseconds."""
    now = time.time()
    old = "./inv clean --older-than 30"
    for name, found, command in (
        ("artifacts", held(places.store / "objects"), f"{old}, or --larger-than 2000"),
        ("the compiler's cache", held(compiler_cache(places.store)), old),
        *(("what tools of accelerators built once", cache, old) for cache in tool_caches(places.home)),
    ):
        if found.size >= _WORTH_TELLING:
            age = f", {(now - found.used) / _DAY:.0f} days since the last change" if now - found.used > _DAY else ""
            yield f"{name}: {_amount(found.size)} in {found.path}{age}: {command}"
    folders = abandoned()
    if (size := sum(folder.size for folder in folders)) >= _WORTH_TELLING:
        yield f"{len(folders)} abandoned temporary folders: {_amount(size)} in {folders[0].path.parent}: ./inv clean"
    if places.project is not None:
        logs = vanished_logs(places.out, places.project)
        if (size := sum(log.size for log in logs)) >= _WORTH_TELLING:
            yield f"{len(logs)} logs of jobs that nothing declares: {_amount(size)}: ./inv clean"
    with contextlib.suppress(CrossfarmError):  # without an engine there are no images
        images = _old_images(places.home, days=0.0)
        if images:
            size = sum(image.size for image in images)
            yield (
                f"{len(images)} images that nothing names: {_amount(size)}, counting twice what two share: "
                "./inv clean --images"
            )


def _tell(request: CleanRequest, size: int, what: str, *, always: bool = False) -> None:
    if size or always:
        _say(f"{'would free' if request.dry_run else 'freed'} {_amount(size)}: {what}")


def _amount(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / _MEBIBYTE:.1f} MiB"


def _say(line: str) -> None:
    write(sys.stdout, f"clean: {line}\n")
