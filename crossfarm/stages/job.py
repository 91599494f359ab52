"""What a stage is given to run: one job, read from and written to a JSON file.

A job sees its declared inputs, its parameters, an empty output folder and a log, and nothing else. It runs the same in
this process, in a container and on a worker, as `python -m crossfarm.job JOB.json`. What became of it stands in
`outcome.json` beside the job file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import resource
import stat
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_INFRASTRUCTURE, BoardError, CrossfarmError
from crossfarm.text import one_line

MEMORY = "CROSSFARM_JOB_MEMORY"
"""The environment variable with the most bytes of memory that a job may take which takes a stranger's model apart."""
_LIMITED = frozenset({"prepare", "reference", "quantize"})
"""Stages that do. A compiler may take more, and what runs on a board is limited there."""

HOST = "host"
"""Stands for an image's digest where a job runs on this host."""
_OUTCOME_BYTES = 64 << 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grant:
    """A board that the job may use as long as its lease lasts.

    Attributes:
        board: a `crossfarm.spec.boards.Board` as plain JSON; `key` is an absolute path.
        token: the fencing token; it grows with every lease of this board, and the board refuses a smaller one than it
            has seen.
    """

    board: Mapping[str, Any]
    token: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One stage of one source, model or cell.

    Attributes:
        id: `compile:armv7-mnist_cnn-float32`; unique in a plan.
        stage: name of the stage.
        key: sha256 over everything that shapes the artifact.
        parameters: plain JSON values; a stage validates what it takes out with the spec's own models.
        inputs: folder of each input artifact, read-only.
        output: an empty folder, the only place that the job writes to.
        root: the project's folder, for files that are declared relative to models.yaml.
        grant: the board that it runs on; None on this host. Not part of its key.
        image: digest of the container image that it runs in, or HOST.
    """

    id: str
    stage: str
    key: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Path]
    output: Path
    root: Path
    grant: Grant | None = None
    image: str = HOST

    def group(self, kind: str) -> Any:
        """Return the one parameter group of a kind: `model` finds `model mnist_cnn`.

        Raises:
            KeyError: the stage declared none.
        """
        for name, value in self.parameters.items():
            if name == kind or name.startswith(f"{kind} "):
                return value
        raise KeyError(f"{self.id}: no parameter group {kind!r}")

    def write(self, path: Path) -> None:
        """Write this job as a job file."""
        path.write_text(json.dumps({**dataclasses.asdict(self), "parameters": self.parameters}, default=str))

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not a job file.
        """
        raw = json.loads(path.read_text())
        return cls(
            id=raw["id"],
            stage=raw["stage"],
            key=raw["key"],
            parameters=raw["parameters"],
            inputs={role: Path(folder) for role, folder in raw["inputs"].items()},
            output=Path(raw["output"]),
            root=Path(raw["root"]),
            grant=Grant(**raw["grant"]) if raw.get("grant") else None,
            image=raw["image"],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job.

    Attributes:
        good: its output folder holds a whole artifact.
        cause: one line that says what went wrong; empty when nothing did.
        fault: whose fault that is.
        seconds: wall time of the stage itself.
        is_board_fault: the board failed it; another board may do better.
    """

    good: bool
    seconds: float
    cause: str = ""
    fault: Literal["product", "infrastructure"] | None = None
    is_board_fault: bool = False


def run_job_file(path: Path) -> Outcome:
    """Run the job of a job file in this process and write outcome.json beside it. Never raises for a failed job."""
    from crossfarm.stages import STAGES

    started = time.monotonic()
    try:
        job = Job.read(path)
        _limit_memory(job.stage)
        STAGES[job.stage].run(job)
    except CrossfarmError as error:
        traceback.print_exc()
        outcome = failed(error, time.monotonic() - started)
    except MemoryError:
        traceback.print_exc()
        outcome = Outcome(
            good=False,
            seconds=time.monotonic() - started,
            fault="infrastructure",
            cause="out of memory; give jobs more with --memory, or run fewer at once with --jobs 1",
        )
    except Exception as error:
        traceback.print_exc()
        disk_full = isinstance(error, OSError) and error.errno is not None
        outcome = Outcome(
            good=False,
            seconds=time.monotonic() - started,
            cause=one_line(f"{type(error).__name__}: {error}"),
            fault="infrastructure" if disk_full else "product",
        )
    else:
        outcome = Outcome(good=True, seconds=time.monotonic() - started)
    with contextlib.suppress(OSError):
        temporary = path.with_name("outcome.tmp")
        temporary.write_text(json.dumps(dataclasses.asdict(outcome)))
        temporary.rename(path.with_name("outcome.json"))
    return outcome


def _limit_memory(stage: str) -> None:
    """Limit what this process may write to, where its engine says so: address space that libraries reserve is free."""
    most = os.environ.get(MEMORY, "")
    if stage in _LIMITED and most.isdecimal():
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = int(most) if hard == resource.RLIM_INFINITY else min(int(most), hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def failed(error: CrossfarmError, seconds: float) -> Outcome:
    """Return the outcome of a job that ended with one of our own errors."""
    product = error.exit_code == EXIT_CHECK_FAILED or error.exit_code < EXIT_INFRASTRUCTURE
    return Outcome(
        good=False,
        seconds=seconds,
        cause=one_line(str(error)),
        fault="product" if product else "infrastructure",
        is_board_fault=isinstance(error, BoardError),
    )


def read_outcome(path: Path) -> Outcome | None:
    """Return the outcome that a job left beside its job file, or None when it left none that is whole.

    Nothing of it is believed but its form: it is read without following a link, once, and not for ever.
    """
    try:
        descriptor = os.open(path.with_name("outcome.json"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        try:
            raw: Any = json.loads(stream.read(_OUTCOME_BYTES))
            seconds = float(raw["seconds"])
            return Outcome(
                good=raw["good"] is True,
                seconds=seconds if math.isfinite(seconds) and seconds >= 0 else 0.0,
                cause=one_line(str(raw["cause"])),
                fault=raw["fault"] if raw["fault"] in ("product", "infrastructure") else None,
                is_board_fault=raw.get("is_board_fault") is True,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, OSError):
            return None


def main(arguments: list[str]) -> int:
    """Run one job file and return the exit code: 0, 1 for the product's fault, 3 for the infrastructure's."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m crossfarm.job JOB.json\n")
        return 2
    path = Path(arguments[0])
    os.environ.setdefault("PYTHONHASHSEED", "0")
    outcome = run_job_file(path)
    if outcome.good:
        return 0
    sys.stderr.write(f"{path}: {outcome.cause}\n")
    return EXIT_CHECK_FAILED if outcome.fault == "product" else EXIT_INFRASTRUCTURE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
