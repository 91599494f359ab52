"""What a stage is given to run: one job, read from and written to a JSON file; and what became of it.

A job sees its declared inputs, its parameters, an empty output folder and a log, and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_INFRASTRUCTURE, BoardError, CrossfarmError, UnfitError
from crossfarm.util.text import one_line

JOB_FILE = "job.json"
"""In the folder of a job."""
HOST = "host"
"""Stands for an image's digest where a job runs on this host."""
_OUTCOME_BYTES = 64 << 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grant:
    """A board that the job may use as long as its lease lasts.

    Attributes:
        board: a `crossfarm.config.boards.Board` as plain JSON; `key` is an absolute path.
        token: the fencing token; it grows with every lease of this board, and the board refuses a smaller one than it
            has seen.
    """

    board: Mapping[str, Any]
    token: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One stage of one source, model, target or cell.

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
        preload: modules that a worker imports before the first such job, because importing them takes long. Not part of
            its key.
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
    preload: tuple[str, ...] = ()

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
            preload=tuple(raw["preload"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job.

    Attributes:
        good: its output folder holds a whole artifact.
        cause: one line that says what went wrong, or why it is not for this target; empty when nothing did.
        fault: whose fault that is.
        seconds: wall time of the stage itself.
        is_board_fault: the board failed it; another board may do better.
        is_unfit: the model is sound and not for this target; a cell is then skipped.
    """

    good: bool
    seconds: float
    cause: str = ""
    fault: Literal["product", "infrastructure"] | None = None
    is_board_fault: bool = False
    is_unfit: bool = False


def failed(error: CrossfarmError, seconds: float) -> Outcome:
    """Return the outcome of a job that ended with one of our own errors."""
    product = error.exit_code == EXIT_CHECK_FAILED or error.exit_code < EXIT_INFRASTRUCTURE
    return Outcome(
        good=False,
        seconds=seconds,
        cause=one_line(str(error)),
        fault="product" if product else "infrastructure",
        is_board_fault=isinstance(error, BoardError),
        is_unfit=isinstance(error, UnfitError),
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
                is_unfit=raw.get("is_unfit") is True,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, OSError):
            return None
