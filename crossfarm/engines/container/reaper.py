"""Finds and removes containers whose run has died.

A container ends with its run by itself: the end of the run closes the worker's standard input. What is left for the
reaper are containers that an engine forgot, for instance because it was killed at the same time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import APIClient

RUN = "org.crossfarm.run"
_HOST, _BOOT, _SPACE, _PROCESS, _STARTED = (
    f"org.crossfarm.{name}" for name in ("host", "boot", "process-space", "process", "process-start")
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that a container belongs to.

    Attributes:
        host: name of the machine.
        boot: id of its boot.
        space: the process namespace; process ids mean nothing outside it.
        process: process id.
        started: when it started, in ticks since the boot; tells it from a later process with the same id.
    """

    host: str
    boot: str
    space: str
    process: int
    started: str

    def labels(self, run: str) -> dict[str, str]:
        """Return the labels of a container that belongs to this process."""
        return {
            RUN: run,
            _HOST: self.host,
            _BOOT: self.boot,
            _SPACE: self.space,
            _PROCESS: str(self.process),
            _STARTED: self.started,
        }


def this_process() -> Owner:
    """Return this process as an owner of containers."""
    return Owner(
        host=platform.node(),
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        space=os.readlink("/proc/self/ns/pid"),  # noqa: PTH115 - what it points to is no path
        process=os.getpid(),
        started=_started(os.getpid()) or "",
    )


def is_orphan(labels: Mapping[str, str], here: Owner) -> bool:
    """Return whether a container's owner is surely dead.

    Args:
        labels: of the container.
        here: any process of this machine; containers of others on the same engine are left alone.
    """
    if labels.get(_HOST) != here.host:
        return False
    if labels.get(_BOOT) != here.boot:
        return True
    if labels.get(_SPACE) != here.space:
        return False
    process = labels.get(_PROCESS, "")
    return not process.isdigit() or _started(int(process)) != labels.get(_STARTED)


def reap(api: APIClient, here: Owner) -> int:
    """Remove the containers of dead runs; returns how many."""
    count = 0
    for container in api.containers(all=True, filters={"label": RUN}):
        if is_orphan(container["Labels"], here):
            with contextlib.suppress(Exception):  # it may go by itself meanwhile
                api.remove_container(container["Id"], force=True, v=True)
                count += 1
    return count


def _started(process: int) -> str | None:
    """Return when a process started, in ticks since the boot, or None when there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[19] if fields[0] not in ("Z", "X") else None
