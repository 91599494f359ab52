"""Stage `measure`: runs a bundle on a board and keeps its outputs, its times and what the board was."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfarm.errors import BoardError, BundleError, CrossfarmError, ModelError
from crossfarm.job import Job
from crossfarm.spec.pipelines import Measure
from crossfarm.spec.targets import Emulator
from crossfarm.stages.measure_file import MANIFEST, MEASURE, RESULT, BoardFile, BundleManifest, read_file
from crossfarm.stages.protocol import Needs, Scope, Subject

VERSION = 1
SCOPE: Scope = "cell"
SOURCES = (
    "crossfarm/boards/local.py",
    "crossfarm/stages/measure.py",
    "crossfarm/stages/measure_file.py",
)
TOOLS: tuple[str, ...] = ()

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
            "measure": subject.pipeline.measure.model_dump(mode="json", exclude={"data_limit"}),
            f"toolchain {target.name}": {
                "machine": list(target.machine),
                "emulator": target.emulator.model_dump(mode="json") if target.emulator is not None else None,
            },
        },
        inputs={"bundle": ("bundle", None)},
    )


def run(job: Job) -> None:
    """Write outputs/K.bin, result.json and measure.json.

    Raises:
        BoardError: there is no emulator, or the program does not start, is killed or takes too long.
        BundleError: the program refuses its bundle.
        ModelError: the model's code fails.
    """
    from crossfarm.boards import local

    settings = Measure.model_validate(job.parameters["measure"])
    toolchain = next(group for name, group in job.parameters.items() if name.startswith("toolchain "))
    emulator = Emulator.model_validate(toolchain["emulator"]) if toolchain["emulator"] is not None else None
    bundle = job.inputs["bundle"]
    manifest = read_file(BundleManifest, bundle / MANIFEST)
    how = local.way(machines=toolchain["machine"], emulator=emulator)
    (job.output / "outputs").mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        program = _executable(bundle / "program", Path(scratch))
        ended = local.run(
            [
                *how.prefix,
                str(program),
                str(bundle),
                *_arguments(settings, is_emulated=how.timing == "emulated"),
                "--outputs",
                str(job.output / "outputs"),
                "--result",
                str(job.output / RESULT),
            ],
            timeout=settings.timeout,
        )
    sys.stderr.write(ended.tail)
    if ended.code != 0:
        raise _failure(manifest.cell, ended.code, ended.tail)
    state = local.probe()
    board = BoardFile(
        board=_board_id(job.parameters),
        timing=how.timing,
        emulator=local.emulator_version(how.prefix[0]) if how.prefix else None,
        machine=state.machine,
        kernel=state.kernel,
        cpu_model=state.cpu_model,
        governor=state.governor,
        temperature=state.temperature,
        git_commit=os.environ.get("CROSSFARM_GIT_COMMIT"),
    )
    (job.output / MEASURE).write_text(board.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _arguments(settings: Measure, *, is_emulated: bool) -> list[str]:
    """Return the runner's options; emulated time means little, so that little is spent on it."""
    repeat = settings.emulated_repeat if is_emulated else settings.repeat
    warmup = min(settings.warmup, 1) if is_emulated else settings.warmup
    return ["--threads", str(settings.threads), "--warmup", str(warmup), "--repeat", str(repeat)]


def _board_id(parameters: Mapping[str, Any]) -> str:
    board = parameters.get("board") or {}
    return str(board.get("id", "local"))


def _executable(program: Path, scratch: Path) -> Path:
    """Return the program itself, or a copy that may be executed where the store has lost that right."""
    if not program.is_file():
        raise BundleError("the bundle has no program; make the bundle again")
    if os.access(program, os.X_OK):
        return program
    copy = scratch / "program"
    shutil.copyfile(program, copy)
    copy.chmod(0o755)
    return copy


def _failure(cell: str, code: int, tail: str) -> CrossfarmError:
    lines = tail.strip().splitlines()
    words = lines[-1].strip() if lines else "it said nothing"
    kind, what, advice = _FAILURES.get(code, (BoardError, f"ended with exit code {code}", "see the log"))
    return kind(f"{cell}: the program {what}: {words}; {advice}")
