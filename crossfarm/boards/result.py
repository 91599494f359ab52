"""result.json: what a run of a bundle leaves; the runner writes it on a board, and every simulator the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

RESULT = "result.json"
OUTPUTS = "outputs"
"""The folder beside it, with a file for each output of the model."""
SIMULATED = "simulated"
"""Likewise, for what a slow simulator answers to some of the cases."""

Size = Annotated[int, Field(ge=0, lt=1 << 63)]


class Written(BaseModel):
    """A file that a run leaves; what a newer version adds is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class OutputFile(Written):
    """One output: `file` is relative to the folder outputs/ and holds the tensor of every case, stacked."""

    name: str
    file: Annotated[str, Field(pattern=r"^[0-9]{1,4}\.bin$")]


class SimulatedRuns(Written):
    """What the slow simulator of an accelerator did with the first cases; its functional model answered all."""

    cycles: tuple[Size, ...]
    """Of each case that was simulated."""
    contains: str
    """What the cycles contain and what not, in a few words."""
    outputs: tuple[OutputFile, ...]
    """In the folder simulated/: the tensors of those cases, stacked."""


class RunResult(Written):
    """result.json; times in ns, sizes in bytes. What a simulator does not know stays None and is not reported."""

    format: Literal[1] = 1
    model: str
    target: str
    identity: str
    """As in manifest.json, so that a result cannot be taken for that of another bundle."""
    cases: Size
    latency_ns: tuple[Size, ...]
    """One sample for each timed run; simulated time where the transport says so."""
    outputs: tuple[OutputFile, ...]
    simulated: SimulatedRuns | None = None
    """None where nothing simulates the cell cycle by cycle."""
    threads: Size = 1
    warmup: Size = 0
    load_ns: Size | None = None
    verify_ns: Size | None = None
    arena_bytes: Size | None = None
    weights_bytes: Size | None = None
    program_bytes: Size | None = None
    peak_rss_bytes: Size | None = None
    workspace_peak_bytes: Size | None = None
    stack_peak_bytes: Size | None = None
    """Of a processor without an operating system; the runner does not look."""

    def write(self, folder: Path) -> None:
        """Write result.json into a folder."""
        (folder / RESULT).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


class RunnerResult(RunResult):
    """result.json of the runner, which knows all of it: one that lacks a number is not the runner's, and is refused."""

    format: Literal[1]
    threads: Size
    warmup: Size
    load_ns: Size
    verify_ns: Size
    arena_bytes: Size
    weights_bytes: Size
    program_bytes: Size
    peak_rss_bytes: Size
    workspace_peak_bytes: Size
