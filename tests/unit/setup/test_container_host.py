"""What setup does for containers, on a machine of files and with a socket that a small server answers."""

from __future__ import annotations

import http.server
import io
import json
import platform
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.boards.virtual.emulation import register_binfmt
from crossfarm.errors import EXIT_GOOD, EngineError, ToolError
from crossfarm.setup import container_host
from crossfarm.setup.container_host import Host, host_requirements, prepare_host, start_engine
from crossfarm.util import docker
from crossfarm.util.console import Console

NAMES = ("qemu-arm", "qemu-aarch64")


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers like an engine that has two images."""

    def do_GET(self) -> None:
        answers = {
            "/_ping": ("text/plain", "OK"),
            "/version": ("application/json", json.dumps({"Version": "1.2.3"})),
            "/images/json": ("application/json", json.dumps([{"RepoTags": ["crossfarm-a:1"]}, {"RepoTags": None}])),
        }
        kind, text = answers.get(self.path.partition("?")[0], ("text/plain", ""))
        self.send_response(200 if text else 404)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "socket"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of a server that answers like an engine."""
    path = tmp_path / "engine.sock"
    with socketserver.UnixStreamServer(str(path), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield path
        server.shutdown()
        thread.join()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine of files: a kernel that knows no emulator, and Debian's lines about two."""
    binfmt, lines = tmp_path / "binfmt_misc", tmp_path / "binfmt.d"
    binfmt.mkdir()
    lines.mkdir()
    (binfmt / "register").write_text("")
    for name in NAMES:
        (lines / f"{name}.conf").write_text(f":{name}:M::magic:mask:/{name}:OPF\n")
    return Host(home=tmp_path, is_root=True, log=tmp_path / "log", binfmt=binfmt, binfmt_lines=lines)


def test_an_engine_is_asked_over_its_socket(served: Path) -> None:
    assert docker.answers()
    assert docker.version() == f"Docker 1.2.3 at unix://{served}"
    assert docker.present_references() == {"crossfarm-a:1"}
    with pytest.raises(EngineError, match="/nothing answered 404"):
        docker.ask("/nothing")


def test_a_socket_that_is_not_there_and_one_that_is_refused_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert not docker.answers()
    with pytest.raises(EngineError, match=r"no container engine answers at .*none\.sock"):
        docker.ask("/_ping")


@pytest.mark.parametrize("address", ["ssh://somewhere", "tcp://build.example:2375", "unix://", "nonsense"])
def test_an_address_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(EngineError, match="jobs need an engine on this machine"):
        docker.ask("/_ping")


def test_a_user_who_is_not_root_is_told_what_to_do(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(docker, "DEFAULT_SOCKET", tmp_path / "none.sock")
    said = io.StringIO()
    code = prepare_host(Console(said), Host(home=tmp_path, is_root=False, log=host.log, binfmt=host.binfmt))
    assert code == EXIT_GOOD
    assert "apt-get install docker.io; then join its group: adduser $USER docker" in said.getvalue()
    assert "jobs run on this host" in said.getvalue()


def test_an_engine_that_was_named_and_does_not_answer_is_not_replaced(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    said = io.StringIO()
    assert prepare_host(Console(said), host) == EXIT_GOOD
    assert "none.sock; start that engine, or unset DOCKER_HOST" in said.getvalue()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="an ARM machine needs no emulator for its own programs")
def test_doctor_tells_of_engine_and_emulators(served: Path, host: Host) -> None:
    container, arm = host_requirements(host)
    assert container.found == f"Docker 1.2.3 at unix://{served}"
    assert arm.found is None
    for name in NAMES:
        (host.binfmt / name).write_text("enabled\ninterpreter /x\nflags: POF\n")
    assert [row.found for row in host_requirements(host)][1] is not None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="an ARM machine needs no emulator for its own programs")
def test_a_registration_that_does_not_survive_into_containers_counts_as_none(served: Path, host: Host) -> None:
    for name in NAMES:
        (host.binfmt / name).write_text("enabled\ninterpreter /x\nflags: P\n")
    assert [row.found for row in host_requirements(host)][1] is None


def test_the_kernel_is_told_debians_own_line(host: Host) -> None:
    (host.binfmt / "qemu-arm").write_text("enabled\nflags: P\n")
    said: list[str] = []
    register_binfmt(("qemu-arm",), binfmt=host.binfmt, lines=host.binfmt_lines, say=said.append)
    assert (host.binfmt / "qemu-arm").read_text() == "-1", "the old entry is taken away first"
    assert (host.binfmt / "register").read_text() == ":qemu-arm:M::magic:mask:/qemu-arm:OPF"
    assert said == ["registered qemu-arm with the kernel, for ARM programs in containers"]


def test_a_kernel_that_refuses_is_told(host: Host) -> None:
    (host.binfmt_lines / "qemu-arm.conf").unlink()
    with pytest.raises(ToolError, match=r"qemu-arm: cannot be registered with the kernel: .*No such file"):
        register_binfmt(("qemu-arm",), binfmt=host.binfmt, lines=host.binfmt_lines, say=lambda _: None)


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd starts the engine here")
def test_a_daemon_that_ends_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = tmp_path / "dockerd"
    daemon.write_text("#!/bin/sh\necho the reason\nexit 3\n")
    daemon.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    log = tmp_path / "log"
    with pytest.raises(ToolError) as caught:
        start_engine(log, say=lambda _: None, running=lambda: False)
    assert str(caught.value) == f"the container engine ended with 3\n    the reason\n\nsee {log}"


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd starts the engine here")
def test_a_daemon_that_never_answers_is_waited_for_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = tmp_path / "dockerd"
    daemon.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    daemon.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(container_host, "_SECONDS_TO_START", 0.5)
    with pytest.raises(ToolError, match=r"did not answer within 0\.5 s"):
        start_engine(tmp_path / "log", say=lambda _: None, running=lambda: False)
