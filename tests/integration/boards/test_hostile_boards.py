"""Boards that mean harm, over a real sshd: each ends in time with an error that says so, and harms nothing."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossfarm.boards.declare import ask_host_key
from crossfarm.boards.transports.connection import Connection, Timeouts
from crossfarm.boards.transports.ssh import SshBoard
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError
from crossfarm.util.text import clean
from tests.integration.boards import hostile_board
from tests.integration.boards.conftest import MANIFEST, PURPOSE, Server, running_sshd

pytestmark = pytest.mark.integration

TIMEOUTS = Timeouts(connect=10.0, keepalive=0.3, silence=10.0, answer=10.0)
"""With boards that end by themselves; only a machine under load needs so much."""
HURRY = Timeouts(connect=10.0, keepalive=0.3, silence=10.0, answer=2.0)
"""With boards that would never end; four times `answer` for a run."""
RUN_SECONDS = 0.5
OVERDUE = "did not finish in time"
MOST_MEMORY_KIB = 300 * 1024
MOST_DISK_BYTES = 1 << 20

TOLD = {
    "silent": OVERDUE,
    "drips": OVERDUE,
    "drips-lines": OVERDUE,
    "drips-errors": OVERDUE,
    "floods": "sends more than it was asked for",
    "floods-errors": "sends more than it was asked for",
    "floods-both": "sends more than it was asked for",
    "floods-facts": "sends more than it was asked for",
    "closes-output": OVERDUE,
    "leaves-a-child": OVERDUE,
    "says-nothing": "not with what a Linux board says",
    "is-no-board": "not with what a Linux board says",
    "noise": "not with what a Linux board says",
    "machine-of-escapes": "not with what a Linux board says",
    "machine-of-nothing": "not with what a Linux board says",
    "long-machine": "not with what a Linux board says",
    "long-number": "not with what a Linux board says",
    "negative-disk": "not with what a Linux board says",
    "other-machine": "it is the wrong machine",
    "dies": "a command was killed there",
    "cuts": "the connection broke",
    "fails-with-escapes": "board here: .*bad; look at",
    "fails-at-length": "board here: x{400,}…",
    "claims-another-holder": "this lease has ended",
    "claims-no-room": "has no room: exit code 96",
    "fails-in-silence": "exit code 200",
    "offer-drips": OVERDUE,
    "offer-floods": "sends more than it was asked for",
    "offer-long-number": "what arrived is odd",
    "store-silent": OVERDUE,
    "store-drips": OVERDUE,
    "store-dies": "a command was killed there",
    "run-drips": OVERDUE,
    "run-silent-end": OVERDUE,
    "run-floods": "sends more than it was asked for",
    "run-zeros": "sends more than it was asked for",
    "run-floods-errors": "sends more than it was asked for",
    "run-says-nothing": "ends too soon",
    "run-noise": "what is no tar archive",
    "run-truncated": "ends too soon",
    "run-zipped": "what is no tar archive",
    "run-sparse": "which is no plain file",
    "run-sparse-words": "which no run leaves",
    "run-symlink": "which is no plain file",
    "run-symlinked-folder": "which is no plain file",
    "run-hardlink": "which is no plain file",
    "run-device": "which is no plain file",
    "run-fifo": "which is no plain file",
    "run-absolute": "which no run leaves",
    "run-upwards": "which no run leaves",
    "run-other-name": "which no run leaves",
    "run-nul": "which no run leaves",
    "run-large-output": "which has 6 at most",
    "run-large-result": "which has 4194304 at most",
    "run-large-profile": "which no run leaves",
    "run-negative": "with -1 bytes",
    "run-twice": "twice",
    "run-many-outputs": "which no run leaves|sends more than it was asked for",
    "run-endless-output": "sends more than it was asked for",
    "run-endless-headers": "sends more than it was asked for",
    "run-long-header": "an extended header of 8589934592 bytes",
    "run-long-names": "which is no plain file",
    "run-bad-code": "an exit code that is none",
    "run-long-code": "which has 16 at most",
    "run-no-code": "lacks code",
    "run-bad-facts": "not with what a Linux board says",
    "run-crash-of-escapes": "was killed by SIGSEGV",
    "run-cuts": "the connection broke",
}
"""Hostile board -> what its error says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a use of a hostile board ended."""

    error: BaseException | None
    seconds: float


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = f"{sys.executable} -I -S {hostile_board.__file__}"
    with running_sshd(tmp_path_factory.mktemp("hostile"), f"ForceCommand {command}\n") as found:
        yield found


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "program").write_bytes(Path("/bin/true").read_bytes())
    (folder / "weights.bin").write_bytes(bytes(1000))
    (folder / "manifest.json").write_text(MANIFEST)
    return folder


def use(board: Board, bundle: Path, output: Path, *, timeouts: Timeouts = TIMEOUTS) -> Outcome:
    """Use a board as the stage `measure` does."""
    output.mkdir(parents=True)
    started = time.monotonic()
    error: BaseException | None = None
    try:
        with SshBoard(board, PURPOSE, token=1, timeouts=timeouts) as opened:
            opened.preflight()
            placed = opened.deploy(bundle)
            opened.run(placed, [], output=output, timeout=RUN_SECONDS)
    except BaseException as raised:
        error = raised
    return Outcome(error=error, seconds=time.monotonic() - started)


def _timeouts(name: str) -> Timeouts:
    return HURRY if TOLD.get(name) == OVERDUE else TIMEOUTS


def _latest(timeouts: Timeouts) -> float:
    """Seconds after which every board is given up: 1 for a preflight, 1 for an offer, 4 and the run's own for a run."""
    return 2 * timeouts.connect + 10 * timeouts.answer + RUN_SECONDS


class Memory:
    """How much more of the main memory this process holds at most than when it was first looked at."""

    def __init__(self) -> None:
        self.most_kib = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again until the block ends; other tests of this process may have taken much before."""
        before, ended = self._resident_kib(), threading.Event()

        def look() -> None:
            while not ended.wait(0.02):
                self.most_kib = max(self.most_kib, self._resident_kib() - before)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _resident_kib(self) -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() // 1024


@pytest.fixture(scope="module")
def memory() -> Memory:
    return Memory()


@pytest.fixture(scope="module")
def outcomes(
    hostile: Server, small_bundle: Path, memory: Memory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, concurrent.futures.Future[Outcome]]]]:
    """All hostile boards, several at once: most of them only let us wait."""
    root = tmp_path_factory.mktemp("outcomes")
    with concurrent.futures.ThreadPoolExecutor(4) as pool, memory.watched():
        yield (
            root,
            {
                name: pool.submit(
                    use,
                    hostile.board(folder=f"/hostile/{name}", platform="x86_64*"),
                    small_bundle,
                    root / name / "job" / "output",
                    timeouts=_timeouts(name),
                )
                for name in ["good", *TOLD]
            },
        )


def test_every_hostile_board_is_tried() -> None:
    assert set(TOLD) == set(hostile_board.ACTS) and len(TOLD) >= 36


def test_a_board_that_means_no_harm_is_served_by_the_same_sshd(
    outcomes: tuple[Path, dict[str, concurrent.futures.Future[Outcome]]],
) -> None:
    root, ended = outcomes
    assert ended["good"].result(60).error is None
    assert (root / "good" / "job" / "output" / "outputs" / "0.bin").read_bytes() == b"output"


@pytest.mark.parametrize("name", list(TOLD))
def test_a_hostile_board_ends_in_time_with_an_error_and_harms_nothing(
    name: str, outcomes: tuple[Path, dict[str, concurrent.futures.Future[Outcome]]]
) -> None:
    root, futures = outcomes
    ended = futures[name].result(60)
    with pytest.raises(BoardError, match=TOLD[name]):
        raise ended.error or AssertionError("the board was believed")
    said = str(ended.error)
    assert said == clean(said) and "Traceback" not in said and len(said) < 5000
    assert ended.seconds < _latest(_timeouts(name))
    files = {path.relative_to(root / name).as_posix(): path for path in (root / name).rglob("*") if not path.is_dir()}
    assert files.keys() <= {f"job/output/{file}" for file in ("outputs/0.bin", "result.json", "profile.json")}
    assert all(path.is_file() and not path.is_symlink() for path in files.values())
    assert sum(path.stat().st_size for path in files.values()) < MOST_DISK_BYTES


def test_all_of_them_together_took_little_memory_and_left_nothing_elsewhere(
    outcomes: tuple[Path, dict[str, concurrent.futures.Future[Outcome]]], memory: Memory
) -> None:
    root, futures = outcomes
    concurrent.futures.wait(futures.values(), 120)
    assert sorted(path.name for path in root.iterdir()) == sorted(["good", *TOLD])
    assert not Path("/tmp/crossfarm-hostile").exists()
    assert 0 < memory.most_kib < MOST_MEMORY_KIB


@pytest.mark.parametrize("command", [["sleep", "20"], ["sh", "-c", "while sleep 0.05; do head -c 1 >/dev/null; done"]])
def test_a_board_that_does_not_take_what_is_sent_is_given_up(server: Server, command: list[str]) -> None:
    """The deadline holds while something is sent: it fills the window, or is taken a few bytes at a time."""

    def feed(send: Callable[[bytes], None]) -> None:
        for _ in range(64):
            send(bytes(1 << 20))

    started = time.monotonic()
    with (
        Connection(server.board(), timeouts=TIMEOUTS) as connection,
        pytest.raises(BoardError, match=OVERDUE),
    ):
        connection.execute(["timeout", "20", *command], timeout=1.5, feed=feed)
    assert time.monotonic() - started < 15


class Listener:
    """Something that listens like a sshd and is none."""

    def __init__(self, act: Callable[[socket.socket], None]) -> None:
        self._act = act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(near,), daemon=True).start()

    def _answer(self, near: socket.socket) -> None:
        with near:
            try:
                self._act(near)
            except OSError:
                return


def _drip_banner(near: socket.socket) -> None:
    near.sendall(b"S")
    while not _has_gone(near, 0.05):
        near.sendall(b"S")


def _flood(data: bytes) -> Callable[[socket.socket], None]:
    def act(near: socket.socket) -> None:
        while True:
            near.sendall(data)

    return act


def _then_flood(near: socket.socket) -> None:
    near.sendall(b"SSH-2.0-x\r\n\x7f\xff\xff\xff")
    _flood(bytes(65536))(near)


def _say(data: bytes, *, stay: bool = False) -> Callable[[socket.socket], None]:
    def act(near: socket.socket) -> None:
        near.sendall(data)
        if stay:
            _has_gone(near, None)

    return act


def _has_gone(near: socket.socket, seconds: float | None) -> bool:
    """Take what the other side says, for so long or until it closes; returns whether it has closed."""
    near.settimeout(seconds)
    try:
        while near.recv(65536):
            pass
    except TimeoutError:
        return False
    return True


LISTENERS: dict[str, Callable[[socket.socket], None]] = {
    "says nothing": _say(b"", stay=True),
    "closes": _say(b""),
    "drips its banner": _drip_banner,
    "has a banner without an end": _flood(b"x" * 65536),
    "has banner lines without an end": _flood(b"x\r\n" * 10_000),
    "speaks HTTP": _say(b"HTTP/1.1 400 Bad Request\r\n\r\n\x1b[2J\x1b]0;owned\x07", stay=True),
    "promises a packet of 2 GiB": _then_flood,
    "says nothing after its banner": _say(b"SSH-2.0-\x1b[2Jx\r\n", stay=True),
}


@pytest.mark.parametrize("name", list(LISTENERS))
def test_what_is_no_sshd_at_all_is_given_up_in_time(server: Server, name: str) -> None:
    listener = Listener(LISTENERS[name])
    timeouts = Timeouts(connect=1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        started = time.monotonic()
        with pytest.raises(BoardError) as told, Connection(server.board(port=listener.port), timeouts=timeouts):
            pass
        assert time.monotonic() - started < 8
        assert str(told.value) == clean(str(told.value))
    finally:
        listener.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("name", ["has a banner without an end", "drips its banner", "promises a packet of 2 GiB"])
def test_a_host_key_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("crossfarm.boards.declare.ANSWER_SECONDS", 1.0)
    listener = Listener(LISTENERS[name])
    try:
        started = time.monotonic()
        with pytest.raises(BoardError, match="did not show a host key"):
            ask_host_key("127.0.0.1", listener.port)
        assert time.monotonic() - started < 8
    finally:
        listener.close()
