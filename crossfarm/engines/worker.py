"""A worker: a process that takes job files on its standard input and forks a child for each.

Importing a compiler takes longer than compiling a small model, so the worker imports it once; each job still has a
process of its own, which may crash, leak or be killed alone. One line in (`{"job": PATH, "log": PATH}`), one line out
(`{"status": N}`, the child's wait status). When the standard input ends, for instance because the farm was killed, the
worker kills whatever its children started and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import sys
from pathlib import Path

from crossfarm.stages import STAGES

PR_SET_CHILD_SUBREAPER = 36

PRELOAD = {
    "prepare": ("onnx", "onnxruntime", "numpy"),
    "reference": ("onnx", "onnxruntime", "numpy", "PIL.Image"),
    "compile": ("onnx", "tvm.relax.frontend.onnx"),
    "check": ("numpy",),
}
"""What is imported once, before a stage's first job, because importing it takes long."""


def serve() -> None:
    """Take job files until the standard input ends."""
    _adopt_orphans()
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
        status = _run_in_child(Path(request["job"]), Path(request["log"]), request["stage"])
        if status is None:
            return
        replies.write(json.dumps({"status": status}) + "\n")


def _run_in_child(job_file: Path, log: Path, stage: str) -> int | None:
    """Run one job in a child and return its wait status; None when the farm went away meanwhile."""
    for name in PRELOAD.get(stage, ()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _ = STAGES[stage]
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_child(job_file, log)
    descriptor = os.pidfd_open(child)
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        waiting.register(0, select.POLLHUP)
        while True:
            events = dict(waiting.poll())
            if descriptor in events:
                status = os.waitpid(child, 0)[1]
                end_descendants()
                return status
            if events.get(0, 0) & (select.POLLHUP | select.POLLERR):
                end_descendants()
                return None
    finally:
        os.close(descriptor)


def _be_child(job_file: Path, log: Path) -> None:
    code = 3
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
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
    """Kill every process below this one, in whatever session or group it put itself, and reap it."""
    for _ in range(100):
        children = descendants(os.getpid())
        if not children:
            return
        for process in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0)[0]:
                pass


def descendants(root: int) -> list[int]:
    """Return the process ids of all processes below `root`, zombies left out, from /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(entry.name)] = int(fields[1])
    found: list[int] = []
    frontier = [root]
    while frontier:
        parent = frontier.pop()
        below = [process for process, above in parents.items() if above == parent]
        found += below
        frontier += below
    return found


if __name__ == "__main__":
    serve()
