"""What a worker does when it has a container to itself: no job can reach it, and none leaves anything to the next one.

The worker is the first process of its container and not dumpable. So the kernel keeps processes of the same user from
tracing it, reading its memory and opening its files, and from signals they send it none arrives. Killing all processes
spares it alone. What the kernel lets any process change of another one of its user (limits, priority, processors), and
the devices, are compared with how they were before the first job.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import shutil
import signal
import struct
import time
from pathlib import Path

from crossfarm.errors import EngineError
from crossfarm.util.trees import empty_folder

PR_SET_DUMPABLE = 4
SCRATCH = (Path("/tmp"), Path("/dev/shm"), Path("/dev/mqueue"))  # noqa: S108 - the container's own, gone with it
"""Where jobs may write beside their output; emptied after each."""
COMPILER_CACHE = Path("/tmp/zig")  # noqa: S108
"""A job's own copy of the C compiler's cache: one that all shared could be poisoned by one of them."""
EXIT_UNKILLABLE = 75
"""Exit code of a worker that could not end a job's processes. It sends no reply."""
_DEVICES = Path("/dev")
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
"""Of cgroup v2 and v1."""
_UNKILLABLE_SECONDS = 10.0
_SFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_SIGINFO_BYTES, _SIGSET_BYTES = 128, 128
_RESOURCE_LIMITS = 16
"""RLIM_NLIMITS of Linux."""
_SI_USER = 0
"""In a signal's information: it was sent by kill(2). No process can claim this of a signal that it made up."""


class Guard:
    """Makes this process, the first of a container, unreachable for jobs, and sees whether one changed it all the same.

    Attributes:
        signals: descriptor that can be read when somebody asked this process to end.
    """

    def __init__(self) -> None:
        """Begin, before the first job.

        Raises:
            EngineError: this is not the first process of a container.
        """
        if os.getpid() != 1:
            raise EngineError("a worker that is alone must be the first process of a container; it ends all others")
        _set_dumpable(0)
        # A handler would let in the signals of jobs: without one, the kernel drops what processes of this container
        # send. A signal that is blocked waits instead, and tells who sent it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        libc = ctypes.CDLL(None, use_errno=True)
        mask = ctypes.create_string_buffer(_SIGSET_BYTES)
        libc.sigaddset(mask, int(signal.SIGTERM))
        self.signals: int = libc.signalfd(-1, mask, _SFD_FLAGS)
        if self.signals < 0:
            raise EngineError(f"a worker cannot wait for signals: {os.strerror(ctypes.get_errno())}")
        self._before = _changeable()

    def is_told_to_end(self) -> bool:
        """Return whether somebody outside of the container sent TERM; what its own processes send is passed over."""
        with contextlib.suppress(BlockingIOError):
            information = os.read(self.signals, _SIGINFO_BYTES)
            _, _, code, sender = struct.unpack_from("=IiiI", information)
            # Seen from here, a process outside has no process id.
            return bool(code == _SI_USER and sender == 0)
        return False

    def is_untouched(self) -> bool:
        """Return whether no job changed what another process of the same user can change of this one."""
        return _changeable() == self._before


def become_job() -> None:
    """Be an ordinary process again, and the first to go when the container runs out of memory."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _set_dumpable(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def give_compiler_cache(*, seeded: bool) -> None:
    """Give a job a compiler cache of its own; `seeded`: with a copy of the image's, for one that calls the compiler."""
    seed = os.environ.get("ZIG_GLOBAL_CACHE_DIR")
    os.environ.update(ZIG_LOCAL_CACHE_DIR=str(COMPILER_CACHE), ZIG_GLOBAL_CACHE_DIR=str(COMPILER_CACHE))
    if seeded and seed and Path(seed).is_dir():
        shutil.copytree(seed, COMPILER_CACHE)
        os.environ["CROSSFARM_C_LIBRARY_IN_IMAGE"] = "1"  # the image has built it: bundles.linking.c_library


def end_everything() -> bool:
    """Kill and reap every process of the container but this one, the first; returns whether none is left.

    Killing all at once leaves none the time to fork, however fast it does: kill(2) marks every process while no process
    can be added, and one that is marked cannot fork any more.
    """
    deadline = time.monotonic() + _UNKILLABLE_SECONDS
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if [name for name in os.listdir("/proc") if name.isdigit()] == ["1"]:  # noqa: PTH208 - asked after every job
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)


def empty_scratch() -> bool:
    """Remove what a job left outside its output; returns whether nothing is left."""
    emptied = [empty_folder(folder) for folder in SCRATCH]  # each, even after one that could not be
    return all(emptied)


def memory_kills() -> int:
    """Return how many processes of this container were killed for want of memory; 0 where the kernel does not tell."""
    for path in _COUNTERS:
        with contextlib.suppress(OSError):
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
            if found:
                return int(found[1])
    return 0


def _changeable() -> object:
    """Return what any process of this one's user can change of it, and the devices, which root of a container owns."""
    return (
        [resource.getrlimit(number) for number in range(_RESOURCE_LIMITS)],
        os.sched_getaffinity(0),
        os.sched_getscheduler(0),
        os.getpriority(os.PRIO_PROCESS, 0),
        Path("/proc/self/oom_score_adj").read_text(),
        sorted(
            (entry.name, status.st_ino, status.st_mode, status.st_rdev)
            for entry in os.scandir(_DEVICES)
            if (status := entry.stat(follow_symlinks=False))
        ),
    )


def _set_dumpable(value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, value, 0, 0, 0)
