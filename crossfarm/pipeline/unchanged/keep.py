"""Keeps the outcome of a run that found everything in the store, for the next one that is the same.

A run that did something is not kept: the next one differs from it, for it finds what this one made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from crossfarm.pipeline.plan_types import Plan
from crossfarm.pipeline.staleness import Decision
from crossfarm.pipeline.unchanged.outcome import (
    KeptManifest,
    KeptObject,
    Marks,
    Outcome,
    digest_of,
    in_place_of,
    outcome_path,
    write_outcome,
)
from crossfarm.pipeline.unchanged.watched import (
    SETTLED_SECONDS,
    Watched,
    initial_environment,
    of_this_clone,
    settings,
    state,
)
from crossfarm.reports import RESULTS
from crossfarm.reports.run_view import overview
from crossfarm.reports.writing import rendered
from crossfarm.results import EndRecord, Record, RunRecord, to_json
from crossfarm.stages.fetch.stage import COMPANION_SUFFIXES
from crossfarm.store.store import Store


class Heard:
    """Standard output that remembers what was written to it, for as long as it stands in its place.

    Args:
        stream: where everything goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """Return all that was written."""
        return "".join(self._parts)

    def write(self, text: str) -> int:
        """Write a text."""
        self._parts.append(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def heard() -> Iterator[Heard]:
    """Remember what the block prints."""
    stream = Heard(sys.stdout)
    with contextlib.redirect_stdout(stream):
        yield stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndedRun:
    """A run that has ended.

    Attributes:
        plan: what was planned.
        decisions: by job.
        records: all of it, in order.
        began: when it began, in seconds since the epoch.
        root: the folder of models.yaml.
        declared: the files that declare it: models, pipeline, boards; they need not be there.
        store: where artifacts are.
        out: where the reports are.
        history: the file of the history; None for none.
        commit: of the project.
        asks_engine: whether it counted that a container engine answers.
        engine_problem: why none did.
        exit_code: of the run.
        output: what it printed.
    """

    plan: Plan
    decisions: Mapping[str, Decision]
    records: Sequence[Record]
    began: float
    root: Path
    declared: tuple[Path, ...]
    store: Store
    out: Path
    history: Path | None
    commit: str | None
    asks_engine: bool
    engine_problem: str | None
    exit_code: int
    output: str


def keep_outcome(run: EndedRun, *, home: Path) -> bool:
    """Keep the outcome of a run, if the next one like it would have the same; returns whether it did.

    That is so when every job was in the store, when nothing that the run depended on changed since shortly before it
    began, and when the texts that the kept outcome gives for this run are the very ones that it left. What cannot be
    kept, for instance on a full disk, is done again the next time.
    """
    if not _found_everything(run):
        return False
    watched = _watched(run, home)
    digest, newest = state(watched)
    if newest > run.began - SETTLED_SECONDS:
        return False
    try:
        outcome = _outcome(run, watched, digest)
        if outcome is None:
            return False
        path = outcome_path(run.store.root, outcome.settings)
        write_outcome(path, outcome)
        now = time.time_ns()
        for kept in (*(manifest.path for manifest in outcome.manifests), str(path)):
            os.utime(kept, ns=(now, now))
    except OSError:
        return False
    return True


def _found_everything(run: EndedRun) -> bool:
    """Say whether the store had all, nothing of it rests on more than the store, and every job was told as found."""
    if any(decision.choice == "run" or decision.is_forced for decision in run.decisions.values()):
        return False
    ended = {record.state for record in run.records if record.record == "job"}
    is_whole = bool(run.records) and isinstance(run.records[-1], EndRecord) and not run.records[-1].interrupted
    return is_whole and ended <= {"hit", "skipped"} and "\x1b[" not in _without_colours(run.output)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _watched(run: EndedRun, home: Path) -> Watched:
    own = of_this_clone(home, initial_environment())
    trees, files = list(own.trees), [*own.files, str(run.store.root / "no-images.json")]
    files += [str(path.absolute()) for path in run.declared]
    for path in _declared_files(run):
        (trees if path.is_dir() else files).append(str(path))
        files += [f"{path}{suffix}" for suffix in COMPANION_SUFFIXES]
    return dataclasses.replace(own, trees=tuple(dict.fromkeys(trees)), files=tuple(dict.fromkeys(files)))


def _declared_files(run: EndedRun) -> Iterable[Path]:
    """Yield the files and folders beside models.yaml whose content is part of keys."""
    for job in run.plan.jobs.values():
        for group in job.groups.values() if "content" in job.groups else ():
            if isinstance(group, Mapping) and isinstance(group.get("file"), str):
                yield run.root.absolute() / group["file"]


def _outcome(run: EndedRun, watched: Watched, digest: str) -> Outcome | None:
    first, *between, last = run.records
    if not isinstance(first, RunRecord) or not isinstance(last, EndRecord):
        return None
    own = Marks(run=first.run, started=first.started, seconds=last.seconds)
    marks = Marks.unlike_any()
    marked: list[Record] = [dataclasses.replace(first, run=marks.run, started=marks.started), *between]
    marked.append(dataclasses.replace(last, seconds=marks.seconds))
    files = dict(_files(marked, run.out))
    left = {name: (run.out / name).read_text(encoding="utf-8") for name in files}
    if any(in_place_of(text, marks.texts(), own.texts()) != left[name] for name, text in files.items()):
        return None
    return Outcome(
        settings=settings(sys.argv[1:], initial_environment()),
        watched=watched.to_json(),
        state=digest,
        commit=run.commit,
        root=str(run.root.absolute()),
        asks_engine=run.asks_engine,
        engine_problem=run.engine_problem,
        out=str(run.out.absolute()),
        manifests=tuple(_manifest(run.store.artifact_path(key).absolute()) for key in _keys(run, "hit")),
        absent=tuple(str(run.store.artifact_path(key).absolute()) for key in _keys(run, "unneeded")),
        objects=tuple(_objects(run)),
        history=str(run.history.absolute()) if run.history else None,
        run=own.run,
        exit_code=run.exit_code,
        output=run.output,
        marks=marks.texts(),
        files=files,
    )


def _files(records: Sequence[Record], out: Path) -> Iterator[tuple[str, str]]:
    yield RESULTS, "".join(f"{to_json(record)}\n" for record in records)
    yield from rendered(overview(records), records, out)


def _keys(run: EndedRun, choice: str) -> list[str]:
    return [job.key for name, job in run.plan.jobs.items() if run.decisions[name].choice == choice]


def _manifest(path: Path) -> KeptManifest:
    seen = path.stat()
    return KeptManifest(path=str(path), inode=seen.st_ino, size=seen.st_size, digest=digest_of(path.read_bytes()))


def _objects(run: EndedRun) -> Iterator[KeptObject]:
    """Yield the files of the artifacts that no other job is made of, as they are looked at before a run.

    Those whose records are in the reports come with their digests.
    """
    used = {name for job in run.plan.jobs.values() for name in job.inputs.values()}
    for name, job in run.plan.jobs.items():
        artifact = run.decisions[name].artifact
        if artifact is None or name in used:
            continue
        for file in artifact.files:
            path = str(run.store.object_path(file.object).absolute())
            digest = file.object[:64] if job.declaration.leaves_records else ""
            yield KeptObject(path=path, size=file.size, digest=digest)
