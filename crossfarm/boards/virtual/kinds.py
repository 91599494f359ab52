"""The kinds of virtual boards: for each target a Debian architecture and its emulator."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping

from crossfarm.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardKind:
    """A kind of virtual board.

    Attributes:
        architecture: Debian's name of its userland.
        machine: what `uname -m` says there.
        emulator: name of qemu's program without `qemu-` and `-static`; None where this host may run it natively.
        processor: that bundles are run on, in qemu's words; None for qemu's default.
        features: of that processor, in the kernel's words; empty where the kernel's own vector tells.
    """

    architecture: str
    machine: str
    emulator: str
    processor: str | None = None
    features: tuple[str, ...] = ()

    @property
    def is_native(self) -> bool:
        """Return whether this host runs its programs itself."""
        return platform.machine() == self.machine


KINDS: Mapping[str, BoardKind] = {
    "armv7": BoardKind(architecture="armhf", machine="armv7l", emulator="arm"),
    # Debian has no userland for ARMv6 with hard floats. The board's own tools are those of ARMv7; bundles, which link
    # statically for this target, run on the processor of a Raspberry Pi Zero.
    "armv6": BoardKind(
        architecture="armhf",
        machine="armv6l",
        emulator="arm",
        processor="arm1176",
        features=("swp", "half", "thumb", "fastmult", "vfp", "edsp", "java"),
    ),
    "aarch64": BoardKind(architecture="arm64", machine="aarch64", emulator="aarch64"),
    "x86_64": BoardKind(architecture="amd64", machine="x86_64", emulator="x86_64"),
}
"""Target -> kind."""


def kind_of(target: str) -> BoardKind:
    """Return the kind of virtual board of a target.

    Raises:
        ConfigError: there is none.
    """
    kind = KINDS.get(target)
    if kind is None:
        raise ConfigError(
            f"--target {target}: there is no virtual board for it{nearest(target, KINDS)}; there are some for "
            f"{', '.join(sorted(KINDS))}"
        )
    return kind
