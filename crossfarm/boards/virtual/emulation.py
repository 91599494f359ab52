"""qemu-user for programs in containers: registered with the kernel, so that any of another machine just starts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from crossfarm.boards.virtual.kinds import Kind
from crossfarm.errors import ToolError
from crossfarm.images.build import Say
from crossfarm.setup.container_host import BINFMT, BINFMT_LINES, Host, register_binfmt


def register(kind: Kind, *, say: Say) -> None:
    """Make the kernel start programs of a kind by its emulator, if it does not yet. The first time takes root.

    Args:
        kind: whose programs.
        say: takes a line when something is changed.

    Raises:
        ToolError: the emulator is not installed, or the kernel may not be told.
    """
    name = f"qemu-{kind.emulator}"
    if kind.is_native or _is_ready(BINFMT / name):
        return
    if shutil.which(f"{name}-static") is None or not (BINFMT_LINES / f"{name}.conf").exists():
        raise ToolError(f"{name}-static is not installed; as root: apt-get install qemu-user-static")
    register_binfmt(Host(), (name,), say=say)


def version(kind: Kind) -> str | None:
    """Return name and version of a kind's emulator, `qemu-arm-static 7.2.22`; None where there is none."""
    if kind.is_native:
        return None
    name = f"qemu-{kind.emulator}-static"
    try:
        said = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=120, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return name
    found = next((word for word in said.partition("\n")[0].split() if word[0].isdigit()), "")
    return f"{name} {found}".strip()


def _is_ready(entry: Path) -> bool:
    try:
        said = entry.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in said if line.startswith("flags")), "")
    return "enabled" in said and "F" in flags
