"""Reads results of any version for the history: what this version does not know is passed over, and told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crossfarm.errors import StoreError
from crossfarm.results import (
    CheckRecord,
    EndRecord,
    JobRecord,
    MeasurementRecord,
    Provenance,
    Record,
    RunRecord,
    from_json,
)
from crossfarm.util.text import count, one_line

_KINDS: dict[str, type[Any]] = {
    "run": RunRecord,
    "job": JobRecord,
    "measurement": MeasurementRecord,
    "check": CheckRecord,
    "end": EndRecord,
}
_MOST_TOLD = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadResults:
    """What a results file holds.

    Attributes:
        runs: the records of each run, in the order of the file; the first of each is its RunRecord.
        told: what was passed over, a line each.
    """

    runs: tuple[Sequence[Record], ...]
    told: tuple[str, ...]


def read_results(path: Path) -> ReadResults:
    """Read all runs of a results file, as far as they can be read.

    Records of an older version lack what came later, and have its default. Those of a newer one may hold more, which is
    left out. A line that is no record at all, as one that was written by half, is skipped.

    Raises:
        StoreError: the file cannot be read, or holds no run.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"{one_line(str(path))}: cannot be read: {error.strerror}; give a results.jsonl") from error
    runs: list[list[Record]] = []
    skipped: list[str] = []
    newer: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _record(line, newer)
        except StoreError as error:
            skipped.append(f"{path}:{number}: skipped: {error}")
            continue
        if isinstance(record, RunRecord):
            runs.append([record])
        elif runs:
            runs[-1].append(record)
        else:
            skipped.append(f"{path}:{number}: skipped: it stands before the start of any run")
    if not runs:
        raise StoreError(f"{one_line(str(path))}: holds no run{'; ' + one_line(skipped[0]) if skipped else ''}")
    return ReadResults(runs=tuple(runs), told=tuple(_told(path, skipped, newer)))


def read_provenance(text: str) -> Provenance | None:
    """Return a provenance that the history holds; None when it is damaged."""
    try:
        return Provenance(**_known(Provenance, json.loads(text), set()))
    except (TypeError, ValueError):  # what pydantic raises is a ValueError
        return None


def _told(path: Path, skipped: Sequence[str], newer: set[str]) -> Iterator[str]:
    yield from (one_line(line) for line in skipped[:_MOST_TOLD])
    if len(skipped) > _MOST_TOLD:
        yield f"{path}: {count(len(skipped) - _MOST_TOLD, 'more line')} skipped"
    if newer:
        yield f"{path}: written by a newer crossfarm; left out: {one_line(', '.join(sorted(newer)))}"


def _record(line: bytes, newer: set[str]) -> Record:
    try:
        return from_json(line)
    except StoreError as error:
        strict = error
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise strict from None
    kind = _KINDS.get(str(found.get("record"))) if isinstance(found, dict) else None
    if kind is None:
        raise strict
    fields = _known(kind, found, newer)
    if isinstance(fields.get("provenance"), dict):
        fields["provenance"] = _known(Provenance, fields["provenance"], newer)
    return from_json(json.dumps(fields))


def _known(kind: type[Any], found: dict[str, Any], newer: set[str]) -> dict[str, Any]:
    """Return what of an object a class has fields for, and note the rest."""
    names = {field.name for field in dataclasses.fields(kind)}
    newer.update(f"{kind.__name__}.{name}" for name in found.keys() - names)
    return {name: value for name, value in found.items() if name in names}
