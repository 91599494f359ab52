"""A shell in the container of an image: the user and the tools of jobs, and the store to look at."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.engines.container.container import PROJECT, callers_user
from crossfarm.engines.container.reaper import this_process
from crossfarm.errors import EngineError
from crossfarm.util.docker import Daemon, Frames

if TYPE_CHECKING:
    from docker import APIClient

STORE = Path("/store")
"""Where the shell sees the store, read-only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShellPlace:
    """What a shell is to see.

    Attributes:
        daemon: the container engine.
        image: reference of the image.
        home: crossfarm's own folder, seen as /project, read-only.
        store: the store, seen as /store, read-only.
        command: what to run; `bash` for a person.
    """

    daemon: Daemon
    image: str
    home: Path
    store: Path
    command: Sequence[str] = ("bash",)


def open_shell(place: ShellPlace) -> int:
    """Run a command in a new container on this terminal, or on whatever stands in for it; returns its exit code.

    Raises:
        EngineError: the engine does not answer, or has no such image.
    """
    import docker

    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        api = docker.APIClient(base_url=place.daemon.address, version="auto", timeout=120)
        with contextlib.closing(api):
            container = api.create_container(**_described(api, place, has_terminal=has_terminal))["Id"]
            try:
                stream = api.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
                api.start(container)
                if has_terminal:
                    with _raw_terminal(), _following_size(api, container):
                        _carry(stream._sock, is_framed=False)
                else:
                    _carry(stream._sock, is_framed=True)
                stream._sock.close()
                stream.close()
                return int(api.wait(container, timeout=60)["StatusCode"])
            finally:
                api.remove_container(container, force=True, v=True)
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(f"no shell in {place.image}: {error}; see that the container engine runs") from error


def _described(api: APIClient, place: ShellPlace, *, has_terminal: bool) -> dict[str, Any]:
    from docker.types import Mount

    host = api.create_host_config(
        network_mode="none",
        mounts=[
            Mount(str(PROJECT), str(place.home.resolve()), type="bind", read_only=True),
            Mount(str(STORE), str(place.store.resolve()), type="bind", read_only=True),
        ],
        tmpfs={"/tmp": "exec,mode=1777"},  # noqa: S108 - the container's own
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        init=True,
    )
    return {
        "image": place.image,
        "command": list(place.command),
        "user": callers_user(api),
        "stdin_open": True,
        "tty": has_terminal,
        "working_dir": str(PROJECT),
        "environment": {
            "HOME": "/tmp",  # noqa: S108
            "USER": "crossfarm",
            "PYTHONPATH": str(PROJECT),
            "ZIG_LOCAL_CACHE_DIR": "/tmp/zig",  # noqa: S108
            "TERM": os.environ.get("TERM", "dumb"),
            "PS1": rf"{place.image.partition(':')[0]} \w \$ ",
        },
        "labels": this_process().labels("shell"),
        "host_config": host,
    }


def _carry(connection: Any, *, is_framed: bool) -> None:
    """Carry bytes from the standard input to the container and back, until the container has no more to say."""
    frames = Frames()
    waiting = [connection, sys.stdin.fileno()]
    while True:
        ready, _, _ = select.select(waiting, [], [])
        if connection in ready:
            chunk = connection.recv(65536)
            if not chunk:
                return
            for kind, content in frames.take(chunk) if is_framed else [(1, chunk)]:
                os.write(sys.stderr.fileno() if kind == Frames.ERRORS else sys.stdout.fileno(), content)
        if len(waiting) > 1 and waiting[1] in ready:
            typed = os.read(sys.stdin.fileno(), 65536)
            if typed:
                connection.sendall(typed)
            else:
                connection.shutdown(1)
                waiting.pop()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Hand every key to the container: its shell echoes, edits and takes Ctrl-C."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _following_size(api: APIClient, container: str) -> Iterator[None]:
    """Give the container's terminal the size of this one, now and whenever that changes."""

    def resize(*_: object) -> None:
        columns, lines = shutil.get_terminal_size()
        with contextlib.suppress(Exception):  # the shell may just have ended
            api.resize(container, height=lines, width=columns)

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        resize()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
