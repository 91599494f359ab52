"""One container with a warm worker in it: starts it, hands it jobs, and says what became of it when it dies."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.engines.container.isolation import EXIT_UNKILLABLE
from crossfarm.engines.container.job_folder import INPUTS, WRITABLE, ContainerFolder
from crossfarm.engines.container.limits import ResourceLimits
from crossfarm.engines.messages import MOST_BYTES, JobReply, new_secret
from crossfarm.engines.output_watch import LOOK_SECONDS, OutputWatch
from crossfarm.errors import EngineError
from crossfarm.stages.job import Job
from crossfarm.util.docker import Daemon, Frames

if TYPE_CHECKING:
    from docker import APIClient

PROJECT = Path("/project")
"""Where a container sees crossfarm's own source, read-only."""
MOUNTED = ("crossfarm", "runner")
"""What of the clone it sees: neither the store, nor the history, nor anything of the user's."""
SHUTDOWN_SECONDS = 3.0
"""How long a dying container may take until it is told to the farm why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """How containers of a run are started.

    Attributes:
        daemon: the engine.
        home: crossfarm's own folder.
        limits: what each may use.
        labels: mark them as this run's.
        environment: variables of the jobs, beside those of the image.
        user: `UID:GID` of the jobs.
    """

    daemon: Daemon
    home: Path
    limits: ResourceLimits
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    user: str

    def client(self) -> APIClient:
        """Return a client of the engine; each thread needs its own.

        Raises:
            EngineError: the engine does not answer.
        """
        if not self.daemon.answers():  # docker-py would leak a socket
            raise EngineError(gone(self.daemon))
        import docker

        try:
            return docker.APIClient(base_url=self.daemon.address, version="auto", timeout=120)
        except docker.errors.DockerException as error:
            raise EngineError(gone(self.daemon)) from error


class JobContainer:
    """A running container; takes one job at a time."""

    def __init__(self, launch: Launch, image: str, box: ContainerFolder) -> None:
        """Start it.

        Args:
            launch: how.
            image: reference or id of the image.
            box: its folder.

        Raises:
            EngineError: the engine does not answer, has no such image, or cannot start it.
        """
        import docker

        self.image, self.box, self._launch = image, box, launch
        self._api = launch.client()
        self._since = time.time()
        self._pending = b""
        self._frames = Frames()
        self._said = b""
        self._stream: Any = socket.socket(socket.AF_UNIX)  # until it is attached
        self._socket: Any = self._stream
        try:
            self.id: str = self._api.create_container(**_described(self._api, launch, image, box))["Id"]
            # Attached before it starts, so that nothing it says is missed.
            self._socket.close()
            self._stream = self._api.attach_socket(self.id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            self._socket = self._stream._sock
            self._api.start(self.id)
        except docker.errors.ImageNotFound as error:
            self.remove()
            raise EngineError(
                f"the image {image} is gone from the container engine; type ./inv images, then the same command again"
            ) from error
        except (docker.errors.DockerException, OSError) as error:
            self.remove()
            answers = launch.daemon.answers()
            raise EngineError(f"no container of {image} starts: {error}" if answers else gone(launch.daemon)) from error

    def run(self, job_file: Path, job: Job, log: Path) -> JobReply | None:
        """Run the job that was put into the box, its log growing meanwhile; None when the container died.

        With a reply, no process of the job is left. Without one, the job may still run, until the container is removed.

        Raises:
            TimeoutError: the job takes longer than it may; the container still runs.
            EngineError: something came that is no reply to this request.
            OutputError: the job has written more than it may; the container still runs.
        """
        deadline = time.monotonic() + self._launch.limits.seconds
        secret = new_secret()
        try:
            self._socket.sendall(self.box.request(job_file, job).encoded(secret))
            line = self._line(deadline, log)
        except TimeoutError:
            raise
        except OSError:
            return None
        return None if line is None else JobReply.decoded(line, secret)

    def dismiss(self) -> None:
        """Let the container end: its worker kills what runs and goes. Returns at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(1)

    def remove(self) -> None:
        """Remove the container, whether it still runs or not, and its folder."""
        self.discard()
        self._wait_until_gone()
        for close in (self._stream.close, self._socket.close, self._api.close):
            with contextlib.suppress(Exception):  # whatever its engine's death has broken
                close()
        self.box.remove()

    def why_it_died(self) -> str:
        """Say in a few words what ended the container: memory, a signal, the engine itself."""
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        happened: list[Mapping[str, Any]] = []
        while time.monotonic() < deadline:
            if not self._launch.daemon.answers():
                return gone(self._launch.daemon)
            with contextlib.suppress(Exception):  # the engine may go at any moment; the next round says so
                happened = self._events()
            if any(event["Action"] == "die" for event in happened) and not _stopped_by_engine(happened):
                break
            time.sleep(0.1)
        return _said_by(happened, self._said.decode("utf-8", "replace"))

    def _events(self) -> list[Mapping[str, Any]]:
        between = {"since": f"{self._since:.6f}", "until": f"{time.time():.6f}"}
        return list(self._api.events(filters={"container": self.id}, decode=True, **between))

    def discard(self) -> None:
        """Remove the container alone; may be called while another thread waits for a job in it, which then ends."""
        if not self._launch.daemon.answers():
            return
        with contextlib.suppress(Exception):  # it removes itself when it ends
            self._api.remove_container(self.id, force=True, v=True)

    def _wait_until_gone(self) -> None:
        """Wait for a removal that somebody else began, for instance the container's own; not for ever."""
        import docker

        deadline = time.monotonic() + SHUTDOWN_SECONDS
        with contextlib.suppress(Exception):  # the engine went away
            while self._launch.daemon.answers() and time.monotonic() < deadline:
                try:
                    self._api.inspect_container(self.id)
                except docker.errors.NotFound:
                    return
                time.sleep(0.05)

    def _line(self, deadline: float, log: Path) -> bytes | None:
        """Return the next line of the worker's standard output; None when there is none to come."""
        watch = OutputWatch(lambda: self.box.excess(self._launch.limits.output))
        while b"\n" not in self._pending and len(self._pending) <= MOST_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(min(left, LOOK_SECONDS))
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                self.box.show_log(log)
                continue
            finally:
                watch.look()
            if not chunk:
                return None
            for kind, content in self._frames.take(chunk):
                if kind == Frames.OUTPUT:
                    self._pending += content[: MOST_BYTES + 1 - len(self._pending)]
                else:
                    self._said = (self._said + content)[-4096:]
        line, _, self._pending = self._pending.partition(b"\n")
        return line


def gone(daemon: Daemon) -> str:
    """Return what is told when the engine does not answer any more."""
    return f"the container engine at {daemon.socket} does not answer; start it again, or run with --engine local"


def callers_user(api: APIClient) -> str:
    """Return the user of jobs: the caller's, which a rootless engine calls root."""
    options = api.info().get("SecurityOptions") or []
    return "0:0" if any("rootless" in option for option in options) else f"{os.getuid()}:{os.getgid()}"


def _described(api: APIClient, launch: Launch, image: str, box: ContainerFolder) -> dict[str, Any]:
    """Return the arguments of docker-py's create_container."""
    from docker.types import LogConfig, Mount, Ulimit

    limits = launch.limits
    mounts = [
        Mount(str(INPUTS), str(box.inputs.resolve()), type="bind", read_only=True),
        Mount(str(WRITABLE), str(box.writable.resolve()), type="bind"),
        *(Mount(str(PROJECT / name), str(launch.home / name), type="bind", read_only=True) for name in MOUNTED),
    ]
    host = api.create_host_config(
        auto_remove=True,
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": f"size={limits.memory // 2},mode=1777"},  # noqa: S108 - the container's own
        mounts=mounts,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mem_limit=limits.memory,
        memswap_limit=limits.memory,
        nano_cpus=int(limits.cpus * 1e9),
        pids_limit=limits.processes,
        ulimits=[Ulimit(name="fsize", soft=limits.file_bytes, hard=limits.file_bytes)],
        shm_size=16 << 20,
        sysctls={"kernel.shm_rmid_forced": "1"},
        log_config=LogConfig(type="none"),
    )
    return {
        "image": image,
        # It must be the first process itself. It imports nothing from the folders that jobs write to (-P, -s).
        "command": ["python3", "-P", "-s", "-m", "crossfarm.engines.worker", "--alone"],
        "entrypoint": [],
        "name": f"crossfarm-{uuid.uuid4().hex[:12]}",
        "user": launch.user,
        "stdin_open": True,  # and closed when the farm goes away, however it does
        "working_dir": "/tmp",  # noqa: S108
        "environment": {
            **launch.environment,
            "HOME": "/tmp",  # noqa: S108
            "USER": "crossfarm",
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        "labels": dict(launch.labels),
        "host_config": host,
    }


def _stopped_by_engine(happened: list[Mapping[str, Any]]) -> bool:
    """Return whether a container got what an engine that shuts down sends; so does `docker stop`."""
    signals = {event["Actor"]["Attributes"].get("signal") for event in happened if event["Action"] == "kill"}
    return "15" in signals


def _said_by(happened: list[Mapping[str, Any]], said: str) -> str:
    actions = [event["Action"] for event in happened]
    if "oom" in actions:
        return "its container ran out of memory"
    if "kill" in actions:
        return "its container was killed from outside"
    code = next((event["Actor"]["Attributes"].get("exitCode") for event in happened if event["Action"] == "die"), None)
    if code == str(EXIT_UNKILLABLE):
        return "a process of the job could not be ended, so its results are not taken; is a disk dead?"
    lines = said.strip().splitlines()
    hint = f": {lines[-1]}" if lines else ""
    return f"its container ended with code {code}{hint}" if code else f"its container is gone{hint}"
