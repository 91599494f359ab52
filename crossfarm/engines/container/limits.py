"""Limits: what a job in a container may use at most."""

from __future__ import annotations

import dataclasses
import os

from crossfarm.errors import ConfigError
from crossfarm.util.trees import TreeLimits

GIB = 1 << 30
MOST_BY_ITSELF = 8 * GIB
"""No job takes more unless the user says so, whatever the machine has."""
SHARE_OF_MACHINE = 0.8
LEAST = 256 << 20
"""The compiler's libraries alone take most of this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResourceLimits:
    """What one container, hence one job at a time, may use.

    Attributes:
        memory: bytes, swap included; `/tmp` counts.
        cpus: processors' worth of time.
        processes: processes and threads at once.
        file_bytes: size of the largest file that may be written.
        seconds: how long a job may take.
        output: what it may have written at any time.
    """

    memory: int
    cpus: float
    processes: int = 512
    file_bytes: int = 16 * GIB
    seconds: float = 3600.0
    output: TreeLimits = dataclasses.field(default_factory=TreeLimits)


def limits_for(*, slots: int, memory_gib: float = 0.0) -> ResourceLimits:
    """Return the limits of each of several containers that run side by side on this machine.

    Args:
        slots: how many jobs run at once.
        memory_gib: memory of one in GiB; 0 shares four fifths of the machine's between them, 8 GiB at most for each.

    Raises:
        ConfigError: a job could not even start with so little memory.
    """
    shared = min(MOST_BY_ITSELF, int(machine_memory() * SHARE_OF_MACHINE / slots))
    memory = int(memory_gib * GIB) if memory_gib else max(shared, LEAST)
    if memory < LEAST:
        raise ConfigError(f"--memory {memory_gib:g}: give at least {LEAST / GIB:g} (GiB for each job in a container)")
    return ResourceLimits(memory=memory, cpus=max(1.0, len(os.sched_getaffinity(0)) / slots))


def machine_memory() -> int:
    """Return the bytes of main memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
