"""What a worker does when it has a container to itself: no job can reach it, and none leaves anything to the next one.

The worker and its jobs have the same user, so the kernel is told that the worker is not theirs to look into; else a job
could write into the worker's memory and meddle with every job after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import stat
import time
from pathlib import Path

PR_SET_DUMPABLE = 4
SCRATCH = (Path("/tmp"), Path("/dev/shm"))  # noqa: S108 - the container's own, gone with it
"""Where jobs may write beside their output; emptied after each."""
COMPILER_CACHE = Path("/tmp/zig")  # noqa: S108
"""A job's own copy of the C compiler's cache: one that all shared could be poisoned by one of them."""
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
"""Of cgroup v2 and v1."""
_UNKILLABLE_SECONDS = 10.0


def shut_in() -> None:
    """Keep processes of the same user from tracing this one, reading its memory and opening its files."""
    _set_dumpable(0)


def become_job() -> None:
    """Be an ordinary process again, and the first to go when the container runs out of memory."""
    _set_dumpable(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def give_compiler_cache(stage: str) -> None:
    """Lay out the copy of the image's compiler cache for a stage that calls the C compiler."""
    seed = os.environ.get("ZIG_GLOBAL_CACHE_DIR")
    os.environ.update(ZIG_LOCAL_CACHE_DIR=str(COMPILER_CACHE), ZIG_GLOBAL_CACHE_DIR=str(COMPILER_CACHE))
    if stage == "bundle" and seed and Path(seed).is_dir():
        shutil.copytree(seed, COMPILER_CACHE)
        os.environ["CROSSFARM_C_LIBRARY_IN_IMAGE"] = "1"  # the image has built it: backends.c_library


def end_everything() -> None:
    """Kill and reap every process of the container but this one and the first.

    Killing all at once leaves none the time to fork, however fast it does.
    """
    deadline = time.monotonic() + _UNKILLABLE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def empty_scratch() -> bool:
    """Remove what a job left outside its output; returns whether nothing is left."""
    for folder in SCRATCH:
        empty(folder)
    return not any(any(folder.iterdir()) for folder in SCRATCH if folder.is_dir())


def empty(folder: Path) -> None:
    """Remove all that a folder holds, also below folders that were closed; links are removed, never followed."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                _open_up(Path(entry.path))
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108 - an entry of scandir


def _open_up(top: Path) -> None:
    """Give the owner back all rights to the folders of a tree."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(OSError):
            folder.chmod(stat.S_IRWXU)
            waiting += [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]


def memory_kills() -> int:
    """Return how many processes of this container were killed for want of memory; 0 where the kernel does not tell."""
    for path in _COUNTERS:
        with contextlib.suppress(OSError):
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
            if found:
                return int(found[1])
    return 0


def _set_dumpable(value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, value, 0, 0, 0)
