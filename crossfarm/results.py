"""The append-only records of a run: one JSON object a line in results.jsonl, written as things happen.

A run writes a RunRecord first, then a JobRecord for every job that ended and whatever its checks recorded, and an
EndRecord last. A file without an EndRecord is a run that was killed. Reports read this file and nothing else.

Units are `ns`, `s`, `bytes`, `count`, `share` (0 to 1), `scale` (a difference as a share of the output's scale) and
`celsius`. A number that is not finite is kept, as the strings "NaN" and "Infinity" which JSON allows.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from crossfarm.errors import StoreError
from crossfarm.util.text import escaped_json

if TYPE_CHECKING:
    from pydantic_core import SchemaSerializer

JobState = Literal["run", "hit", "failed", "known failure", "skipped", "cancelled"]
Fault = Literal["product", "infrastructure"]
CheckStatus = Literal["passed", "failed", "error", "known failure", "unexpected pass", "skipped", "informative"]
Timing = Literal["silicon", "emulated", "simulated", "estimated"]

_STRICT = ConfigDict(strict=True, extra="forbid", ser_json_inf_nan="strings")
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) and value in _NOT_FINITE else value


Number = Annotated[float, BeforeValidator(_number)]
"""A float; strict, but for the strings that stand for the three that JSON has no number for."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Provenance:
    """Where and with what a number was measured.

    Attributes:
        board: id of the board; `timing` says whether its clock means anything.
        temperature: in degrees Celsius, at the end of the run.
        image_digest: `sha256:...` of the container image the code was compiled in; None when compiled on the host.
        emulator: name and version of the emulator, for instance `qemu-arm-static 7.2.11`.
        throttled: how the board slowed down meanwhile, in a few words; None when it was not seen to.
        sandbox: what sandboxed the program on this host: `bubblewrap`, `unshare` or `none`; None on a board.
        virtualisation: hypervisor or emulator that the board runs under, such as `kvm`; None on bare metal.
    """

    board: str
    timing: Timing
    cpu_model: str | None = None
    governor: str | None = None
    temperature: Number | None = None
    image_digest: str | None = None
    tvm_version: str | None = None
    git_commit: str | None = None
    emulator: str | None = None
    throttled: str | None = None
    sandbox: str | None = None
    virtualisation: str | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RunRecord:
    """The start of a run.

    Attributes:
        run: id of the run.
        started: ISO 8601 time with its offset from UTC.
        command: what the user typed.
        version: of crossfarm.
        tools: distribution or program -> version.
        git_commit: of the project; None outside a git work tree.
        host: name and machine of the host, as `uname -nm` says them.
        cells: ids of all cells of the plan, those too that are skipped.
        jobs: ids of all jobs that the run is to do or to find in the store, so that a report of an interrupted run can
            tell which are missing.
    """

    record: Literal["run"] = "run"
    run: str
    started: str
    command: str
    version: str
    tools: Mapping[str, str] = dataclasses.field(default_factory=dict)
    git_commit: str | None = None
    host: str
    cells: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class JobRecord:
    """The end of one job.

    Attributes:
        job: its id, `compile:armv7-mnist_cnn-float32`.
        cell: id of its cell; None for a job about a source or a model. `model`, `target` and `variant` likewise.
        state: `hit` means the store had it; `cancelled` that a job it needs did not succeed, or the run was ended;
            `known failure` that it failed, as models.yaml declares it to.
        seconds: how long it took.
        started: ISO 8601 time with its offset from UTC.
        cause: why it failed, one line.
        fault: whose fault that is; a fault of the infrastructure is reported as an error, not as a failure.
        reason: why it ran, or why it was skipped.
        log: path of its log.
        key: its key in the store; None when it was skipped before the key was known.
        image: `sha256:...` of the container image that it ran in; None on this host.
        file: the file that declares its model, and the line.
        command: what to type to run just this again.
        board: the board that it ran on; None on this host.
        flaky: boards that it tried before, each with what went wrong there: `pi-1: it does not answer`.
        expected: why it fails, as declared, where its failure is a known one.
    """

    record: Literal["job"] = "job"
    job: str
    stage: str
    cell: str | None = None
    model: str | None = None
    target: str | None = None
    variant: str | None = None
    state: JobState
    seconds: Number
    started: str | None = None
    cause: str | None = None
    fault: Fault | None = None
    reason: str | None = None
    log: str | None = None
    key: str | None = None
    image: str | None = None
    file: str | None = None
    line: int | None = None
    command: str | None = None
    board: str | None = None
    flaky: tuple[str, ...] = ()
    expected: str | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MeasurementRecord:
    """A number of one cell.

    Attributes:
        name: what was measured: `latency.p50`, `load_time`, `arena`, `weights`, `program`, `peak_rss`,
            `accuracy.max_abs_diff.OUTPUT`.
        value: in `unit`.
        samples: the raw samples, where `value` is a statistic of some; of `profile.layers` the time of each function.
        cases: of how many elements `value` is a share; a share of cases has a check of its name, which says so.
    """

    record: Literal["measurement"] = "measurement"
    cell: str
    name: str
    value: Number
    unit: str
    samples: tuple[Number, ...] = ()
    provenance: Provenance
    cases: int | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CheckRecord:
    """Whether something that must hold does hold for one cell.

    Attributes:
        name: `accuracy.output.NAME`, `accuracy.argmax`, `accuracy.top1.DATASET`, `text.DATASET`.
        status: `informative` shows a number that gates nothing; `known failure` is one that models.yaml declares, and
            gates nothing; `unexpected pass`, of a row named `expected.NAME`, tells that NAME is not one any more.
        value: what was found, in `unit`; `limit` is what it was held against.
        message: one line with the key numbers.
        note: a few words without which `value` would mislead; they stand beside it wherever it is shown.
        cases: of how many cases `value` is a share.
        details: further lines, for instance the top-5 classes of every image.
        operators: names of the compiled functions, or of the operators, that the row is about.
        file: the file that declares the check, and its line; whoever knows the plan fills them in, and `command`.
        command: what to type to run just this again.
        expected: why it fails, as declared, where its failure is a known one.
    """

    record: Literal["check"] = "check"
    cell: str
    name: str
    status: CheckStatus
    value: Number | None = None
    limit: Number | None = None
    unit: str | None = None
    message: str
    note: str | None = None
    cases: int | None = None
    details: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    file: str | None = None
    line: int | None = None
    command: str | None = None
    expected: str | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EndRecord:
    """The end of a run: its exit code, how many seconds it took, and whether it was interrupted."""

    record: Literal["end"] = "end"
    exit_code: int
    seconds: Number
    interrupted: bool = False


Record = RunRecord | JobRecord | MeasurementRecord | CheckRecord | EndRecord


@functools.cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Annotated[Record, Field(discriminator="record")], config=_STRICT)


def to_json(record: Record) -> str:
    """Return `record` as one line of JSON without the newline, which a terminal shows as it is."""
    # pydantic.dataclasses gives each class its own, which knows the class without trying all that a record may be.
    serializer: SchemaSerializer = type(record).__dict__["__pydantic_serializer__"]
    return escaped_json(serializer.to_json(record).decode())


def placed(record: CheckRecord, *, file: str, line: int, command: str) -> CheckRecord:
    """Return a record with the place of its declaration and what runs it again.

    What was checked when the record was read is not checked again: a run places thousands of them.
    """
    copy = object.__new__(CheckRecord)
    copy.__dict__.update(record.__dict__, file=file, line=line, command=command)
    return copy


def from_json(line: str | bytes) -> Record:
    """Return the record that `line` holds.

    Raises:
        StoreError: it is not a record; unknown keys and values of another type are refused.
    """
    try:
        return _adapter().validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"not a record of a run: {where + ': ' if where else ''}{first['msg']}; "
            "the file is damaged or was written by another version of crossfarm"
        ) from None


class ResultsWriter:
    """Appends records to a file. Safe for many threads; a crash can tear the last line only.

    Raises:
        StoreError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, and make it and its folder when they are not there."""
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")
        except OSError as error:
            raise self._failed(error) from error

    def write(self, *records: Record) -> None:
        """Append `records`, all of them side by side, and hand them to the operating system at once."""
        data = memoryview("".join(to_json(record) + "\n" for record in records).encode())
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """Bring everything to the disk and close the file. A second call does nothing."""
        with self._lock:
            if self._file < 0:
                return
            file, self._file = self._file, -1
            try:
                os.fsync(file)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a pipe or a device, which has no disk to bring it to
                    raise self._failed(error) from error
            finally:
                os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(f"{self._path}: cannot be written: {error.strerror}; free some space or give another --out")


def read_records(path: Path) -> list[Record]:
    """Return all records of `path`.

    A line that a crash tore, the last of the file or the last before the next run's start, is left out.

    Raises:
        StoreError: the file cannot be read, or another line is not a record.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}; run the pipeline first") from error
    records: list[Record] = []
    torn: tuple[int, StoreError] | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = from_json(line)
        except StoreError as error:
            if torn:
                break
            torn = number, error
            continue
        if torn and not isinstance(record, RunRecord):
            break
        torn = None
        records.append(record)
    else:
        return records
    raise StoreError(f"{path}:{torn[0]}: {torn[1]}") from None


def last_run(records: Sequence[Record]) -> Sequence[Record]:
    """Return the records of the run that started last, its RunRecord first; all of them when there is no RunRecord."""
    starts = [index for index, record in enumerate(records) if isinstance(record, RunRecord)]
    return records[starts[-1] :] if starts else records
