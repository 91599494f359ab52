"""Ways to log in, against real sshds and a real ssh-agent: jump hosts, agents, passphrases, and what goes wrong."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.boards.transports.ssh import SshBoard
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError
from tests.integration.boards.conftest import PURPOSE, Server, make_key, public_key, running_sshd

pytestmark = pytest.mark.integration
PASSPHRASE = "correct horse"  # noqa: S105 - of a key that is made here


@pytest.fixture
def jump(tmp_path: Path) -> Iterator[Server]:
    """Another sshd, by way of which the first one is reached."""
    (tmp_path / "jump").mkdir()
    with running_sshd(tmp_path / "jump") as found:
        yield found


def via(jump: Server, **changes: object) -> dict[str, object]:
    found = {"address": "127.0.0.1", "port": jump.port, "user": jump.board().user, "key": str(jump.folder / "user")}
    return found | {"host_key": public_key(jump.folder / "host")} | changes


def machine(board: Board) -> str:
    with SshBoard(board, PURPOSE, token=1) as opened:
        return opened.preflight().machine


def refused(board: Board) -> str:
    with pytest.raises(BoardError) as found:
        machine(board)
    return str(found.value)


@pytest.fixture
def locked(server: Server, tmp_path: Path) -> Path:
    """The user's key, with a passphrase."""
    key = tmp_path / "locked"
    key.write_bytes((server.folder / "user").read_bytes())
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", str(key)], check=True)
    return key


def secret(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "passphrase"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_bundle_is_run_by_way_of_a_jump_host(server: Server, jump: Server, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    board = server.board(folder=str(tmp_path / "board"), via=via(jump))
    with SshBoard(board, PURPOSE, token=1) as opened:
        opened.preflight()
        ended = opened.run(opened.deploy(bundle), ["--repeat", "3"], output=output, timeout=20)
    assert (ended.code, ended.tail) == (0, "")
    assert (output / "outputs" / "0.bin").read_text() == "output"
    assert "Accepted publickey" in (jump.folder / "log").read_text()


def test_the_jump_host_s_key_is_pinned_too(server: Server, jump: Server) -> None:
    board = server.board(via=via(jump, host_key=public_key(server.folder / "host")))
    assert re.search(r"the jump host of board here at .* shows the host key .* Nothing was sent", refused(board))


def test_a_board_that_the_jump_host_cannot_reach_is_told_with_both(server: Server, jump: Server) -> None:
    board = server.board(via=via(jump), port=1)
    said = refused(board)
    assert said.startswith("board here at 127.0.0.1:1 cannot be reached by way of the jump host of board here at")
    assert "as seen from there" in said


def test_a_jump_host_that_is_off_is_told_as_such(server: Server, jump: Server) -> None:
    assert "the jump host of board here at 127.0.0.1:1 cannot be reached" in refused(
        server.board(via=via(jump, port=1))
    )


def test_a_jump_host_that_dies_in_the_middle_is_named(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "dying"
    folder.mkdir()
    with running_sshd(folder) as jump, SshBoard(server.board(via=via(jump)), PURPOSE, token=1) as opened:
        opened.preflight()
        # The process that serves this connection goes with it.
        subprocess.run(["pkill", "-KILL", "-f", f"sshd.*{folder}/config"], check=True)
        for pid in _children_of_connections(jump.port):
            os.kill(pid, 9)
        with pytest.raises(BoardError, match=r"it, or its jump host 127\.0\.0\.1, died|does not answer"):
            opened.preflight()
            opened.preflight()


def _children_of_connections(port: int) -> list[int]:
    """Return the processes that serve established connections to a port."""
    listed = subprocess.run(["ss", "-Htnp", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return sorted({int(pid) for pid in re.findall(r"pid=(\d+)", listed)} - {os.getpid()})


def test_a_key_with_a_passphrase_in_a_file(server: Server, locked: Path, tmp_path: Path) -> None:
    board = server.board(key=str(locked), passphrase_file=secret(tmp_path, f"{PASSPHRASE}\n"))
    assert machine(board) == os.uname().machine


def test_a_key_whose_passphrase_nobody_declared_says_so_and_asks_nobody(server: Server, locked: Path) -> None:
    said = refused(server.board(key=str(locked)))
    assert f"the key {locked} has a passphrase; name a file" in said and "agent: true" in said


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("wrong", 0o600, "cannot be read with the passphrase of"),
        (PASSPHRASE, 0o644, "others may read the passphrase file"),
        ("\n", 0o600, "holds no passphrase"),
    ],
)
def test_a_passphrase_file_that_is_no_good_is_told_and_never_shown(  # noqa: PLR0917 - three of them are fixtures
    server: Server, locked: Path, tmp_path: Path, text: str, mode: int, told: str
) -> None:
    said = refused(server.board(key=str(locked), passphrase_file=secret(tmp_path, text, mode)))
    assert told in said and PASSPHRASE not in said


def test_a_passphrase_file_that_is_not_there_is_told(server: Server, locked: Path, tmp_path: Path) -> None:
    said = refused(server.board(key=str(locked), passphrase_file=str(tmp_path / "gone")))
    assert "cannot be read: No such file" in said and "`passphrase_file`" in said


def test_the_public_half_of_a_key_is_told(server: Server) -> None:
    said = refused(server.board(key=str(server.folder / "user.pub")))
    assert "is the public half of a key; name the private one" in said


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real ssh-agent without keys."""
    address = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(address)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
        yield address
        process.terminate()


def test_an_agent_s_key_logs_in_without_a_file(server: Server, agent: Path) -> None:
    subprocess.run(["ssh-add", "-q", str(server.folder / "user")], check=True, env={**os.environ})
    assert machine(server.board(key=None, agent=True)) == os.uname().machine


def test_an_agent_without_the_key_is_told(
    server: Server, agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = server.board(key=None, agent=True)
    assert "the keys of the ssh agent (it holds none); load the right key with ssh-add" in refused(board)
    subprocess.run(["ssh-add", "-q", str(make_key(tmp_path / "other"))], check=True)
    assert "the keys of the ssh agent (1 of them)" in refused(board)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert "none answers: SSH_AUTH_SOCK is not set" in refused(board)


def test_a_host_key_may_have_its_comment(server: Server) -> None:
    commented = f"{public_key(server.folder / 'host')} root@pi"
    assert machine(server.board(host_key=commented)) == os.uname().machine
