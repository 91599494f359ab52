"""Writes the kept outcome of a run once more, where nothing changed since.

Imports the standard library and little more: the import of all that plans a run takes several times as long as this.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from crossfarm.pipeline.unchanged.outcome import (
    KeptManifest,
    KeptObject,
    Marks,
    Outcome,
    digest_of,
    in_place_of,
    outcome_path,
    read_outcome,
    store_of,
)
from crossfarm.pipeline.unchanged.watched import Watched, describe_command, initial_environment, settings, state
from crossfarm.reports import LASTING, RESULTS, set_aside
from crossfarm.store.objects import OBJECT_MTIME_NS
from crossfarm.util.files import write_text
from crossfarm.util.terminal import say

_GIT_SECONDS = 120


def run_again(home: Path, arguments: Sequence[str]) -> int | None:
    """Write the outcome of the same command once more, when all that it depends on is as it was.

    Args:
        home: the folder of this clone.
        arguments: all that was typed.

    Returns:
        The exit code; None when something changed, or nothing is kept, and the run has to be done.
    """
    began = time.monotonic()
    wanted = settings(arguments, initial_environment())
    path = outcome_path(store_of(arguments, default=home / ".crossfarm" / "store"), wanted)
    outcome = read_outcome(path)
    if outcome is None or outcome.settings != wanted:
        return None
    started = datetime.now().astimezone()
    with contextlib.suppress(OSError), _folder_of_reports(Path(outcome.out)) as is_held:
        if is_held and is_unchanged(outcome, path.stat().st_mtime_ns):
            return _write(outcome, path, started, began)
    return None


def is_unchanged(outcome: Outcome, used: int) -> bool:
    """Say whether all is as it was that an outcome depends on.

    Args:
        outcome: the outcome.
        used: when its artifacts were last used for it, in ns since the epoch.
    """
    git = subprocess.Popen(
        describe_command(Path(outcome.root)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    with git:
        try:
            same = (
                state(Watched.from_json(outcome.watched))[0] == outcome.state
                and _engine_is_same(outcome)
                and all(_manifest_is_same(manifest, used) for manifest in outcome.manifests)
                and not any(os.path.lexists(path) for path in outcome.absent)
                and all(_object_is_whole(kept) for kept in outcome.objects)
            )
            said, _ = git.communicate(timeout=_GIT_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            git.kill()
            return False
    commit = said.decode("utf-8", "replace").strip() if git.returncode == 0 else ""
    return same and (commit or None) == outcome.commit


def _engine_is_same(outcome: Outcome) -> bool:
    if not outcome.asks_engine:
        return True
    from crossfarm.util.docker import find_daemon

    return find_daemon().problem == outcome.engine_problem


def _manifest_is_same(kept: KeptManifest, used: int) -> bool:
    try:
        seen = os.stat(kept.path)  # noqa: PTH116 - asked for every artifact
        if (seen.st_ino, seen.st_size) == (kept.inode, kept.size) and seen.st_mtime_ns == used:
            return True
        return digest_of(Path(kept.path).read_bytes()) == kept.digest
    except OSError:
        return False


def _object_is_whole(kept: KeptObject) -> bool:
    try:
        if kept.digest:
            with open(kept.path, "rb") as stream:  # noqa: PTH123 - asked for every check
                return digest_of(stream.read()) == kept.digest
        seen = os.stat(kept.path)  # noqa: PTH116 - asked for every file of every artifact
    except OSError:
        return False
    return seen.st_size == kept.size and seen.st_mtime_ns == OBJECT_MTIME_NS


def _write(outcome: Outcome, path: Path, started: datetime, began: float) -> int:
    """Write records and reports, and mark all that was used as used now; returns the exit code.

    Args:
        outcome: what to write.
        path: its file.
        started: when this run did, for people.
        began: likewise, on a clock that only grows.
    """
    out = Path(outcome.out)
    set_aside(out)
    marks = Marks(
        run=f"{started.astimezone(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}",
        started=started.isoformat(timespec="seconds"),
        seconds=time.monotonic() - began,
    )
    for name, template in outcome.files.items():
        write_text(out / name, in_place_of(template, outcome.marks, marks.texts()), lasting=name in LASTING)
    _touch([*(manifest.path for manifest in outcome.manifests), str(path)])
    untold = _keep_in_history(outcome, marks)
    say(outcome.output + untold, is_clean=True)
    return outcome.exit_code


def _touch(paths: Sequence[str]) -> None:
    now = time.time_ns()
    for path in paths:
        with contextlib.suppress(OSError):
            os.utime(path, ns=(now, now))


def _keep_in_history(outcome: Outcome, marks: Marks) -> str:
    """Add the run to the history as another of the run that is there; returns what to say when that failed."""
    if outcome.history is None:
        return ""
    from crossfarm.reports.history.repeat import OwnValues, repeat_run

    position = datetime.fromisoformat(marks.started).timestamp() + marks.seconds
    own = OwnValues(run=marks.run, started=marks.started, seconds=marks.seconds, position=position)
    if repeat_run(Path(outcome.history), outcome.run, own):
        return ""
    from crossfarm.reports.history.keep import keep_run
    from crossfarm.reports.history.place import Place
    from crossfarm.results import read_records

    results = Path(outcome.out) / RESULTS
    said = keep_run(read_records(results), Place(file=Path(outcome.history)), results=results)
    return f"{said}\n" if said else ""


@contextlib.contextmanager
def _folder_of_reports(out: Path) -> Iterator[bool]:
    """Hold the folder of the reports, unless another run does or it is not there."""
    descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
