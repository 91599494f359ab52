"""The cross linker that MERA calls for hosts with ARM processors: zig, which crossfarm has anyway, under GCC's name."""

from __future__ import annotations

import fcntl
import importlib.util
import shlex
import shutil
from pathlib import Path

from crossfarm.errors import ToolError
from crossfarm.util.paths import HOME
from crossfarm.util.processes import failure, run_tool

NAME = "aarch64-linux-gnu-g++"
CACHE = HOME / ".crossfarm" / "zig-mera"
"""What zig builds of a C library before it links for the first time: half a minute of processor time."""
_TARGET = "aarch64-linux-gnu.2.17"
_COMPLETE = ".complete"


def zig_folder() -> Path:
    """Return the folder of zig, which the linker reads.

    Raises:
        ToolError: its wheel is not installed.
    """
    found = importlib.util.find_spec("ziglang")
    if found is None or not found.submodule_search_locations:
        raise ToolError("ziglang is not installed; ./inv makes .venv again from requirements.lock")
    return Path(found.submodule_search_locations[0])


def write_cross_linker(folder: Path) -> None:
    """Write a program with the name that MERA asks for, and a copy of zig's cache beside it.

    It links object files, so that no C++ library is wanted, which zig would first have to compile. MERA runs in a
    sandbox, so the linker does: it reads `zig_folder`, and what it caches goes with the copy.

    Args:
        folder: is made; it goes in front of PATH. MERA's own libraries are no business of the linker.

    Raises:
        ToolError: zig is not there, or does not link.
    """
    folder.mkdir(parents=True)
    shutil.copytree(_filled_cache(), folder / "zig")
    program = folder / NAME
    command = shlex.join([str(zig_folder() / "zig"), "cc", "-target", _TARGET])
    cache = shlex.quote(str(folder / "zig"))
    settings = f"unset LD_LIBRARY_PATH\nexport ZIG_GLOBAL_CACHE_DIR={cache} ZIG_LOCAL_CACHE_DIR={cache}"
    program.write_text(f'#!/bin/sh\n{settings}\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def _filled_cache() -> Path:
    """Return zig's cache with what a link wants, made once for a version of zig by a link of nothing."""
    zig = zig_folder() / "zig"
    status = zig.stat()
    cache = CACHE / f"{status.st_size}-{status.st_mtime_ns}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache / _COMPLETE).exists():
            shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir()
            (cache / "nothing.c").touch()
            done = run_tool(
                [str(zig), "cc", "-target", _TARGET, "-shared", "-fPIC", "nothing.c", "-o", "nothing.so"],
                folder=cache,
                environment={"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)},
                merged=True,
            )
            if done.returncode:
                raise ToolError(f"zig does not link for {_TARGET}: {failure(done)}")
            (cache / _COMPLETE).touch()
    return cache
