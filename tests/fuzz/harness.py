"""Runs one hostile input after another, each in a forked process with limits, and says what became of them."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from crossfarm.errors import CrossfarmError

PROCESSOR_SECONDS = 20
"""An input that takes longer counts as a hang."""
CLOCK_SECONDS = 600.0
MEMORY_BYTES = 4 << 30
"""Address space of a process; libraries alone map about 1 GiB."""
TEXT_LIMIT = 20_000
"""Characters of an error at most."""

Outcome = Literal["accepted", "refused", "failed"]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of input.

    Attributes:
        name: as a user says it.
        count: inputs of a full run.
        make: writes one input into a folder; all that is random comes from the generator.
        feed: hands the input in a folder to the code under test; returns whether it was accepted. It raises
            CrossfarmError when the input is refused, `HarmError` or anything else when something is wrong.
        memory: address space in bytes; None where a sanitizer maps terabytes of it.
    """

    name: str
    count: int
    make: Callable[[random.Random, Path], None]
    feed: Callable[[Path], bool]
    memory: int | None = MEMORY_BYTES


class HarmError(Exception):
    """Something that must not happen, found by the feeder itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one input: `text` is the error, `seconds` are of the processor."""

    number: int
    outcome: Outcome
    text: str
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """What became of all inputs of a kind."""

    kind: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> list[Result]:
        """Return the results of inputs that did harm."""
        return [result for result in self.results if result.outcome == "failed"]

    def line(self) -> str:
        """Return one line for people."""
        count = {name: sum(result.outcome == name for result in self.results) for name in ("refused", "accepted")}
        slowest = max((result.seconds for result in self.results), default=0.0)
        return (
            f"{self.kind} {len(self.results)} inputs, {count['refused']} refused, {count['accepted']} accepted, "
            f"{len(self.failures)} tracebacks, slowest {slowest:.1f} s"
        )


def run(kind: Kind, *, seed: int, numbers: range, kept: Path) -> Totals:
    """Run the inputs of some numbers.

    Args:
        kind: of input.
        seed: with a number it makes one input, the same each time.
        numbers: of the inputs.
        kept: folder in which inputs that fail are kept, each with a line that says how to repeat it.
    """
    return Totals(kind=kind.name, results=tuple(_run_all(kind, seed, numbers, kept)))


def _run_all(kind: Kind, seed: int, numbers: range, kept: Path) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        root = Path(name)
        for number in numbers:
            case = root / "case"
            case.mkdir()
            kind.make(random.Random(f"{kind.name}:{seed}:{number}"), case)
            copy = root / "input"
            shutil.copytree(case, copy, symlinks=True)
            result = _run_one(kind, number, root)
            if result.outcome == "failed":
                _keep(kind, seed, result, copy, kept)
            shutil.rmtree(case)
            shutil.rmtree(copy)
            yield result


def _run_one(kind: Kind, number: int, root: Path) -> Result:
    before = _listing(root)
    answer, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer)
        _be_the_child(kind, root, write)
    os.close(write)
    deadline = time.monotonic() + CLOCK_SECONDS
    with os.fdopen(answer, "rb") as stream:
        text = _read_until(stream.fileno(), deadline)
    if time.monotonic() >= deadline:
        os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    seconds = used.ru_utime + used.ru_stime
    outcome, said = _judge(text, os.waitstatus_to_exitcode(status))
    strange = _listing(root) - before
    if strange:
        outcome, said = "failed", f"wrote outside of its folder: {', '.join(sorted(strange)[:5])}; {said}"
    if seconds > PROCESSOR_SECONDS:
        outcome, said = "failed", f"took {seconds:.1f} s of processor time; {said}"
    return Result(number=number, outcome=outcome, text=said, seconds=seconds)


def _read_until(descriptor: int, deadline: float) -> bytes:
    import select

    text = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        text += chunk
    return text


def _judge(text: bytes, code: int) -> tuple[Outcome, str]:
    try:
        answer = json.loads(text)
    except ValueError:
        signalled = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return "failed", f"the process ended without an answer: {signalled}"
    outcome: Outcome = answer["outcome"]
    return outcome, str(answer["text"])


def _be_the_child(kind: Kind, root: Path, write: int) -> None:
    """Feed the input in this process and end it; never returns."""
    answer: dict[str, Any] = {"outcome": "failed", "text": ""}
    try:
        os.setpgid(0, 0)
        case = root / "case"
        os.chdir(case)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.environ["TMPDIR"] = tempfile.tempdir = str(case)
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS + 1, PROCESSOR_SECONDS + 5))
        if kind.memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (kind.memory, kind.memory))
        written = _watch_writes(case)
        answer = _answer(kind, case)
        if written:
            answer = {"outcome": "failed", "text": f"opened for writing outside of its folder: {written[:5]}"}
    except BaseException:
        answer["text"] = traceback.format_exc()
    finally:
        with os.fdopen(write, "wb") as stream:
            stream.write(json.dumps(answer).encode())
        os._exit(0)


def _answer(kind: Kind, case: Path) -> dict[str, Any]:
    try:
        return {"outcome": "accepted" if kind.feed(case) else "refused", "text": ""}
    except CrossfarmError as error:
        text = str(error)
        if not text or len(text) > TEXT_LIMIT or "Traceback" in text or "\x1b" in text or "\0" in text:
            return {"outcome": "failed", "text": f"an error that no user can read: {text[:1000]!r}"}
        return {"outcome": "refused", "text": text}
    except HarmError as failure:
        return {"outcome": "failed", "text": str(failure)}


def _watch_writes(case: Path) -> list[str]:
    """Return a list that fills with what Python opens for writing, makes or renames outside of a folder."""
    found: list[str] = []
    inside = f"{case}{os.sep}"

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        paths: tuple[Any, ...] = ()
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if opened or event in {"os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.utime"}:
            paths = arguments[:1]
        elif event in {"os.rename", "os.link", "os.symlink"}:
            paths = arguments[1:2]
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                full = os.path.realpath(os.fsdecode(path)) if b"\0" not in os.fsencode(path) else ""
                if full and full not in {str(case), os.devnull} and not full.startswith(inside):
                    found.append(full)

    sys.addaudithook(look)
    return found


def _listing(root: Path) -> set[str]:
    """Return all that stands around the folder of the input, with sizes."""
    found = set()
    for path in root.rglob("*"):
        if root / "case" not in (path, *path.parents):
            status = path.lstat()
            found.add(f"{path.relative_to(root)} ({status.st_mode:o}, {status.st_size})")
    return found


def _keep(kind: Kind, seed: int, result: Result, copy: Path, kept: Path) -> None:
    folder = kept / f"{kind.name}-{seed}-{result.number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(copy, folder, symlinks=True)
    repeat = f".venv/bin/python -m tests.fuzz {kind.name} --seed {seed} --only {result.number}"
    (folder / "REPEAT.txt").write_text(f"{repeat}\n\n{result.text}\n", encoding="utf-8", errors="backslashreplace")
