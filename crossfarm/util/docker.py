"""Asks a container engine small things over its socket, in milliseconds; what takes longer goes through docker-py.

Importing docker-py costs more than a warm run may. DOCKER_HOST says where the engine is, as for docker's own client.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.parse
from typing import TYPE_CHECKING, Any

from crossfarm.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_HOST = "unix:///var/run/docker.sock"
_SECONDS = 60.0
"""An engine that is busy with an image answers late; one that is not there refuses at once."""
_SECONDS_OF_A_PING = 10.0
_HOUR = 3600


def engine_host() -> str:
    """Return the address of the engine: DOCKER_HOST, else the usual socket."""
    return os.environ.get("DOCKER_HOST") or DEFAULT_HOST


def answers() -> bool:
    """Say whether an engine answers within ten seconds; where none is, that is known at once."""
    try:
        ask("/_ping", seconds=_SECONDS_OF_A_PING)
    except EngineError:
        return False
    return True


def ask(path: str, *, seconds: float = _SECONDS) -> Any:
    """Return what the engine answers to a GET request: parsed JSON, or a text where it is none.

    Args:
        path: with its query: `/images/json`.
        seconds: how long to wait for each part of the answer.

    Raises:
        EngineError: no engine answers, or it refuses.
    """
    host = engine_host()
    connection = _connection(host, seconds)
    try:
        connection.request("GET", path, headers={"Host": "docker"})
        response = connection.getresponse()
        body = response.read()
    except PermissionError as error:
        raise EngineError(
            f"container engine at {host}: permission denied; join the group that owns the socket (docker), or be root"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(
            f"container engine at {host}: does not answer ({error or type(error).__name__}); start it, or name another "
            "one in DOCKER_HOST; ./inv setup as root installs one on Debian"
        ) from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        said = body.decode("utf-8", "replace").strip()
        raise EngineError(f"container engine at {host}: {path} answered {response.status}: {said}")
    is_json = "json" in (response.getheader("Content-Type") or "")
    return json.loads(body) if is_json else body.decode("utf-8", "replace")


def version() -> str:
    """Return in a few words what engine answers: `Docker 20.10.24 at unix:///var/run/docker.sock`.

    Raises:
        EngineError: none does.
    """
    return f"Docker {ask('/version', seconds=_SECONDS_OF_A_PING)['Version']} at {engine_host()}"


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
    ask("/_ping", seconds=_SECONDS_OF_A_PING)
    import docker
    from docker.errors import DockerException

    try:
        return docker.DockerClient(base_url=engine_host(), version="auto", timeout=_HOUR)
    except DockerException as error:
        raise EngineError(f"container engine at {engine_host()}: {error}; see that it runs") from error


def said(error: Exception) -> str:
    """Return what the engine said, out of an error of docker-py, without the request that it answered."""
    return str(getattr(error, "explanation", None) or error)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket; http.client calls this before the first request."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(host: str, seconds: float) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(host)
    if parts.scheme == "unix" and parts.path:
        return _UnixConnection(parts.path, seconds)
    if parts.scheme in ("tcp", "http") and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=seconds)
    raise EngineError(f"DOCKER_HOST={host}: not known here; give unix:///PATH or tcp://HOST:PORT")
