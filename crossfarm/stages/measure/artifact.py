"""What a run on a board leaves: result.json, which the runner writes, and measure.json, which says where that was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossfarm.errors import BundleError

RESULT = "result.json"
MEASURE = "measure.json"
PROFILE = "profile.json"
MANIFEST = "manifest.json"

Size = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Written(BaseModel):
    """A file of ours; what a newer version adds is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class OutputFile(_Written):
    """One output in result.json; `file` is relative to the folder outputs/."""

    name: str
    file: Annotated[str, Field(pattern=r"^[0-9]{1,4}\.bin$")]


class RunnerResult(_Written):
    """result.json of the runner; times in ns, sizes in bytes."""

    format: Literal[1]
    model: str
    target: str
    identity: str
    threads: Size
    cases: Size
    warmup: Size
    load_ns: Size
    verify_ns: Size
    latency_ns: tuple[Size, ...]
    arena_bytes: Size
    weights_bytes: Size
    program_bytes: Size
    peak_rss_bytes: Size
    workspace_peak_bytes: Size
    outputs: tuple[OutputFile, ...]


class ProfiledCall(_Written):
    """One call of a compiled function: its nanoseconds in each profiled run."""

    name: str
    ns: tuple[Size, ...]


class ProfileFile(_Written):
    """What the runner writes for --profile: every call of a run, in order."""

    format: Literal[1]
    identity: str
    threads: int
    calls: tuple[ProfiledCall, ...]


class BoardFile(_Written):
    """measure.json: the board that a bundle ran on, and how it was during that."""

    board: str
    timing: Literal["silicon", "emulated", "simulated"]
    emulator: str | None
    machine: str
    kernel: str
    cpu_model: str | None
    governor: str | None
    temperature: float | None
    """Degrees Celsius at the end of the run."""
    throttled: str | None = None
    """How the board slowed down meanwhile, in a few words."""
    sandbox: str | None = None
    """What sandboxed the program on this host: `bubblewrap`, `unshare` or `none`; None on a board."""
    virtualisation: str | None = None
    """Hypervisor or emulator that the board runs under."""
    git_commit: str | None = None
    """Of the project, at the time of the run."""


class BundleManifest(_Written):
    """What the later stages read of a bundle's manifest.json."""

    model: str
    target: str
    variant: str
    cell: str
    identity: str
    cases: Size
    provenance: dict[str, str | None] = {}
    unscheduled: tuple[str, ...] = ()
    """Functions that no rule covered wholly."""
    left_in_float: dict[str, int] = {}
    """Operators of a quantised model without an integer kernel -> how many."""


_File = TypeVar("_File", bound=_Written)


def read_file(kind: type[_File], path: Path) -> _File:
    """Read one of these files.

    Raises:
        BundleError: it is missing or is not what this version writes.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(
            f"{path.name} cannot be read: {error.strerror}; run the stage that writes it again"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path.name} is damaged at {place or 'its start'}: {first['msg']}; make it again") from error
