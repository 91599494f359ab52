"""qemu-user for programs in containers: registered with the kernel, so that any of another machine just starts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from crossfarm.errors import ToolError
from crossfarm.virtual.kinds import Kind

_KERNEL = Path("/proc/sys/fs/binfmt_misc")
_LINES = Path("/usr/lib/binfmt.d")


def register(kind: Kind) -> None:
    """Make the kernel start programs of a kind by its emulator, if it does not yet. The first time takes root.

    The flag F makes the kernel keep the emulator open, so that it need not be in the containers.

    Raises:
        ToolError: the emulator is not installed, or the kernel may not be told.
    """
    if kind.is_native:
        return
    name = f"qemu-{kind.emulator}"
    entry = _KERNEL / name
    if _is_ready(entry):
        return
    line = _LINES / f"{name}.conf"
    if shutil.which(f"{name}-static") is None or not line.exists():
        raise ToolError(f"{name}-static is not installed; as root: apt-get install qemu-user-static")
    try:
        if not (_KERNEL / "register").exists():
            subprocess.run(
                ["mount", "-t", "binfmt_misc", "none", str(_KERNEL)], check=True, capture_output=True, timeout=10
            )
        if entry.exists():
            entry.write_text("-1")  # registered without F: containers would not find it
        (_KERNEL / "register").write_text(line.read_text(encoding="utf-8").strip())
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(
            f"the kernel cannot be told to start programs of {kind.machine} by {name}-static ({error}); as root, once "
            f"after each start of this machine: ./inv board-up, or systemctl restart systemd-binfmt"
        ) from error


def version(kind: Kind) -> str | None:
    """Return name and version of a kind's emulator, `qemu-arm-static 7.2.22`; None where there is none."""
    if kind.is_native:
        return None
    name = f"qemu-{kind.emulator}-static"
    try:
        said = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
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
