"""A run as the history keeps it: what of its records, cell by cell. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import zlib
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from crossfarm.errors import StoreError
from crossfarm.reports.run_view import CellOutcome, Overview, overview
from crossfarm.results import CheckRecord, MeasurementRecord, Provenance, Record

COMPILE_TIME = "compile_time"
"""The one number that no record of a measurement holds: seconds of the job `compile`, where that ran."""
_KEY_BYTES = 400
"""PostgreSQL's indexes take 2,700 bytes a row, and three names stand in one."""
_RAW, _DEFLATED = b"\x00", b"\x01"
_ITEM = 8
_THIS_HOST = "local"
"""What every farm calls its own host; boards are told apart by name, so the history adds the name of the host."""
_MOST_SAMPLES = 10_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptNumber:
    """A number of one cell.

    Attributes:
        name: as a MeasurementRecord names it, or COMPILE_TIME.
        value: in `unit`; may be NaN or infinite.
        samples: the raw ones, where `value` is a statistic of some.
        provenance: JSON, where it is another than the cell's.
    """

    name: str
    value: float
    unit: str
    samples: tuple[float, ...] = ()
    provenance: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptCheck:
    """A check of one cell; the attributes are those of a CheckRecord."""

    name: str
    status: str
    value: float | None
    limit: float | None
    unit: str | None
    message: str
    note: str | None
    cases: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptCell:
    """What became of one cell in one run.

    Attributes:
        cell: its id; `target`, `model` and `variant` are its parts.
        state: as in crossfarm.reports.run_view.
        cause: why it did not pass.
        board: that measured it, as `board_of` names it; None when nothing did. `timing` says what its clock is worth.
        provenance: JSON of the Provenance of its numbers.
        bundle: key of its bundle in the store, by which the bundle is found again to be measured beside a newer one.
        command: what reproduces it.
        numbers: by name.
        checks: by name.
    """

    cell: str
    target: str
    model: str
    variant: str
    state: str
    cause: str
    board: str | None = None
    timing: str | None = None
    provenance: str | None = None
    bundle: str | None = None
    command: str | None = None
    numbers: Mapping[str, KeptNumber] = dataclasses.field(default_factory=dict)
    checks: Mapping[str, KeptCheck] = dataclasses.field(default_factory=dict)

    @property
    def cases(self) -> Mapping[str, int]:
        """Return of how many cases the check of each name is a share."""
        return {name: check.cases for name, check in self.checks.items() if check.cases}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A run.

    Attributes:
        run: its id.
        position: its place in the order of runs: seconds since the epoch of its end, as its own clock said; the history
            moves a run behind the one that its host kept before it, when the clock went back in between.
        started: as the record says it; the other attributes down to `host` likewise.
        tools: JSON: distribution or program -> version.
        exit_code: None when the run was killed.
        seconds: how long it took; None when it was killed.
        cells: of the plan, in its order.
    """

    run: str
    position: float
    started: str
    command: str
    version: str
    tools: str
    git_commit: str | None
    host: str
    exit_code: int | None = None
    seconds: float | None = None
    interrupted: bool = False
    cells: tuple[KeptCell, ...] = ()

    @property
    def by_cell(self) -> Mapping[str, KeptCell]:
        """Return the cells by id."""
        return {cell.cell: cell for cell in self.cells}


def kept_run(records: Sequence[Record]) -> KeptRun:
    """Return the last run of `records` as it is kept.

    Raises:
        StoreError: its first record, which holds the run's id, is not among them.
    """
    return _kept(overview(records))


def _kept(seen: Overview) -> KeptRun:
    run, end = seen.run, seen.end
    if run is None:
        raise StoreError("the records of the run lack the first one, which names it")
    seconds = _finite(end.seconds) if end else None
    return KeptRun(
        run=_key(run.run),
        position=_epoch(run.started) + (seconds or 0.0),
        started=_text(run.started),
        command=_text(run.command),
        version=_text(run.version),
        tools=_text(json.dumps(dict(run.tools))),
        git_commit=_text(run.git_commit) if run.git_commit else None,
        host=_text(run.host),
        exit_code=end.exit_code if end else None,
        seconds=seconds,
        interrupted=bool(end and end.interrupted),
        cells=tuple(_cell(cell, run.host) for cell in seen.cells),
    )


def _cell(seen: CellOutcome, host: str) -> KeptCell:
    found = seen.provenance
    place = _provenance(found) if found is not None else None
    numbers = {_key(name): _number(record, found) for name, record in seen.measurements.items()}
    compiled = next((job for job in seen.jobs if job.stage == "compile" and job.state == "run"), None)
    if compiled is not None:
        numbers[COMPILE_TIME] = KeptNumber(name=COMPILE_TIME, value=compiled.seconds, unit="s")
    bundle = next((job.key for job in seen.jobs if job.stage == "bundle" and job.state in ("run", "hit")), None)
    return KeptCell(
        cell=_key(seen.id),
        target=_key(seen.target),
        model=_key(seen.model),
        variant=_key(seen.variant),
        state=seen.state,
        cause=_text(seen.cause),
        board=_key(board_of(found.board, host)) if found is not None else None,
        timing=found.timing if found is not None else None,
        provenance=place,
        bundle=_key(bundle) if bundle else None,
        command=_text(seen.command) if seen.command else None,
        numbers=numbers,
        checks={_key(record.name): _check(record) for record in seen.checks},
    )


def _number(record: MeasurementRecord, of_cell: Provenance | None) -> KeptNumber:
    return KeptNumber(
        name=_key(record.name),
        value=record.value,
        unit=_key(record.unit),
        samples=record.samples,
        provenance=None if record.provenance == of_cell else _provenance(record.provenance),
    )


def _check(record: CheckRecord) -> KeptCheck:
    return KeptCheck(
        name=_key(record.name),
        status=record.status,
        value=record.value,
        limit=record.limit,
        unit=_key(record.unit) if record.unit else None,
        message=_text(record.message),
        note=_text(record.note) if record.note else None,
        cases=record.cases,
    )


def board_of(name: str, host: str) -> str:
    """Return the name of a board in histories that several hosts write to: `local@builder` for the host itself.

    Args:
        name: as a Provenance has it.
        host: as a RunRecord has it: the name comes first.
    """
    words = host.split()
    return f"{name}@{words[0]}" if name == _THIS_HOST and words else name


def pack(samples: Sequence[float]) -> bytes | None:
    """Return samples as a few bytes, exact: little-endian doubles, deflated where that is shorter; None for none."""
    if not samples:
        return None
    raw = array("d", samples).tobytes()
    deflated = zlib.compress(raw, 1)
    return _DEFLATED + deflated if len(deflated) < len(raw) else _RAW + raw


def unpack(data: bytes | memoryview | None) -> tuple[float, ...]:
    """Return the samples that `pack` was given.

    Raises:
        StoreError: the bytes are none of its, as in a damaged or hostile file.
    """
    if not data:
        return ()
    content, kind = bytes(data[1:]), bytes(data[:1])
    try:
        if kind == _DEFLATED:
            inflate = zlib.decompressobj()
            content = inflate.decompress(content, _MOST_SAMPLES * _ITEM)
            if not inflate.eof:
                raise StoreError("samples of the history are cut short or too many")
        elif kind != _RAW:
            raise StoreError("samples of the history are in a form that this version does not know")
        return tuple(array("d", content))
    except (zlib.error, ValueError) as error:
        raise StoreError(f"samples of the history are damaged: {error}") from error


def _provenance(found: Provenance) -> str:
    # pydantic.dataclasses gives each class its own serializer, see crossfarm.results.to_json.
    text: bytes = type(found).__dict__["__pydantic_serializer__"].to_json(found, exclude_none=True)
    return _text(text.decode())


def _text(text: str) -> str:
    """Return a text that both databases hold: PostgreSQL's has no NUL."""
    return text.replace("\0", "\ufffd")


def _key(text: str) -> str:
    """Return a text for an index: a very long one is cut, and ends with its digest."""
    data = text.encode("utf-8", "replace")
    if len(data) <= _KEY_BYTES:
        return _text(text)
    digest = hashlib.sha256(data).hexdigest()[:16]
    return _text(data[: _KEY_BYTES - 20].decode("utf-8", "ignore") + f"…{digest}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _epoch(started: str) -> float:
    """Return a time in seconds since the epoch; 0 for one that cannot be read, which is then older than all others."""
    try:
        moment = datetime.fromisoformat(started)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
