"""Runs the jobs of a cell again, beside the store, with their logs on the terminal, and compares what they write."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from crossfarm.engines.protocol import Engine
from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, EXIT_INFRASTRUCTURE
from crossfarm.pipeline.job_runner import JobFolders, JobRunner
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.stages.job import HOST
from crossfarm.store.export import copy_files
from crossfarm.store.store import Artifact, Store
from crossfarm.util.text import write

_SECONDS_BETWEEN_LOOKS = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What is to be done again.

    Attributes:
        plan: of one cell, without stages that need boards.
        store: what is compared with; nothing is written to it.
        engine: where the jobs run.
        references: digest of an image -> its name, for people.
        root: the project's folder.
    """

    plan: Plan
    store: Store
    engine: Engine
    references: Mapping[str, str]
    root: Path


def reproduce_cell(task: Reproduction, *, work: Path, stream: TextIO) -> int:
    """Run every job anew and tell how its files compare with the store's.

    Args:
        task: what to do.
        work: an empty folder on the store's file system.
        stream: takes logs and results as text.

    Returns:
        0 when all files are the same or there were none before, 1 when one differs or a job fails by the product's
        fault, 3 when it fails by another.

    Raises:
        StoreError: the store cannot be read, or the folder cannot be written.
    """
    beside = Store(work / "store")
    logs = work / "logs"
    logs.mkdir()
    place = JobFolders(store=beside, work=beside.root / "work", logs=logs, root=task.root)
    runner = JobRunner(plan=task.plan, engine=task.engine, place=place)
    made: dict[str, Artifact] = {}
    worst = EXIT_GOOD
    for job in task.plan.jobs.values():
        before = task.store.read(job.key)
        if job.declaration.scope == "source" and before is not None:
            made[job.id] = _copied(before, job, task.store, beside, work)
            continue
        where = "on this host" if job.document.image == HOST else f"in {task.references[job.document.image]}"
        write(stream, f"{job.id}: runs {where}\n")
        with _shown(place.log(job.id), stream):
            result = runner.execute(job, {role: made[name] for role, name in job.inputs.items()})
        if result.artifact is None:
            write(stream, f"{job.id}: failed after {result.seconds:.1f} s: {result.cause}\n")
            return EXIT_CHECK_FAILED if result.fault == "product" else EXIT_INFRASTRUCTURE
        made[job.id] = result.artifact
        lines = list(differences(before, result.artifact)) if before is not None else []
        said = "; ".join(lines) if lines else "the same as in the store" if before else "the store has none to compare"
        write(stream, f"{job.id}: {result.seconds:.1f} s, {len(result.artifact.files)} files: {said}\n")
        worst = EXIT_CHECK_FAILED if lines else worst
    return worst


def differences(before: Artifact, now: Artifact) -> Iterator[str]:
    """Yield what differs between two artifacts, file by file."""
    old, new = ({file.path: file.object for file in artifact.files} for artifact in (before, now))
    for path in sorted({*old, *new}):
        if path not in new:
            yield f"{path} is not there any more"
        elif path not in old:
            yield f"{path} is new"
        elif old[path] != new[path]:
            yield f"{path} differs (sha256 {old[path][:12]} in the store, {new[path][:12]} now)"


def _copied(artifact: Artifact, job: PlannedJob, store: Store, beside: Store, work: Path) -> Artifact:
    """Copy what was fetched: it is pinned, and fetching it again would tell nothing about this machine."""
    folder = Path(tempfile.mkdtemp(dir=work))
    copy_files(store, artifact, folder)
    return beside.put(key=job.key, job=job.id, folder=folder, document=job.document, groups=job.groups, seconds=0.0)


@contextlib.contextmanager
def _shown(log: Path, stream: TextIO) -> Iterator[None]:
    """Write a log to a stream while it grows."""
    ended = threading.Event()

    def follow() -> None:
        place = 0
        while True:
            is_last = ended.wait(_SECONDS_BETWEEN_LOOKS)
            with contextlib.suppress(OSError), log.open("rb") as file:
                file.seek(place)
                content = file.read()
                place += len(content)
                write(stream, content.decode("utf-8", "replace"))
                stream.flush()
            if is_last:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
