"""Stage `measure`: runs a bundle on a board and keeps its outputs, its times and what the board was."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfarm.backends import load_backend
from crossfarm.boards.protocol import DeployedBundle, ExitResult, Purpose, Transport, open_board, this_host
from crossfarm.config.boards import Board
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.pipelines import Measure
from crossfarm.config.targets import Emulator
from crossfarm.errors import BoardError, BundleError, CrossfarmError, ModelError
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject
from crossfarm.util.scratch import scratch_folder

DECLARATION = Declaration(
    version=3,
    scope="cell",
    sources=(
        "crossfarm/stages/measure/",
        "crossfarm/boards/transports/",
        "crossfarm/boards/protocol.py",
        "crossfarm/boards/result.py",
        "crossfarm/boards/cpu_features.py",
    ),
    runs_in="host",
    board="runs",
    usual_seconds=3.0,
)

_PROFILED = 5
"""Runs in which every call is timed, at most."""
_FAILURES: Mapping[int, tuple[type[CrossfarmError], str, str]] = {
    2: (BundleError, "did not understand its command line", "make the bundle again with this version"),
    3: (BundleError, "refused its bundle", "make the bundle again"),
    4: (ModelError, "failed in the model's code", "see the log; if the reference runs, report it"),
    5: (BoardError, "was failed by the machine", "see to the board's memory and disk"),
}
"""The runner's exit codes."""


def needs(subject: Subject) -> Needs:
    """Depend on the bundle, on how is measured and on what runs it; the plan adds the group `board`."""
    target = subject.target
    if target is None:
        raise ValueError("the stage `measure` is about a cell")
    return Needs(
        parameters={
            "measure": subject.group(
                "measure", make=lambda: subject.pipeline.measure.model_dump(mode="json", exclude={"data_limit"})
            ),
            f"toolchain {target.name}": subject.group(
                "measure",
                target.name,
                make=lambda: {
                    "machine": list(target.machine),
                    "backend": target.backend,
                    "code": target.instructions.model_dump(mode="json") if target.instructions is not None else None,
                    "emulator": target.emulator.model_dump(mode="json") if target.emulator is not None else None,
                },
            ),
        },
        inputs={"bundle": ("bundle", None)},
    )


def run(job: Job) -> None:
    """Write outputs/K.bin, result.json and measure.json; and profile.json, where no rule covers a function wholly.

    Raises:
        BoardError: the board is not fit for use, or the program does not start, is killed or takes too long.
        BundleError: the bundle does not fit the board, or the program refuses it.
        ModelError: the model's code fails.
    """
    from crossfarm.stages.measure.artifact import MANIFEST, MEASURE, BoardFile, BundleManifest, read_file

    settings = Measure.model_validate(job.parameters["measure"])
    purpose = _purpose(job.parameters, simulated_cases=settings.simulated_cases)
    board = Board.model_validate(job.grant.board) if job.grant else this_host(purpose.target)
    manifest = read_file(BundleManifest, job.inputs["bundle"] / MANIFEST)
    (job.output / "outputs").mkdir()
    simulator = load_backend(job.group("toolchain")["backend"]).DECLARATION.simulator
    stands_in = simulator if board.transport == "local" else None
    token = job.grant.token if job.grant else 0
    with open_board(board, purpose, token=token, simulator=simulator) as transport:
        transport.preflight()
        placed = transport.deploy(job.inputs["bundle"])
        options = _arguments(settings, is_real=transport.timing == "silicon")
        ended = transport.run(placed, options, output=job.output, timeout=settings.timeout)
        _report(ended, manifest.cell)
        if manifest.unscheduled and stands_in is None:
            _profile(transport, placed, settings, job.output, manifest.cell)
    written = BoardFile(
        board=job.grant.board["name"] if job.grant else _board_id(job.parameters),
        timing=transport.timing,
        emulator=transport.emulator,
        simulator=simulator,
        git_commit=os.environ.get("CROSSFARM_GIT_COMMIT"),
        throttled=ended.throttled,
        sandbox=ended.sandbox,
        **dataclasses.asdict(ended.state),
    )
    (job.output / MEASURE).write_text(written.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _purpose(parameters: Mapping[str, Any], *, simulated_cases: int) -> Purpose:
    """Return what a board is wanted for, from the group of the toolchain."""
    name, toolchain = next(item for item in parameters.items() if item[0].startswith("toolchain "))
    emulator = toolchain["emulator"]
    return Purpose(
        target=name.removeprefix("toolchain "),
        machine=tuple(toolchain["machine"]),
        emulator=Emulator.model_validate(emulator) if emulator is not None else None,
        code=LlvmCode.model_validate(toolchain["code"]) if toolchain["code"] is not None else None,
        simulated_cases=simulated_cases,
    )


def _arguments(settings: Measure, *, is_real: bool) -> list[str]:
    """Return the runner's options; time of an emulator or simulator needs no many samples, and takes long to get."""
    repeat = settings.repeat if is_real else settings.emulated_repeat
    warmup = settings.warmup if is_real else min(settings.warmup, 1)
    return ["--threads", str(settings.threads), "--warmup", str(warmup), "--repeat", str(repeat)]


def _profile(transport: Transport, placed: DeployedBundle, settings: Measure, output: Path, cell: str) -> None:
    """Time every call in a few runs of their own, so that the runs that count stay as they are."""
    from crossfarm.stages.measure.artifact import PROFILE

    repeat = min(_PROFILED, settings.repeat if transport.timing == "silicon" else settings.emulated_repeat)
    options = ["--threads", str(settings.threads), "--warmup", "1", "--repeat", str(repeat), "--cases", "1"]
    with scratch_folder("profile") as name:
        folder = Path(name)
        ended = transport.run(placed, [*options, "--no-verify"], output=folder, timeout=settings.timeout, profile=True)
        _report(ended, cell)
        try:
            shutil.copyfile(folder / PROFILE, output / PROFILE, follow_symlinks=False)
        except FileNotFoundError:
            raise BundleError(f"{cell}: the program wrote no {PROFILE}; make the bundle again") from None


def _report(ended: ExitResult, cell: str) -> None:
    """Put into the log what a program said; raise when it failed."""
    sys.stderr.write(ended.tail)
    if ended.code != 0:
        raise _failure(cell, ended.code, ended.tail)


def _board_id(parameters: Mapping[str, Any]) -> str:
    board = parameters.get("board") or {}
    return str(board.get("id", "local"))


def _failure(cell: str, code: int, tail: str) -> CrossfarmError:
    lines = tail.strip().splitlines()
    words = lines[-1].strip() if lines else "it said nothing"
    kind, what, advice = _FAILURES.get(code, (BoardError, f"ended with exit code {code}", "see the log"))
    return kind(f"{cell}: the program {what}: {words}; {advice}")
