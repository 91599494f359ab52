"""A worker: a process that takes job files on its standard input and forks a child for each.

Importing a compiler takes longer than compiling a small model, so the worker imports it once; each job still has a
process of its own, which may crash, leak or be killed alone. One line in (`{"job": PATH, "log": PATH, "stage": NAME}`),
one line out (`{"status": N}`, the child's wait status). When the standard input ends, for instance because the farm was
killed, the worker kills whatever its children started and ends. When the worker itself is killed, so is its child.

With `--alone` the worker has a container to itself (crossfarm.engines.isolation): nothing of one job reaches the next,
and the line out says `"out_of_memory": true` when the container's memory was too little.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from crossfarm.engines import isolation

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

UNKILLABLE_SECONDS = 10.0
"""How long is waited for processes that KILL does not end, for instance because they wait for a dead disk."""

PRELOAD = {
    "prepare": ("onnx", "onnxruntime", "numpy"),
    "reference": ("onnx", "onnxruntime", "numpy", "PIL.Image"),
    "quantize": ("onnxruntime.quantization", "PIL.Image"),
    "compile": ("onnx", "tvm.relax.frontend.onnx"),
    "check": ("numpy",),
}
"""What is imported once, before a stage's first job, because importing it takes long."""


def serve(*, alone: bool = False) -> None:
    """Take job files until the standard input ends.

    Args:
        alone: all other processes here, and all files in the scratch folders, are those of jobs.
    """
    _adopt_orphans()
    if alone:
        isolation.shut_in()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    pending = b""
    while True:
        while b"\n" not in pending:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            pending += chunk
        line, pending = pending.split(b"\n", 1)
        request = json.loads(line)
        _write_to(Path(request["log"]))
        kills = isolation.memory_kills() if alone else 0
        status = _run_in_child(Path(request["job"]), request["stage"], replies, alone=alone)
        if status is None or (alone and not isolation.empty_scratch()):
            return
        reply = {"status": status, **({"out_of_memory": isolation.memory_kills() > kills} if alone else {})}
        replies.write(json.dumps(reply) + "\n")


def _write_to(log: Path) -> None:
    """Let what this process and its children write go to a log, and nothing of it to the farm's own terminal."""
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # a job without a log is better than none
        output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def _run_in_child(job_file: Path, stage: str, replies: TextIO, *, alone: bool) -> int | None:
    """Run one job in a child and return its wait status; None when the farm went away meanwhile."""
    for name in (*PRELOAD.get(stage, ()), f"crossfarm.stages.{stage}"):
        with contextlib.suppress(Exception):  # the job imports it again and says what is wrong
            importlib.import_module(name)
    sys.stdout.flush()
    sys.stderr.flush()
    # What was imported stays: a child that walked it all to find cycles would copy every page of it.
    gc.freeze()
    worker = os.getpid()
    child = os.fork()
    if child == 0:
        _be_child(job_file, worker, replies, stage if alone else None)
    descriptor = os.pidfd_open(child)
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        waiting.register(0, select.POLLHUP)
        while True:
            events = dict(waiting.poll())
            if descriptor in events:
                status = os.waitpid(child, 0)[1]
                (isolation.end_everything if alone else end_descendants)()
                return status
            if events.get(0, 0) & (select.POLLHUP | select.POLLERR):
                (isolation.end_everything if alone else end_descendants)()
                return None
    finally:
        os.close(descriptor)


def _be_child(job_file: Path, worker: int, replies: TextIO, isolated_stage: str | None) -> None:
    code = 3
    try:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != worker:  # it died before the line above took effect
            os._exit(code)
        os.close(replies.fileno())  # else whatever outlives the worker keeps the farm waiting for its reply
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        if isolated_stage is not None:
            isolation.become_job()
            isolation.give_compiler_cache(isolated_stage)
        from crossfarm.job import main

        code = main([str(job_file)])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _adopt_orphans() -> None:
    """Become the parent of whatever a job's processes leave behind, so that it can be found and ended."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill every process below this one, in whatever session or group it put itself, and reap it.

    A process that forks while this looks is found the next time round, so nothing here waits for a single one.
    """
    deadline = time.monotonic() + UNKILLABLE_SECONDS
    while time.monotonic() < deadline:
        children = descendants(os.getpid())
        for process in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not children:
            return
        time.sleep(0.002)


def descendants(root: int) -> list[int]:
    """Return the process ids of all processes below `root`, zombies left out."""
    alive = [process for process in processes() if process.state != "Z"]
    found: list[int] = []
    frontier = [root]
    while frontier:
        parent = frontier.pop()
        below = [process.id for process in alive if process.parent == parent]
        found += below
        frontier += below
    return found


def session_members(session: int) -> list[int]:
    """Return the process ids of all processes of a session, zombies left out; its leader may be gone."""
    return [process.id for process in processes() if process.session == session and process.state != "Z"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """One process as /proc tells: ids of itself, its parent and its session, and its state (`Z` for a zombie)."""

    id: int
    parent: int
    session: int
    state: str


def processes() -> Iterator[Process]:
    """Yield all processes of this host."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                yield Process(id=int(entry.name), state=fields[0], parent=int(fields[1]), session=int(fields[3]))


if __name__ == "__main__":
    serve(alone="--alone" in sys.argv[1:])
