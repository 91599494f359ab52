"""Calls MERA in a process of its own: where it aborts or hangs, that process ends, and what it said is the error."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossfarm.errors import ModelError, ToolError, ToolMissingError
from crossfarm.util.environments import ToolEnvironment
from crossfarm.util.processes import ending, failure
from crossfarm.util.tool_sandbox import run_sandboxed

VERSION = "1.6.0"
MERA = ToolEnvironment(
    name="mera", python="3.10", packages=("g++", "libllvm14"), completed_by="crossfarm.setup.mera_libraries"
)
LIBRARIES = Path("lib", "crossfarm")
"""In the environment: libraries that MERA wants and Debian has in another version; crossfarm.setup puts them there."""
SCRIPT = Path(__file__).with_name("script.py")
INTERPRETER, SIMULATOR = "InterpreterHw", "Simulator"
"""MERA's names of its functional model, and of its simulator."""
TORCHSCRIPT = "int8"
"""Variant that comes as quantised TorchScript; of others MERA quantises float32 itself."""
DEPLOYED = ("deploy.so", "deploy.json", "deploy.params")
"""What MERA makes for each of its targets."""

_REFUSED = 3
"""Exit code of the script when MERA raised an error."""
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS)
"""Signals by which its libraries end a process over a model. SIGILL is not among them: it is about the processor."""
_FATAL = re.compile(r"^F\d{4,8} [\d:.]+ +\d+ [^\]\n]*\] +(.*)$", re.MULTILINE)
"""A fatal line of glog; what stands behind the place in the source is for people."""
_ERROR = re.compile(r"^mera: (.*)$", re.MULTILINE)
"""The line of our script."""
_NOISE = re.compile(r"\*\*\* |\s*@ |\s*$|Aborted")
_LONGEST = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One thing for MERA to do.

    Attributes:
        doing: in words, for messages: `quantising`.
        request: `action`, and what that action in script.py takes; plain JSON values, paths absolute.
    """

    doing: str
    request: Mapping[str, Any]


def call(
    steps: Sequence[Step],
    *,
    cell: str,
    folder: Path,
    processor_seconds: int,
    wall_seconds: float,
    path: Path | None = None,
    reads: Sequence[Path] = (),
) -> list[Any]:
    """Have one process of MERA do some things in a sandbox, and return what script.py answers to each.

    Args:
        steps: one behind the other; starting MERA takes longer than most of them.
        cell: its id, for messages.
        folder: an existing one for what goes between the two processes; MERA runs there, and writes nowhere else. It
            stands below a folder that is closed to other users.
        processor_seconds: what it may compute, for all steps together.
        wall_seconds: by the clock; then it and all that it started are ended.
        path: a folder that is looked through for programs before the others.
        reads: what else it may read.

    Raises:
        ModelError: MERA refuses the model or crashes over it; the message holds MERA's own sentence.
        ToolError: MERA is not there, does not start, or takes too long.
    """
    python = MERA.interpreter()
    if python is None:
        raise ToolMissingError(f"MERA: {MERA.missing()}")
    given, answer, progress = (folder / name for name in ("request.json", "answer.json", "progress"))
    given.write_text(json.dumps([step.request for step in steps]), encoding="utf-8")
    answer.unlink(missing_ok=True)
    progress.write_bytes(b"")
    done = run_sandboxed(
        [str(python), "-I", str(SCRIPT), str(given), str(answer), str(progress)],
        folder=folder,
        reads=(*MERA.folders(), SCRIPT, *reads),
        processor_seconds=processor_seconds,
        wall_seconds=wall_seconds,
        variables=variables(python.parent.parent, path),
        slow="raise the limit, or leave the cell out with `skip` in models.yaml",
    )
    sys.stderr.write(done.stdout)
    # A step that began has left one byte more.
    doing = f"{steps[max(progress.stat().st_size, 1) - 1].doing} {cell}"
    if -done.returncode in _CRASHES or done.returncode == _REFUSED:
        how = "refused" if done.returncode == _REFUSED else ending(done.returncode)
        raise ModelError(
            f"MERA {how} while {doing}: {sentence(done.stdout)}; leave the cell out with `skip` in models.yaml, or "
            "change the model"
        )
    if done.returncode:
        raise ToolError(f"MERA failed while {doing}: {failure(done)}")
    try:
        answers: list[Any] = json.loads(answer.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ToolError(f"MERA left no answer while {doing}: {error}; {failure(done)}") from error
    return answers


def order_of_axes(rank: int, *, variant: str) -> tuple[int, ...]:
    """Return for each axis of an input, as MERA takes it, the axis of the model: TorchScript has its channels last."""
    return (0, 2, 3, 1) if variant == TORCHSCRIPT and rank == 4 else tuple(range(rank))


def sentence(said: str) -> str:
    """Return what MERA says is wrong: its fatal line, else its error, else the last line that says something."""
    for pattern in (_FATAL, _ERROR):
        if found := pattern.findall(said):
            return _short(found[-1])
    lines = [line for line in said.splitlines() if not _NOISE.match(line)]
    return _short(lines[-1]) if lines else "it said nothing"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def variables(environment: Path, path: Path | None = None) -> Mapping[str, str]:
    """Return the variables of the process: where its libraries and programs are looked for."""
    programs = os.environ.get("PATH", os.defpath)
    return {
        # TVM would download schedules that nothing pins, and keep them in the user's home.
        "TOPHUB_LOCATION": "NONE",
        "LD_LIBRARY_PATH": f"{environment / LIBRARIES}:{environment / 'lib'}",
        "PATH": programs if path is None else f"{path}:{programs}",
        "GLOG_logtostderr": "1",
    }
