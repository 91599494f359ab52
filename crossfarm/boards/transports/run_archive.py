"""Unpacks the archive that a board sends after a run; the board chooses neither names nor sizes of files.

The archive is read header by header. Only plain files are taken that the bundle declares, each once, and none larger
than it can be. Everything else, such as a link, a device, a sparse file, another name or one file more, is refused.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossfarm.boards.transports.facts import Facts, ThermalState
from crossfarm.errors import BoardError, BundleError
from crossfarm.util.text import clean

MANIFEST = "manifest.json"
_PROFILE = "profile.json"
_MANIFEST_BYTES = 1 << 26
_MOST_OUTPUT_BYTES = 4 << 30
_RESULT_BYTES = 4 << 20
"""Of result.json; 100,000 timed runs take 1 MiB."""
_PROFILE_BYTES = 16 << 20
_TEXT_BYTES: Mapping[str, int] = {"code": 16, "tail": 4096, "before": 1 << 18, "after": 1 << 16}
_BLOCK = tarfile.BLOCKSIZE
_SKIPPED = (tarfile.XHDTYPE, tarfile.XGLTYPE)
"""Extended headers, in which some tar programs put exact times; all else in them is ignored."""
_EXTENDED_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
_SLACK_BYTES = 1 << 20
"""Folders, extended headers, and the zeros at the archive's end."""
_MOST_MEMBERS = 4096

_DTYPE = re.compile(r"(?:u?int|float|bfloat)([0-9]{1,3})")


class _Port(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    dtype: Annotated[str, Field(max_length=40)]
    shape: Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 40)], ...], Field(max_length=64)]

    @property
    def bytes(self) -> int:
        bits = _DTYPE.fullmatch(self.dtype)
        return math.prod(self.shape) * (-(-int(bits[1]) // 8) if bits else 1)


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    cases: Annotated[int, Field(ge=0, lt=1 << 40)]
    outputs: Annotated[tuple[_Port, ...], Field(max_length=1024)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """The files that a run of one bundle can leave: path -> its largest size in bytes."""

    files: Mapping[str, int]

    def plain(self) -> Expected:
        """Return the same for a run whose calls are not timed."""
        return Expected(files={name: size for name, size in self.files.items() if name != _PROFILE})

    @property
    def bytes(self) -> int:
        """Return how long the archive of a run can be."""
        sizes = [*self.files.values(), *_TEXT_BYTES.values()]
        return sum(size + 2 * _BLOCK for size in sizes) + _SLACK_BYTES


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a board says about a run: exit code, the end of what the program said, the board before and after it."""

    code: int
    tail: str
    before: Facts
    after: ThermalState


def expected_of(bundle: Path) -> Expected:
    """Return what a run of a bundle can leave, from its manifest.

    Raises:
        BundleError: the manifest cannot be read, or declares outputs that no board is asked for.
    """
    try:
        with (bundle / MANIFEST).open("rb") as stream:
            manifest = _Manifest.model_validate_json(stream.read(_MANIFEST_BYTES))
    except OSError as error:
        raise BundleError(f"{MANIFEST} cannot be read: {error.strerror}; make the bundle again") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{MANIFEST} is damaged at {place or 'its start'}: {first['msg']}; make it again") from error
    files = {f"outputs/{number}.bin": manifest.cases * port.bytes for number, port in enumerate(manifest.outputs)}
    if sum(files.values()) > _MOST_OUTPUT_BYTES:
        raise BundleError(
            f"the outputs of all {manifest.cases} cases take {sum(files.values()) >> 20} MiB, a board is asked for "
            f"{_MOST_OUTPUT_BYTES >> 20} at most; declare fewer cases"
        )
    return Expected(files={**files, "result.json": _RESULT_BYTES, _PROFILE: _PROFILE_BYTES})


def unpack(stream: IO[bytes], expected: Expected, output: Path) -> RunReport:
    """Take files and report out of the archive of a run.

    Args:
        stream: the archive.
        expected: what it may hold.
        output: existing folder that gets the files.

    Raises:
        BoardError: it holds something else, or is not whole.
    """
    texts: dict[str, bytes] = {}
    taken: set[str] = set()
    for _ in range(_MOST_MEMBERS):
        member = _header(stream)
        if member is None:
            return _report(texts)
        if member.type in _SKIPPED:
            _skip(stream, member)
            continue
        name = member.name.removeprefix("./").rstrip("/")
        if member.type == tarfile.DIRTYPE and name in ("", ".", "outputs") and member.size == 0:
            continue
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise _refused(f"{member.name!r}, which is no plain file")
        most = expected.files.get(name, _TEXT_BYTES.get(name, -1))
        if most < 0:
            raise _refused(f"{member.name!r}, which no run leaves")
        if name in taken:
            raise _refused(f"{member.name!r} twice")
        if not 0 <= member.size <= most:
            raise _refused(f"{member.name!r} with {member.size} bytes, which has {most} at most")
        taken.add(name)
        if name in _TEXT_BYTES:
            texts[name] = _exactly(stream, member.size)
        else:
            _write(stream, output / name, member.size)
        _exactly(stream, -member.size % _BLOCK)
    raise _refused(f"more than {_MOST_MEMBERS} members")


def _header(stream: IO[bytes]) -> tarfile.TarInfo | None:
    """Return the next member, and None at the archive's end."""
    block = _exactly(stream, _BLOCK)
    if not any(block):
        return None
    try:
        # Reading one block follows no extended header, knows no sparse map and calls itself for nothing.
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _refused("what is no tar archive") from error


def _skip(stream: IO[bytes], member: tarfile.TarInfo) -> None:
    if not 0 <= member.size <= _EXTENDED_BYTES:
        raise _refused(f"an extended header of {member.size} bytes")
    _exactly(stream, member.size + -member.size % _BLOCK)


def _write(stream: IO[bytes], path: Path, size: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, _CHUNK_BYTES):
            file.write(_exactly(stream, min(_CHUNK_BYTES, size - start)))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise BoardError("the archive of the run ends too soon")
    return data


def _report(texts: Mapping[str, bytes]) -> RunReport:
    said = {name: content.decode("utf-8", errors="replace") for name, content in texts.items()}
    missing = [name for name in ("code", "before", "after") if name not in said]
    if missing:
        raise BoardError(f"the archive of the run lacks {', '.join(missing)}")
    if not re.fullmatch(r"[0-9]{1,3}\n?", said["code"]):
        raise _refused("an exit code that is none")
    return RunReport(
        code=int(said["code"]),
        tail=clean(said.get("tail", "")),
        before=Facts.parse(said["before"]),
        after=ThermalState.parse(said["after"]),
    )


def _refused(what: str) -> BoardError:
    return BoardError(f"the archive of the run holds {what}")
