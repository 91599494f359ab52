"""Does a container engine answer? Asked over its socket in a few milliseconds, before docker-py is imported."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from pathlib import Path

DEFAULT_SOCKET = Path("/var/run/docker.sock")
_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Daemon:
    """A container engine on this machine.

    Attributes:
        socket: where it listens.
        problem: why it cannot be used, in words; None when it answers.
    """

    socket: Path
    problem: str | None = None

    @property
    def address(self) -> str:
        """Return what docker-py calls its base_url."""
        return f"unix://{self.socket}"

    def answers(self) -> bool:
        """Say whether it answers now."""
        return _ping(self.socket) is None


def find_daemon(environment: Mapping[str, str] = os.environ) -> Daemon:
    """Return the engine that DOCKER_HOST names, or the usual one, and whether it answers. Never raises."""
    named = environment.get("DOCKER_HOST", "")
    if named and not named.startswith("unix://"):
        problem = f"DOCKER_HOST is {named}; jobs need an engine on this machine (unix://...), which sees its folders"
        return Daemon(socket=DEFAULT_SOCKET, problem=problem)
    path = Path(named.removeprefix("unix://")) if named else DEFAULT_SOCKET
    return Daemon(socket=path, problem=_ping(path))


def _ping(path: Path) -> str | None:
    try:
        status = _get(path, "/_ping")
    except PermissionError:
        return f"this user may not use {path} (be in the group docker, and log in again)"
    except (FileNotFoundError, ConnectionRefusedError):
        return f"no container engine answers at {path}"
    except OSError as error:
        return f"no container engine answers at {path} ({error.strerror or error})"
    return None if status == 200 else f"what listens at {path} is no container engine, or an ailing one ({status})"


def _get(path: Path, address: str) -> int:
    """Return the status of a GET; 0 when the answer is none of HTTP.

    Raises:
        OSError: nothing answers in time.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(str(path))
        connection.sendall(f"GET {address} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
        words = connection.recv(64).split()
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else 0
