"""What was measured and what was taken, as JSON Lines: `tuning/TARGET/MODEL-VARIANT.jsonl`.

Each line says for which code (target with CPU features) and which compiler it holds; what was made for another is never
used. Lines are appended whole under a lock, so that a killed run leaves at most one damaged line, its last, and several
runs may write to one file.

The standard library is enough here: a warm run reads these files, because what was taken is part of the keys.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossfarm.config.cell import Cell
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import ConfigError, StoreError
from crossfarm.util.files import write_bytes

_COMPILER = "apache-tvm"
_LOCK = ".lock"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredChoice:
    """One variant of one layer in one round of a search.

    Attributes:
        layer: key of the layer.
        choice: the variant, as plain JSON values.
        round: number of the round, from 0.
        ratios: its time over that of the rule's choice, one for each time that both ran in turn; smaller is better.
        nanoseconds: that the layer took in the model, the median; 0 when it was not run.
        right: its outputs agreed with those of the rule's choice.
    """

    layer: str
    choice: Mapping[str, Any]
    round: int
    ratios: tuple[float, ...]
    nanoseconds: int
    right: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class TakenChoices:
    """What a search found for a model, confirmed in a paired measurement.

    Attributes:
        choices: layer -> choice, for the layers that differ from the rule's; empty when nothing better was found.
        ratio: time of the tuned model over the untuned one, the median of pairs.
        interval: of that ratio, at 95 %.
        pairs: that were measured.
        runs: of programs during the search.
        machine: the processor's name.
        complete: the search came to its end; False when its budget was used up before.
    """

    choices: Mapping[str, Mapping[str, Any]]
    ratio: float
    interval: tuple[float, float]
    pairs: int
    runs: int
    machine: str
    complete: bool = True


Entry = MeasuredChoice | TakenChoices
_KINDS: Mapping[str, type[MeasuredChoice] | type[TakenChoices]] = {"measured": MeasuredChoice, "taken": TakenChoices}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordsFile:
    """What a file of records holds for one identity.

    Attributes:
        measured: in the order of the file.
        taken: the last of them, or None.
        damaged: numbers of the lines, from 1, that are no records.
        foreign: how many lines were made for other code or by another compiler.
    """

    measured: tuple[MeasuredChoice, ...] = ()
    taken: TakenChoices | None = None
    damaged: tuple[int, ...] = ()
    foreign: int = 0


@functools.cache
def identity(code: LlvmCode) -> str:
    """Return what records depend on beside the layer: 16 hex digits over code generation and the compiler's version."""
    said = {"code": code.model_dump(mode="json"), _COMPILER: importlib.metadata.version(_COMPILER)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def records_path(root: Path, *, target: str, model: str, variant: str) -> Path:
    """Return the file of a cell's records.

    Args:
        root: the folder tuning/.
        target: name of the target.
        model: name of the model.
        variant: of the model.
    """
    return root / target / f"{model}-{variant}.jsonl"


def searched(root: Path, *, target: str) -> frozenset[tuple[str, str]]:
    """Return model and variant of the cells of a target that have records: a plan asks for every cell.

    Args:
        root: the folder tuning/.
        target: name of the target.
    """
    try:
        names = [entry.name for entry in os.scandir(root / target)]
    except OSError:
        return frozenset()
    found: set[tuple[str, str]] = set()
    for name in names:
        if name.endswith(".jsonl"):
            with contextlib.suppress(ConfigError):  # a file of another name is nobody's
                cell = Cell.parse(f"{target}-{name.removesuffix('.jsonl')}")
                found.add((cell.model, cell.variant))
    return frozenset(found)


def read(path: Path, *, identity: str) -> RecordsFile:
    """Read a file of records; one that does not exist holds none.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return RecordsFile()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    measured: list[MeasuredChoice] = []
    taken: TakenChoices | None = None
    damaged: list[int] = []
    foreign = 0
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        entry = _parsed(line)
        if entry is None:
            damaged.append(number)
        elif entry[0] != identity:
            foreign += 1
        elif isinstance(entry[1], MeasuredChoice):
            measured.append(entry[1])
        else:
            taken = entry[1]
    return RecordsFile(measured=tuple(measured), taken=taken, damaged=tuple(damaged), foreign=foreign)


def append(path: Path, entries: Iterable[Entry], *, identity: str) -> None:
    """Append entries, all of them or, when this process is killed, the first of them and a part of a line.

    Raises:
        StoreError: the file cannot be written.
    """
    lines = b"".join(_line(entry, identity) for entry in entries)
    try:
        with _locked(path.parent), path.open("ab") as stream:
            if _ends_in_the_middle(path):
                lines = b"\n" + lines
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}; free some space, and tune again") from error


def compact(path: Path, kept: Sequence[Entry], *, identity: str) -> None:
    """Replace all lines of this identity by `kept`; the others stay, and damaged ones go.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        with _locked(path.parent):
            old = path.read_bytes() if path.exists() else b""
            others = [line for line in old.split(b"\n") if _is_foreign(line, identity)]
            lines = [line + b"\n" for line in others] + [_line(entry, identity) for entry in kept]
            write_bytes(path, b"".join(lines))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}; free some space, and tune again") from error


def taken_choices(root: Path, *, target: str, model: str, variant: str, identity: str) -> Mapping[str, Any]:
    """Return layer -> choice of what was taken for a cell; empty when nothing was."""
    taken = read(records_path(root, target=target, model=model, variant=variant), identity=identity).taken
    return taken.choices if taken is not None else {}


def _line(entry: Entry, identity: str) -> bytes:
    kind = next(name for name, known in _KINDS.items() if isinstance(entry, known))
    document = {"kind": kind, "for": identity, **dataclasses.asdict(entry)}
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def _parsed(line: bytes) -> tuple[str, Entry] | None:
    """Return identity and entry of a line; None when it is damaged."""
    try:
        document = json.loads(line)
        kind, owner = _KINDS[document.pop("kind")], document.pop("for")
        if kind is MeasuredChoice:
            document["ratios"] = tuple(float(ratio) for ratio in document["ratios"])
        else:
            low, high = document["interval"]
            document["interval"] = (float(low), float(high))
            if not all(isinstance(choice, dict) for choice in document["choices"].values()):
                return None
        return str(owner), kind(**document)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_foreign(line: bytes, identity: str) -> bool:
    entry = _parsed(line)
    return entry is not None and entry[0] != identity


def _ends_in_the_middle(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
