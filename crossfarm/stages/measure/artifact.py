"""What a run on a board leaves beside result.json: profile.json, and measure.json, which says where that was."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from crossfarm.boards.result import Size, Written
from crossfarm.errors import BundleError

MEASURE = "measure.json"
PROFILE = "profile.json"
MANIFEST = "manifest.json"


class ProfiledCall(Written):
    """One call of a compiled function: its nanoseconds in each profiled run."""

    name: str
    ns: tuple[Size, ...]


class ProfileFile(Written):
    """What the runner writes for --profile: every call of a run, in order."""

    format: Literal[1]
    identity: str
    threads: int
    calls: tuple[ProfiledCall, ...]


class BoardFile(Written):
    """measure.json: the board that a bundle ran on, and how it was during that."""

    board: str
    timing: Literal["silicon", "emulated", "simulated", "estimated"]
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
    simulator: str | None = None
    """Module of the simulator of the target's backend; what it or a card leaves lacks what only the runner knows."""
    git_commit: str | None = None
    """Of the project, at the time of the run."""


class BundleManifest(Written):
    """What the later stages read of a bundle's manifest.json."""

    model: str
    target: str
    variant: str
    cell: str
    identity: str
    cases: Size
    provenance: dict[str, str | None] = Field(default_factory=dict)
    unscheduled: tuple[str, ...] = ()
    """Functions that no rule covered wholly."""
    left_in_float: dict[str, int] = Field(default_factory=dict)
    """Operators of a quantised model without an integer kernel -> how many."""


_File = TypeVar("_File", bound=Written)


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
