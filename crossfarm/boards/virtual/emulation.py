"""Registers qemu-user with the kernel, so that containers can run programs of other architectures."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from crossfarm.boards.virtual.kinds import BoardKind
from crossfarm.errors import ToolError
from crossfarm.images.build import Say
from crossfarm.util.processes import failure, output_of, run_tool

BINFMT = Path("/proc/sys/fs/binfmt_misc")
"""Where the kernel's handlers for foreign programs are registered."""
BINFMT_LINES = Path("/usr/lib/binfmt.d")
"""Where Debian's emulators keep the lines to register."""


def register(kind: BoardKind, *, say: Say) -> None:
    """Make the kernel start programs of a kind by its emulator, if it does not yet. The first time takes root.

    Args:
        kind: whose programs.
        say: takes a line when something is changed.

    Raises:
        ToolError: the emulator is not installed, or may not be registered with the kernel.
    """
    name = f"qemu-{kind.emulator}"
    if kind.is_native or _is_ready(BINFMT / name):
        return
    if shutil.which(f"{name}-static") is None or not (BINFMT_LINES / f"{name}.conf").exists():
        raise ToolError(f"{name}-static is not installed; as root: apt-get install qemu-user-static")
    register_binfmt((name,), say=say)


def register_binfmt(names: tuple[str, ...], *, binfmt: Path = BINFMT, lines: Path = BINFMT_LINES, say: Say) -> None:
    """Tell the kernel to run programs of another architecture with qemu, in containers too.

    The lines are those of Debian's qemu-user-static. Their flags are P (the program sees its own name), O and F: the
    kernel opens the emulator now, so that it need not exist in a container.

    Raises:
        ToolError: the kernel refuses.
    """
    try:
        if not (binfmt / "register").exists():
            mounted = run_tool(["mount", "-t", "binfmt_misc", "binfmt_misc", str(binfmt)])
            if mounted.returncode != 0:
                raise ToolError(f"{failure(mounted)}\n\nvirtual ARM boards need it; do it as root")
        for name in names:
            line = (lines / f"{name}.conf").read_text().strip()
            if (binfmt / name).exists():  # without F it would not survive into containers
                (binfmt / name).write_text("-1")
            (binfmt / "register").write_text(line)
            say(f"registered {name} with the kernel, for ARM programs in containers")
    except OSError as error:
        raise ToolError(
            f"{', '.join(names)}: cannot be registered with the kernel: {error}; virtual ARM boards need it"
        ) from error


def registered_flags(entry: Path) -> str:
    """Return the flags with which an emulator is registered; empty where it is not."""
    try:
        lines = entry.read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("flags:").strip() for line in lines if line.startswith("flags:")), "")


def version(kind: BoardKind) -> str | None:
    """Return name and version of a kind's emulator, `qemu-arm-static 7.2.22`; None where there is none."""
    if kind.is_native:
        return None
    name = f"qemu-{kind.emulator}-static"
    said = output_of([name, "--version"], wall_seconds=120) or ""
    found = next((word for word in said.partition("\n")[0].split() if word[0].isdigit()), "")
    return f"{name} {found}".strip()


def _is_ready(entry: Path) -> bool:
    with contextlib.suppress(OSError):
        return "enabled" in entry.read_text(encoding="utf-8").splitlines() and "F" in registered_flags(entry)
    return False
