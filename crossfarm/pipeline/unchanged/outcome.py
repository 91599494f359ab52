"""The outcome of a run that found all in the store, as a file that can be read without importing anything heavy.

Texts of the run are kept as templates: what is of one run alone (its id, when it started, how long it took) stands in
them as marks that nobody else's text holds, see `Marks`.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from crossfarm.reports import REPORTS, RESULTS
from crossfarm.util.files import write_text
from crossfarm.util.text import quantity

FORMAT = 1
FOLDER = "unchanged"
"""In the store."""
_STORE = "--store"
MOST_KEPT = 16
"""Outcomes of as many different commands are kept; the one that was used longest ago goes first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Marks:
    """What is of one run alone.

    Attributes:
        run: its id.
        started: ISO 8601 time with its offset from UTC, whole seconds.
        seconds: how long it took.
    """

    run: str
    started: str
    seconds: float

    @classmethod
    def unlike_any(cls) -> Self:
        """Return marks that no text of a run holds unless it was made with them: they are drawn by chance."""
        draw = secrets.randbelow
        day = datetime.datetime(1001 + draw(700), 1 + draw(12), 1 + draw(28), draw(24), draw(60), draw(60))
        return cls(
            run=f"run-{secrets.token_hex(16)}",
            started=f"{day.isoformat()}+00:00",
            seconds=100_000 + draw(800_000) + (10 * draw(10**8) + 1 + draw(9)) / 1e9,
        )

    def texts(self) -> tuple[str, ...]:
        """Return them as reports write them, a longer form before one that it may begin with."""
        moment = datetime.datetime.fromisoformat(self.started).astimezone(datetime.UTC).replace(tzinfo=None)
        return (
            self.run,
            self.started,
            moment.isoformat(timespec="seconds"),
            json.dumps(self.seconds),
            f"{self.seconds:.6f}",
            quantity(self.seconds, "s"),
        )


def in_place_of(text: str, marks: Sequence[str], texts: Sequence[str]) -> str:
    """Return a text with each of some marks replaced by the text at its place."""
    for mark, new in zip(marks, texts, strict=True):
        text = text.replace(mark, new)
    return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptManifest:
    """The manifest of an artifact that the run found.

    Attributes:
        path: of the file; its mtime, when the artifact was last used, is that of the kept outcome's own file as long as
            nobody else used it.
        inode: of the file.
        size: in bytes.
        digest: sha256 of its content.
    """

    path: str
    inode: int
    size: int
    digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptObject:
    """A file of an artifact on which the outcome rests.

    Attributes:
        path: of the object.
        size: in bytes.
        digest: sha256 of its content, where the content itself is part of the outcome; empty otherwise.
    """

    path: str
    size: int
    digest: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run left that found everything in the store, and what that depended on.

    Attributes:
        settings: digest of what was typed, and where.
        watched: as plain JSON, see crossfarm.pipeline.unchanged.watched.
        state: digest of its states.
        commit: of the project; None outside of a git work tree. `root` is its folder.
        root: the folder of models.yaml.
        asks_engine: whether it counts that a container engine answers.
        engine_problem: why none did; None when one did.
        out: the folder of the reports.
        manifests: of all artifacts that were found.
        absent: paths of manifests that were not there, and not needed.
        objects: on which it rests.
        history: the file of the history; None for none.
        run: id of the run that is in the history.
        exit_code: of the run.
        output: what it printed.
        marks: as they stand in `files`.
        files: name in the folder of the reports -> template.
    """

    settings: str
    watched: Mapping[str, Any]
    state: str
    commit: str | None
    root: str
    asks_engine: bool
    engine_problem: str | None
    out: str
    manifests: tuple[KeptManifest, ...]
    absent: tuple[str, ...]
    objects: tuple[KeptObject, ...]
    history: str | None
    run: str
    exit_code: int
    output: str
    marks: tuple[str, ...]
    files: Mapping[str, str]


def outcome_path(store: Path, settings: str) -> Path:
    """Return where the outcome of a command is kept."""
    return store / FOLDER / f"{settings[:32]}.json"


def store_of(arguments: Sequence[str], *, default: Path) -> Path:
    """Return the store that a command names, if it names one."""
    for place, word in enumerate(arguments):
        if word.startswith(f"{_STORE}="):
            return Path(word.partition("=")[2])
        if word == _STORE and place + 1 < len(arguments):
            return Path(arguments[place + 1])
    return default


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write an outcome; the oldest ones go when there are too many.

    Raises:
        OSError: the folder cannot be written.
    """
    document = dataclasses.asdict(outcome)
    document["manifests"] = [dataclasses.astuple(item) for item in outcome.manifests]
    document["objects"] = [dataclasses.astuple(item) for item in outcome.objects]
    write_text(path, json.dumps({"format": FORMAT, **document}))
    kept = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
    for old in kept[:-MOST_KEPT]:
        old.unlink(missing_ok=True)


def read_outcome(path: Path) -> Outcome | None:
    """Return a kept outcome; None where there is none that this version can read."""
    try:
        document = json.loads(path.read_bytes())
        if document.pop("format") != FORMAT:
            return None
        names = {field.name for field in dataclasses.fields(Outcome)}
        # A store may have been handed on: what lies in it writes nothing but reports.
        if document.keys() != names or not {RESULTS, *REPORTS}.issuperset(document["files"]):
            return None
        manifest = [field.name for field in dataclasses.fields(KeptManifest)]
        kept = [field.name for field in dataclasses.fields(KeptObject)]
        rows = document["manifests"]
        document["manifests"] = tuple(KeptManifest(**dict(zip(manifest, row, strict=True))) for row in rows)
        document["objects"] = tuple(KeptObject(**dict(zip(kept, row, strict=True))) for row in document["objects"])
        document["absent"], document["marks"] = tuple(document["absent"]), tuple(document["marks"])
        return Outcome(**document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def digest_of(content: bytes) -> str:
    """Return the sha256 of some content."""
    return hashlib.sha256(content).hexdigest()
