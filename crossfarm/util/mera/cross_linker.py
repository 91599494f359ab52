"""The cross linker that MERA calls for hosts with ARM processors: zig, which crossfarm has anyway, under GCC's name."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

NAME = "aarch64-linux-gnu-g++"
_TARGET = "aarch64-linux-gnu.2.17"


def write_cross_linker(folder: Path) -> None:
    """Write a program with the name that MERA asks for.

    It links object files, so that no C++ library is wanted, which zig would first have to compile.

    Args:
        folder: is made; it goes in front of PATH. MERA's own libraries are no business of the linker.
    """
    folder.mkdir(parents=True)
    program = folder / NAME
    command = shlex.join([sys.executable, "-m", "ziglang", "cc", "-target", _TARGET])
    program.write_text(f'#!/bin/sh\nunset LD_LIBRARY_PATH\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
