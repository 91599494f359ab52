"""The C library of a zig target: built into zig's cache once, by one job, which says so.

zig builds the C library of a target when it first links for it. That takes minutes of processor time, so two jobs that
link for one target at once must not both do it, and nobody should take it for a slow link.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from crossfarm.config.targets import CommandCompiler, ZigCompiler

CACHE = "ZIG_GLOBAL_CACHE_DIR"
IN_IMAGE = "CROSSFARM_C_LIBRARY_IN_IMAGE"
"""Set where a job has its own copy of an image's cache, which holds the C library already (engines.isolation)."""
PROGRAM = """\
#include <math.h>
#include <pthread.h>
#include <stdio.h>
static void *one(void *x) { return x; }
int main(int n, char **words) {
    pthread_t thread;
    (void)words;
    if (pthread_create(&thread, NULL, one, NULL) == 0) pthread_join(thread, NULL);
    return printf("%f\\n", sqrt((double)n)) < 0;
}
"""
"""The smallest program for which zig builds all that a bundle links; as in dockerfiles/prebuild-c-library."""


def cache_folder() -> Path:
    """Return where zig keeps what it builds."""
    if named := os.environ.get(CACHE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "zig"


def missing(compiler: ZigCompiler | CommandCompiler, *, static: bool, cache: Path) -> tuple[str, ...]:
    """Return the zig targets whose C library a bundle needs and `cache` lacks; none for another compiler.

    Args:
        compiler: as declared in the toolchain file.
        static: whether its own programs are linked statically.
        cache: zig's cache.
    """
    if not isinstance(compiler, ZigCompiler):
        return ()
    needed = [(compiler, static)]
    if compiler.program_target is not None:
        needed.append((compiler.model_copy(update={"target": compiler.program_target, "program_target": None}), True))
    return tuple(
        wanted.target for wanted, is_static in needed if not _mark(wanted, static=is_static, cache=cache).exists()
    )


@contextlib.contextmanager
def building(compiler: ZigCompiler, *, static: bool, log: TextIO) -> Iterator[bool]:
    """Yield whether the caller has to build the C library; whoever else wants it waits until the block has ended.

    How long the others wait is not limited: the kernel lets go of the lock when the one who builds dies.

    Args:
        compiler: of the target.
        static: whether programs are linked statically.
        log: takes a line while another job is waited for.
    """
    if os.environ.get(IN_IMAGE):
        yield False
        return
    mark = _mark(compiler, static=static, cache=cache_folder())
    if mark.exists():
        yield False
        return
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(mark.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # a cache that cannot be written: zig itself says what it thinks of it
        yield False
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.write(f"waiting for another job, which builds the C library of {compiler.target}\n")
            log.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists():
            yield False
            return
        yield True
        mark.touch()
    finally:
        os.close(lock)


def _mark(compiler: ZigCompiler, *, static: bool, cache: Path) -> Path:
    """Return the file that says that the C library is built; another zig, or other flags, have another one."""
    what = (importlib.metadata.version("ziglang"), compiler.target, compiler.flags, static)
    return cache / "crossfarm" / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.built"
