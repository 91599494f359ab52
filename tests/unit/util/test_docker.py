"""Whether a container engine answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.util.docker import find_daemon


@contextlib.contextmanager
def _answering(path: Path, answer: bytes) -> Iterator[None]:
    """Answer the first request at a socket."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(timeout=10)


def test_an_engine_that_answers_has_no_problem(tmp_path: Path) -> None:
    with _answering(tmp_path / "s", b"HTTP/1.0 200 OK\r\n\r\nOK"):
        daemon = find_daemon({"DOCKER_HOST": f"unix://{tmp_path / 's'}"})
    assert daemon.problem is None
    assert daemon.socket == tmp_path / "s"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_something_else_that_listens_there_is_told(tmp_path: Path, answer: bytes) -> None:
    with _answering(tmp_path / "s", answer):
        daemon = find_daemon({"DOCKER_HOST": f"unix://{tmp_path / 's'}"})
    assert daemon.problem is not None
    assert str(tmp_path / "s") in daemon.problem


def test_no_engine_is_told_with_the_place_that_was_asked(tmp_path: Path) -> None:
    daemon = find_daemon({"DOCKER_HOST": f"unix://{tmp_path / 'none'}"})
    assert daemon.problem == f"no container engine answers at {tmp_path / 'none'}"


def test_a_socket_that_nobody_listens_at_any_more_is_no_engine(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
    assert find_daemon({"DOCKER_HOST": f"unix://{tmp_path / 's'}"}).problem


def test_an_engine_elsewhere_is_refused_because_it_does_not_see_our_folders() -> None:
    problem = find_daemon({"DOCKER_HOST": "tcp://build.example:2375"}).problem
    assert problem is not None
    assert "tcp://build.example:2375" in problem
