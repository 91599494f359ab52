"""Starts and removes virtual boards: one container for each, on a network that reaches only this host."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from crossfarm.boards.virtual.emulation import register, version
from crossfarm.boards.virtual.kinds import BoardKind, kind_of
from crossfarm.boards.virtual.userland import LABEL, archive_of, ensure_image, remove_images
from crossfarm.config.boards import Board, BoardsFile, HealthLimits
from crossfarm.errors import ConfigError, EngineError, ToolError
from crossfarm.util.docker import find_daemon
from crossfarm.util.files import write_text
from crossfarm.util.processes import failure, run_tool

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

_MOST = 64
_SECONDS_TO_START = 180.0
_SECONDS_FOR_A_KEY = 600.0
"""Both by the clock, for what hangs: a machine that is busy, or emulates, is slow and no fault."""
_TARGET_LABEL = f"{LABEL}.target"
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SYS_CHROOT")
"""What sshd needs to log users in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardSet:
    """The virtual boards of one clone.

    Attributes:
        root: the project's folder; two clones on one engine have boards of their own.
        boards: the boards file that names them; their keys lie beside it.
    """

    root: Path
    boards: Path

    @property
    def id(self) -> str:
        """Return what tells this clone's containers from those of others."""
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:8]

    @property
    def network(self) -> str:
        """Return the name of the network."""
        return f"crossfarm-boards-{self.id}"

    @property
    def keys(self) -> Path:
        """Return the folder of the keys."""
        return self.boards.parent / "virtual-boards"


def boards_up(board_set: BoardSet, *, target: str, count: int, say: IO[str]) -> tuple[Board, ...]:
    """Start virtual boards until there are `count` for a target, and write all of this clone into the boards file.

    Args:
        board_set: where they belong.
        target: name of a toolchain file.
        count: 1 to 64.
        say: takes lines about the progress.

    Returns:
        The boards of the target.

    Raises:
        ConfigError: there is no such kind of board, or the boards file is not one of ours.
        ToolError: the emulator, mmdebstrap or ssh-keygen is missing.
        EngineError: no engine answers, or it fails.
    """
    kind = kind_of(target)
    if not 1 <= count <= _MOST:
        raise ConfigError(f"--count {count}: give 1 to {_MOST}")
    _check_ours(board_set.boards)
    register(kind, say=lambda text: print(text, file=say, flush=True))
    with _engine() as client:
        image = ensure_image(client, kind, say=say)
        _ensure_network(client, board_set)
        user = _key(board_set.keys / "user")
        for number in range(1, count + 1):
            _ensure_container(client, board_set, image=image, target=target, kind=kind, number=number, user=user)
        boards = _write_boards(client, board_set)
        wanted = tuple(board for board in boards if target in board.targets)
        for board in wanted:
            _wait_for_sshd(board)
    return wanted


def boards_down(board_set: BoardSet, *, images: bool = False) -> list[str]:
    """Remove all virtual boards of this clone, their network, keys and boards file; returns their names.

    Args:
        board_set: where they belong.
        images: also remove the userlands, which other clones may share.

    Raises:
        ConfigError: the boards file is not one of ours.
        EngineError: no engine answers, or it fails.
    """
    import docker.errors

    _check_ours(board_set.boards)
    with _engine() as client:
        removed = []
        for container in _containers(client, board_set):
            removed.append(str(container.labels["crossfarm.board"]))
            container.remove(force=True, v=True)
        with contextlib.suppress(docker.errors.NotFound):
            client.networks.get(board_set.network).remove()
        if images:
            removed += remove_images(client)
    board_set.boards.unlink(missing_ok=True)
    for key in board_set.keys.glob("*"):
        key.unlink()
    if board_set.keys.is_dir():
        board_set.keys.rmdir()
    return sorted(removed)


@contextlib.contextmanager
def _engine() -> Iterator[docker.DockerClient]:
    """Yield the client of this machine's container engine; its errors become EngineErrors."""
    import docker
    import docker.errors

    daemon = find_daemon()
    if daemon.problem:
        raise EngineError(f"virtual boards are containers, and {daemon.problem}; start Docker, or install docker.io")
    client = docker.DockerClient(base_url=daemon.address, timeout=120)
    try:
        yield client
    except (docker.errors.DockerException, OSError) as error:  # an engine that does not answer in time is an OSError
        raise EngineError(f"{error}; see the container engine's log, and that .crossfarm can be written") from error
    finally:
        client.close()


def _ensure_network(client: docker.DockerClient, board_set: BoardSet) -> None:
    if not client.networks.list(names=[board_set.network]):
        client.networks.create(board_set.network, driver="bridge", internal=True, labels={LABEL: board_set.id})


def _ensure_container(
    client: docker.DockerClient,
    board_set: BoardSet,
    *,
    image: str,
    target: str,
    kind: BoardKind,
    number: int,
    user: Path,
) -> None:
    """Start the container of one board, unless it runs."""
    import docker.errors

    board = f"virtual-{target.replace('_', '-')}-{number}"
    name = f"crossfarm-{board_set.id}-{board}"
    host = _key(board_set.keys / board)
    with contextlib.suppress(docker.errors.NotFound):
        container = client.containers.get(name)
        if container.status == "running" and container.attrs["Config"]["Image"] == image:
            return
        container.remove(force=True, v=True)
    container = client.containers.create(
        image,
        ["/usr/sbin/sshd", "-D", "-e"],
        name=name,
        hostname=board,
        network=board_set.network,
        labels={LABEL: board_set.id, _TARGET_LABEL: target, "crossfarm.board": board},
        cap_drop=["ALL"],
        cap_add=list(_CAPABILITIES),
        security_opt=["no-new-privileges"],
        mem_limit="2g",
        pids_limit=512,
        init=True,
        environment={"LC_ALL": "C"},
    )
    facts = {
        "machine": kind.machine,
        "processor": kind.processor or "",
        "emulator": version(kind) or "",
        "features": " ".join(kind.features),
        "model": "virtual board",
    }
    about = "".join(f"{key} {value}\n" for key, value in facts.items() if value)
    container.put_archive(
        "/etc",
        archive_of(
            {
                "ssh/host_key": (host.read_bytes(), 0o600),
                "ssh/authorized_keys": (user.with_suffix(".pub").read_bytes(), 0o644),
                "crossfarm-board": (about.encode(), 0o644),
            }
        ),
    )
    container.start()


def _containers(client: docker.DockerClient, board_set: BoardSet) -> list[Container]:
    return list(client.containers.list(all=True, filters={"label": f"{LABEL}={board_set.id}"}))


def _write_boards(client: docker.DockerClient, board_set: BoardSet) -> tuple[Board, ...]:
    """Write the boards file anew from what runs; addresses change when the engine is started again."""
    boards = []
    for container in sorted(_containers(client, board_set), key=lambda item: str(item.name)):
        container.reload()
        address = container.attrs["NetworkSettings"]["Networks"][board_set.network]["IPAddress"]
        if container.status != "running" or not address:
            continue
        name, target = container.labels["crossfarm.board"], container.labels[_TARGET_LABEL]
        host = (board_set.keys / name).with_suffix(".pub").read_text().split()
        boards.append(
            Board(
                name=name,
                transport="virtual",
                address=address,
                user="farm",
                key=f"{board_set.keys.name}/user",
                host_key=" ".join(host[:2]),
                targets=(target,),
                tags=("virtual",),
                platform=f"{kind_of(target).machine} virtual board",
                limits=HealthLimits(free_disk=50),
            )
        )
    content = BoardsFile(boards=tuple(boards)).model_dump_json(indent=1, exclude_defaults=True)
    write_text(board_set.boards, f"{_HEADER}{content}\n")
    return tuple(boards)


_HEADER = "# Written by ./inv board-up, removed by ./inv board-down.\n"


def _check_ours(path: Path) -> None:
    """Make sure that no boards file is overwritten that somebody wrote.

    Raises:
        ConfigError: it is one.
    """
    with contextlib.suppress(FileNotFoundError):
        if not path.read_text(encoding="utf-8").startswith(_HEADER):
            raise ConfigError(f"--boards {path}: is not a file of board-up; name another one")


def _key(path: Path) -> Path:
    """Return the path of a private key, made if it is not there; its public half lies beside it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "crossfarm", "-f", str(path)]
        done = run_tool(command, wall_seconds=_SECONDS_FOR_A_KEY, missing="as root: apt-get install openssh-client")
        if done.returncode != 0:
            raise ToolError(f"{failure(done)}\n\nsee that {path.parent} can be written")
    return path


def _wait_for_sshd(board: Board) -> None:
    """Wait until a board's sshd greets.

    Raises:
        EngineError: it does not within 3 minutes.
    """
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((board.address, board.port), timeout=2) as probe:
            probe.settimeout(5)
            if probe.recv(4) == b"SSH-":
                return
        time.sleep(0.05)
    raise EngineError(
        f"{board.name} at {board.address} does not greet within {_SECONDS_TO_START:.0f} s; see docker logs "
        f"(as uid {os.geteuid()}) of the container whose name ends with {board.name}"
    )
