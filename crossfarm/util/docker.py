"""The one client of the container engine. What is small is asked over its socket, in milliseconds.

What takes longer goes through docker-py, whose import costs more than a warm run may. DOCKER_HOST says where the engine
is, as for docker's own client; it must be on this machine, because jobs and images share folders with it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_SOCKET = Path("/var/run/docker.sock")
_SECONDS = 60.0
"""An engine that is busy with an image answers late; one that is not there refuses at once."""
_SECONDS_OF_A_PING = 10.0
_HOUR = 3600
_HEAD = 8
"""Bytes before the content of a frame."""


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
    daemon = _named_daemon(environment)
    return daemon if daemon.problem else dataclasses.replace(daemon, problem=_ping(daemon.socket))


def answers() -> bool:
    """Say whether an engine of this machine answers."""
    return find_daemon().problem is None


def running_daemon() -> Daemon:
    """Return the engine.

    Raises:
        EngineError: none answers, or DOCKER_HOST names one that cannot be used.
    """
    daemon = find_daemon()
    if daemon.problem:
        raise _unusable(daemon.problem)
    return daemon


def ask(path: str, *, seconds: float = _SECONDS) -> Any:
    """Return what the engine answers to a GET request: parsed JSON, or a text where it is none.

    Args:
        path: with its query: `/images/json`.
        seconds: how long to wait for each part of the answer.

    Raises:
        EngineError: no engine answers, or it refuses.
    """
    daemon = _named_daemon(os.environ)
    if daemon.problem:
        raise _unusable(daemon.problem)
    try:
        status, kind, body = _get(daemon.socket, path, seconds=seconds)
    except (OSError, ValueError) as error:
        raise _unusable(_problem(daemon.socket, error)) from error
    if status != 200:
        raise EngineError(f"container engine at {daemon.address}: {path} answered {status}: {body.strip()}")
    return json.loads(body) if "json" in kind else body


def version() -> str:
    """Return in a few words what engine answers: `Docker 20.10.24 at unix:///var/run/docker.sock`.

    Raises:
        EngineError: none does.
    """
    return f"Docker {ask('/version', seconds=_SECONDS_OF_A_PING)['Version']} at {find_daemon().address}"


def present_references() -> frozenset[str]:
    """Return the names of crossfarm's own images that the engine has: `crossfarm-armv7:0123456789abcdef`.

    Raises:
        EngineError: no engine answers.
    """
    filters = urllib.parse.quote(json.dumps({"reference": ["crossfarm-*"]}))
    images = ask(f"/images/json?filters={filters}")
    return frozenset(tag for image in images for tag in image["RepoTags"] or ())


def client() -> DockerClient:
    """Return docker-py's client, for what takes longer. The caller closes it.

    Raises:
        EngineError: no engine answers.
    """
    daemon = running_daemon()  # docker-py would leak a socket where none answers
    import docker
    from docker.errors import DockerException

    try:
        return docker.DockerClient(base_url=daemon.address, version="auto", timeout=_HOUR)
    except DockerException as error:
        raise EngineError(f"container engine at {daemon.address}: {error}; see that it runs") from error


def said(error: Exception) -> str:
    """Return what the engine said, out of an error of docker-py, without the request that it answered."""
    return str(getattr(error, "explanation", None) or error)


class Frames:
    """Takes bytes of an attached container's output as they come and gives back whole frames.

    A byte that says which stream, three zeros, four bytes of length, the content; see "attach" in the Docker Engine
    API.
    """

    OUTPUT = 1
    ERRORS = 2

    def __init__(self) -> None:
        self._rest = b""

    def take(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield stream and content of each frame that is whole with these bytes."""
        self._rest += chunk
        while len(self._rest) >= _HEAD:
            end = _HEAD + int.from_bytes(self._rest[4:_HEAD], "big")
            if len(self._rest) < end:
                return
            frame, self._rest = self._rest[:end], self._rest[end:]
            yield frame[0], frame[_HEAD:]


def _named_daemon(environment: Mapping[str, str]) -> Daemon:
    """Return the engine that DOCKER_HOST names, or the usual one, unasked; with a problem when it is elsewhere."""
    named = environment.get("DOCKER_HOST", "")
    parts = urllib.parse.urlsplit(named)
    if named and (parts.scheme != "unix" or not parts.path):
        problem = (
            f"DOCKER_HOST is {named}; jobs need an engine on this machine (unix:///PATH), which sees its folders: "
            "unset it, or name a socket"
        )
        return Daemon(socket=DEFAULT_SOCKET, problem=problem)
    return Daemon(socket=Path(parts.path) if named else DEFAULT_SOCKET)


def _unusable(problem: str) -> EngineError:
    return EngineError(
        f"container engine: {problem}; start it, or name another one in DOCKER_HOST; ./inv setup as root installs one "
        "on Debian"
    )


def _problem(path: Path, error: OSError | ValueError) -> str:
    """Return in words why what listens at a socket gave no answer."""
    match error:
        case PermissionError():
            return f"this user may not use {path} (be in the group docker, and log in again)"
        case FileNotFoundError() | ConnectionRefusedError():
            return f"no container engine answers at {path}"
        case OSError():
            return f"no container engine answers at {path} ({error.strerror or error})"
        case _:
            return f"what listens at {path} is no container engine"


def _ping(path: Path) -> str | None:
    """Return why the engine at a socket cannot be used; None when it answers."""
    try:
        status, _, _ = _get(path, "/_ping", seconds=_SECONDS_OF_A_PING)
    except (OSError, ValueError) as error:
        return _problem(path, error)
    return None if status == 200 else f"what listens at {path} is no container engine, or an ailing one ({status})"


def _get(path: Path, address: str, *, seconds: float) -> tuple[int, str, str]:
    """Return status, content type and body of a GET over HTTP/1.0, which ends with its connection.

    Raises:
        OSError: nothing answers in time.
        ValueError: the answer is none of HTTP.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        connection.sendall(f"GET {address} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
        answer = bytearray()
        while chunk := connection.recv(1 << 16):
            answer += chunk
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    words = first.split()
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise ValueError(f"no answer of HTTP: {first[:64]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
    return int(words[1]), headers.get("content-type", ""), body.decode("utf-8", "replace")
