"""A worker: a process that takes job files on its standard input and forks a child for each.

Importing a compiler takes longer than compiling a small model, so the worker imports it once; each job still has a
process of its own, which may crash, leak or be killed alone. What is said over standard input and output stands in
crossfarm.engines.messages. When the standard input ends, for instance because the farm was killed, the worker kills
whatever its children started and ends. When the worker itself is killed, so is its child.

With `--alone` the worker is the first process of a container (crossfarm.engines.container.isolation): no process of a
job can reach it, nothing of one job reaches the next, and it replies only when no process of the job is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from crossfarm.engines.container import isolation
from crossfarm.engines.messages import JobReply, JobRequest
from crossfarm.stages import STAGES

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

UNKILLABLE_SECONDS = 10.0
"""How long is waited for processes that KILL does not end, for instance because they wait for a dead disk."""


def serve(*, alone: bool = False) -> int:
    """Take job files until the standard input ends; returns the exit code.

    Args:
        alone: this is the first process of a container; all other processes, and all files in the scratch folders, are
            those of jobs.
    """
    _adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    guard = isolation.Guard() if alone else None
    replies = os.dup(1)  # not inherited by programs; a forked child closes it
    os.dup2(2, 1)
    while True:
        line = _read_line(guard)
        if line is None:
            return 0
        request = JobRequest.decoded(line)
        _write_to(Path(request.log))
        kills = isolation.memory_kills() if alone else 0
        child = _start(request, guard)
        # Not before the fork: the child's memory is a copy of this one's as it was then.
        secret = _read_line(guard)
        status = _wait_for(child, guard) if secret is not None else None
        if guard is None:
            end_descendants()
        elif not isolation.end_everything():
            return isolation.EXIT_UNKILLABLE
        if status is None or secret is None:
            return 0
        reply = JobReply(
            status=status,
            out_of_memory=alone and isolation.memory_kills() > kills,
            reusable=guard is None or (isolation.empty_scratch() and guard.is_untouched()),
        )
        os.write(replies, reply.encoded(secret.decode()))


def _read_line(guard: isolation.Guard | None) -> bytes | None:
    """Return the next line of the standard input, and take nothing of what stands behind it; None at its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1) if _ready(0, guard) else b""
        if not byte:
            return None
        line += byte
    return line[:-1]


def _write_to(log: Path) -> None:
    """Let what this process and its children write go to a log, and nothing of it to the farm's own terminal."""
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    except OSError:  # a job without a log is better than none
        output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def _start(request: JobRequest, guard: isolation.Guard | None) -> int:
    """Start one job in a child; returns its process id."""
    for name in (*request.preload, f"crossfarm.stages.{request.stage}.stage"):
        with contextlib.suppress(Exception):  # the job imports it again and says what is wrong
            importlib.import_module(name)
    sys.stdout.flush()
    sys.stderr.flush()
    # What was imported stays: a child that walked it all to find cycles would copy every page of it.
    gc.freeze()
    worker = os.getpid()
    child = os.fork()
    if child == 0:
        _be_child(request, worker, guard)
    return child


def _wait_for(child: int, guard: isolation.Guard | None) -> int | None:
    """Return the wait status of a job's process; None when this worker shall end before that."""
    descriptor = os.pidfd_open(child)
    try:
        return os.waitpid(child, 0)[1] if _ready(descriptor, guard) else None
    finally:
        os.close(descriptor)


def _ready(descriptor: int, guard: isolation.Guard | None) -> bool:
    """Wait until a descriptor can be read; returns false when this worker shall end before that."""
    waiting = select.poll()
    waiting.register(0, 0)  # the end of the standard input is told without being asked for
    waiting.register(descriptor, select.POLLIN)
    if guard is not None:
        waiting.register(guard.signals, select.POLLIN)
    while True:
        events = dict(waiting.poll())
        if descriptor in events:
            return True
        if 0 in events or (guard is not None and guard.is_told_to_end()):
            return False


def _be_child(request: JobRequest, worker: int, guard: isolation.Guard | None) -> None:
    code = 3
    try:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != worker:  # it died before the line above took effect
            os._exit(code)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        # Standard input, replies and signals are the worker's. What else is open was opened by an import.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if guard is not None:
            isolation.become_job()
            isolation.give_compiler_cache(seeded=STAGES[request.stage].DECLARATION.calls_c_compiler)
        if request.scratch:
            os.environ["TMPDIR"] = request.scratch
            tempfile.tempdir = None  # what the worker found stays the worker's
        from crossfarm.engines.run_job import main

        code = main([request.job])
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
    sys.exit(serve(alone="--alone" in sys.argv[1:]))
