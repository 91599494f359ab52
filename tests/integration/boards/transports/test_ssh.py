"""A board over ssh, against a real sshd on this host."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.boards.protocol import open_board
from crossfarm.boards.transports.connection import Timeouts
from crossfarm.boards.transports.login import fingerprint
from crossfarm.boards.transports.ssh import SshBoard
from crossfarm.config.boards import Board
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import BoardError, BundleError
from tests.integration.boards.conftest import MANIFEST, PURPOSE, Server, make_key, public_key
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def board(server: Server, tmp_path: Path) -> Board:
    return server.board(folder=str(tmp_path / "board"))


@contextlib.contextmanager
def _opened(board: Board, token: int = 1, timeouts: Timeouts | None = None) -> Iterator[SshBoard]:
    with SshBoard(board, PURPOSE, token=token, timeouts=timeouts) as opened:
        yield opened


def _strays(folder: str) -> list[str]:
    found = subprocess.run(
        ["grep", "-lF", f"CROSSFARM_RUN={folder}:", *_environments()], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def _wait_for_strays(folder: str) -> None:
    wait_until(lambda: _strays(folder))


def _environments() -> list[str]:
    return [str(entry / "environ") for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def test_a_bundle_is_deployed_run_and_its_result_fetched(board: Board, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with open_board(board, PURPOSE, token=7) as opened:
        assert opened.timing == "silicon" and opened.emulator is None
        assert opened.preflight().machine == os.uname().machine
        placed = opened.deploy(bundle)
        assert placed.files_sent == 4 and placed.bytes_sent > 2_000_000
        ended = opened.run(placed, ["--repeat", "3"], output=output, timeout=20)
    assert (ended.code, ended.tail, ended.throttled) == (0, "", None)
    assert (output / "outputs" / "0.bin").read_text() == "output"
    assert (output / "result.json").read_text() == f'{{"bundle": "bundles/{placed.place}"}}'
    assert list((tmp_path / "board" / "work").iterdir()) == []


def test_an_unchanged_bundle_costs_one_round_trip_and_sends_nothing(board: Board, bundle: Path) -> None:
    with _opened(board) as opened:
        opened.preflight()
        opened.deploy(bundle)
        before = opened.commands
        placed = opened.deploy(bundle)
        assert opened.commands - before == 1
        assert (placed.files_sent, placed.bytes_sent) == (0, 0)


def test_a_model_that_was_compiled_again_sends_no_weights(board: Board, bundle: Path, tmp_path: Path) -> None:
    with _opened(board) as opened:
        opened.preflight()
        opened.deploy(bundle)
        weights = bundle / "weights.bin"
        changed = os.urandom(64) + weights.read_bytes()[64:]
        weights.write_bytes(changed)
        (bundle / "manifest.json").write_text(f"{MANIFEST} ")
        placed = opened.deploy(bundle)
    assert placed.files_sent == 2 and placed.bytes_sent < 200
    there = tmp_path / "board" / "bundles" / placed.place
    assert (there / "weights.bin").read_bytes() == changed
    assert (there / "program").stat().st_nlink == 3, "the program of both bundles is one file"


def test_a_file_that_was_damaged_on_its_way_is_refused_and_nothing_is_kept(
    board: Board, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossfarm.boards.transports import ssh

    whole = ssh.write_archive

    def damaged(files: object, wanted: object, write: object) -> None:
        whole(files, wanted, lambda data: write(data.replace(b"input", b"inqut")))  # type: ignore

    monkeypatch.setattr(ssh, "write_archive", damaged)
    with _opened(board) as opened:
        opened.preflight()
        with pytest.raises(BoardError, match="what arrived does not have the sha256 of what was sent"):
            opened.deploy(bundle)
    folder = tmp_path / "board"
    assert [list((folder / name).iterdir()) for name in ("objects", "bundles", "incoming")] == [[], [], []]


def test_a_late_holder_can_neither_look_nor_upload_nor_run(board: Board, bundle: Path, tmp_path: Path) -> None:
    with _opened(board, token=5) as late:
        late.preflight()
        placed = late.deploy(bundle)
        with _opened(board, token=6) as holder:
            holder.preflight()
        (bundle / "manifest.json").write_text(f"{MANIFEST}  ")
        for action in (
            late.preflight,
            lambda: late.deploy(bundle),
            lambda: late.run(placed, [], output=tmp_path, timeout=5),
        ):
            with pytest.raises(BoardError, match=r"this lease has ended .*token 5, the board has seen 6"):
                action()
    assert not (tmp_path / "result.json").exists()


def test_the_result_of_a_holder_that_came_late_during_its_run_is_refused(
    board: Board, bundle: Path, tmp_path: Path
) -> None:
    refused: list[BaseException] = []

    def run_late() -> None:
        try:
            late.run(placed, ["--hang"], output=tmp_path, timeout=30)
        except BoardError as error:
            refused.append(error)

    with _opened(board, token=5) as late:
        late.preflight()
        placed = late.deploy(bundle)
        thread = threading.Thread(target=run_late)
        thread.start()
        _wait_for_strays(board.folder)
        with _opened(board, token=6) as holder:
            holder.preflight()
            assert holder._facts is not None and holder._facts.strays > 0
        thread.join(20)
    assert re.search("this lease has ended", str(refused[0]))
    assert _strays(board.folder) == []


def test_a_hung_program_is_ended_on_the_board_with_its_children(board: Board, bundle: Path, tmp_path: Path) -> None:
    with _opened(board) as opened:
        opened.preflight()
        placed = opened.deploy(bundle)
        with pytest.raises(BoardError, match=r"did not end within 0.5 s and was stopped; .*last line: working"):
            opened.run(placed, ["--hang"], output=tmp_path, timeout=0.5)
    assert _strays(board.folder) == []


def test_other_ends_of_a_program_are_told(board: Board, bundle: Path, tmp_path: Path) -> None:
    with _opened(board) as opened:
        opened.preflight()
        placed = opened.deploy(bundle)
        with pytest.raises(BoardError, match="program on board here was killed by SIGABRT; it crashed"):
            opened.run(placed, ["--crash"], output=tmp_path, timeout=10)
        ended = opened.run(placed, ["--exit", "3"], output=tmp_path, timeout=10)
        assert (ended.code, ended.tail) == (3, "program: on purpose\n")


def test_a_bundle_that_was_damaged_on_the_board_is_dropped_and_sent_again(
    board: Board, bundle: Path, tmp_path: Path
) -> None:
    with _opened(board) as opened:
        opened.preflight()
        placed = opened.deploy(bundle)
        assert opened.run(placed, ["--exit", "3"], output=tmp_path, timeout=10).code == 3, "its program's own fault"
        weights = tmp_path / "board" / "bundles" / placed.place / "weights.bin"
        with weights.open("r+b") as file:
            file.seek(1_000_000)
            file.write(b"rot")
        with pytest.raises(BoardError, match=r"damaged there after they had been verified.* run again"):
            opened.run(placed, ["--exit", "3"], output=tmp_path, timeout=10)
        again = opened.deploy(bundle)
        assert (again.place, again.files_sent) == (placed.place, 1)
        assert weights.read_bytes() == (bundle / "weights.bin").read_bytes()


def test_another_host_key_is_refused_with_both_fingerprints(server: Server, tmp_path: Path) -> None:
    other = public_key(make_key(tmp_path / "other"))
    shown = fingerprint(public_key(server.folder / "host"))
    said = subprocess.run(
        ["ssh-keygen", "-lf", str(server.folder / "host.pub")], capture_output=True, text=True, check=False
    )
    assert shown in said.stdout
    with pytest.raises(BoardError) as refused, _opened(server.board(host_key=other)):
        pass
    assert shown in str(refused.value) and fingerprint(other) in str(refused.value)


def test_a_pinned_key_of_another_type_is_refused_too(server: Server) -> None:
    rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQDGxy"
    told = r"shows the host key SHA256:.* \(ssh-ed25519\), boards.yaml has pinned a key that is not whole"
    with pytest.raises(BoardError, match=told), _opened(server.board(host_key=rsa)):
        pass


def test_a_wrong_user_key_is_told_with_what_to_type(server: Server, tmp_path: Path) -> None:
    key = make_key(tmp_path / "stranger")
    with pytest.raises(BoardError, match=r"refuses user .*ssh-copy-id -i "), _opened(server.board(key=str(key))):
        pass
    missing = server.board(key=str(tmp_path / "no key"))
    with pytest.raises(BoardError, match="no key is not there; correct `key`"), _opened(missing):
        pass


def test_a_board_that_is_off_is_told(server: Server) -> None:
    with pytest.raises(BoardError, match="cannot be reached"), _opened(server.board(port=1)):
        pass


def test_the_wrong_machine_is_refused(server: Server, tmp_path: Path) -> None:
    board = server.board(folder=str(tmp_path / "board"), platform="armv7l Raspberry Pi*")
    with _opened(board) as opened, pytest.raises(BoardError, match=r"it says that it is 'x86_64 .*the wrong machine"):
        opened.preflight()


def test_a_full_disk_and_a_hot_limit_are_told_together(server: Server, tmp_path: Path) -> None:
    board = server.board(folder=str(tmp_path / "board"), limits={"free_disk": 10**9, "load": 1e-9})
    with _opened(board) as opened, pytest.raises(BoardError, match=r"MiB are free in .*; its load is .* on"):
        opened.preflight()


def test_a_bundle_that_does_not_fit_is_told_before_anything_is_sent(board: Board, bundle: Path, tmp_path: Path) -> None:
    import dataclasses

    code = LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64", features=("+avx2",))
    purpose = dataclasses.replace(PURPOSE, code=code)
    with SshBoard(board, purpose, token=1) as opened:
        opened.preflight()
        assert opened._facts is not None and opened._facts.features
        opened._facts = dataclasses.replace(opened._facts, features=opened._facts.features - {"avx2"})
        with pytest.raises(BundleError, match=r"needs AVX2, the board's CPU has none. Nothing was sent"):
            opened.deploy(bundle)
    assert list((tmp_path / "board" / "objects").iterdir()) == []


def test_old_bundles_go_where_room_is_needed(board: Board, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    with _opened(board) as opened:
        opened.preflight()
        first = opened.deploy(bundle)
        os.utime(folder / "bundles" / first.place, (0, 0))
        (bundle / "weights.bin").write_bytes(os.urandom(1_000_000))
        second = opened.deploy(bundle)
        assert [path.name for path in (folder / "bundles").iterdir()] == [second.place]
        too_large = server_with_limit(board, free_disk=10**9)
    with _opened(too_large, token=2) as opened:
        (bundle / "weights.bin").write_bytes(os.urandom(1_000_000))
        with pytest.raises(BoardError, match=r"has no room: .* are free, and no old bundle is left to remove"):
            opened.deploy(bundle)
    assert list((folder / "bundles").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_is_told_at_each_step(
    server: Server, bundle: Path, tmp_path: Path, small_disk: Path
) -> None:
    with _opened(server.board(folder=str(small_disk / "board"), limits={"free_disk": 1, "load": 1000.0})) as opened:
        opened.preflight()
        (bundle / "weights.bin").write_bytes(os.urandom(3_500_000))
        with pytest.raises(BoardError, match=r"has no room: .* are free, and no old bundle is left to remove"):
            opened.deploy(bundle)
        (bundle / "weights.bin").write_bytes(os.urandom(500_000))
        placed = opened.deploy(bundle)
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        with pytest.raises(BoardError, match=r"has no room|did not send the result of a run whole"):
            opened.run(placed, [], output=tmp_path, timeout=10)
        with pytest.raises(BoardError, match=r"cannot be written: the disk is full|0 MiB are free in "):
            opened.preflight()


def server_with_limit(board: Board, free_disk: int) -> Board:
    return board.model_copy(update={"limits": board.limits.model_copy(update={"free_disk": free_disk})})


def test_a_folder_with_blanks_in_the_users_home_is_no_trap(server: Server, bundle: Path, tmp_path: Path) -> None:
    """No name reaches a shell unquoted: names of folders are limited, options are quoted."""
    with _opened(server.board(folder=str(tmp_path / "board"))) as opened:
        opened.preflight()
        placed = opened.deploy(bundle)
        trap = f"; touch {tmp_path}/trapped; $(touch {tmp_path}/trapped) `touch {tmp_path}/trapped` ' \" \\ "
        assert opened.run(placed, [trap], output=tmp_path, timeout=10).code == 0
    assert not (tmp_path / "trapped").exists()


class Line:
    """A line to a server that can be cut without a word, and broken."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []
        self._whole = threading.Event()
        self._whole.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()

    def tear(self) -> None:
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._whole.set()
        self.tear()
        self._listener.close()
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._whole.wait()
                sink.sendall(data)


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    with contextlib.closing(Line(server.port)) as made:
        yield made


@pytest.mark.parametrize("fault", ["cut", "tear"])
def test_a_board_that_is_lost_during_a_run_is_told_soon(
    board: Board, line: Line, bundle: Path, tmp_path: Path, fault: str
) -> None:
    told = {"cut": r"does not answer for \d+ s", "tear": "the connection broke"}[fault]
    timeouts = Timeouts(keepalive=0.2, silence=3.0)

    def fail_when_it_runs() -> None:
        _wait_for_strays(board.folder)
        getattr(line, fault)()

    far = board.model_copy(update={"port": line.port})
    with _opened(far, timeouts=timeouts) as opened:
        opened.preflight()
        placed = opened.deploy(bundle)
        failing = threading.Thread(target=fail_when_it_runs)
        failing.start()
        started = time.monotonic()
        with pytest.raises(BoardError, match=told):
            opened.run(placed, ["--hang"], output=tmp_path, timeout=60)
        failing.join()
        assert time.monotonic() - started < 30
    assert _strays(board.folder), "nobody has told the board"
    with _opened(board, token=2) as next_holder:
        next_holder.preflight()
    assert _strays(board.folder) == []


def test_a_quiet_program_on_a_living_board_is_waited_for(board: Board, bundle: Path, tmp_path: Path) -> None:
    with _opened(board, timeouts=Timeouts(keepalive=0.2, silence=3.0)) as opened:
        opened.preflight()
        assert opened.run(opened.deploy(bundle), ["--sleep", "4"], output=tmp_path, timeout=30).code == 0
