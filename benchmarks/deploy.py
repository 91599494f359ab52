"""deploy: a bundle of 50 MB onto a board over ssh, beside plain scp of the same folder; then again, unchanged.

Both times hold the making of the connection. What deploy does more than scp: it looks what the board has, and the board
compares what arrived with its sha256. The board is an sshd on this host, so the network costs nothing and what is
compared is the work of both ends; on a real network both wait for the same bytes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks._measuring import SPREAD, Benchmark, between, spread
from benchmarks._sshd import PURPOSE, local_board
from crossfarm.boards.transports.ssh import SshBoard
from crossfarm.config.boards import Board

GOAL = 1.3
ROUNDS = 7
MEGABYTES = 50

BENCHMARK = Benchmark(
    name="deploy",
    what=f"a bundle of {MEGABYTES} MB onto a board over ssh, an sshd on this host, against `scp -r` of the same "
    "folder; both with the making of the connection, in an account without a `.bashrc`",
    how=f"{ROUNDS} rounds in turns, ratio of the medians",
    goal=f"under {GOAL} x, and one request for an unchanged bundle",
    minutes=0.5,
)


def make_bundle(folder: Path, *, megabytes: int) -> None:
    """Write a folder of so many MB that looks like a bundle."""
    (folder / "inputs").mkdir(parents=True)
    shutil.copyfile("/bin/true", folder / "program")
    (folder / "weights.bin").write_bytes(os.urandom((megabytes - 2) * 1_000_000))
    (folder / "inputs" / "0.bin").write_bytes(os.urandom(2_000_000))
    (folder / "manifest.json").write_text('{"cases": 1, "outputs": []}')


def scp(board: Board, bundle: Path, to: Path) -> float:
    """Return the seconds that scp takes for the whole folder."""
    known = to.with_name("known_hosts")
    known.write_text(f"[{board.address}]:{board.port} {board.host_key}\n")
    command = ["scp", "-F", "none", "-q", "-r", "-P", str(board.port), "-i", str(board.key)]
    command += ["-o", f"UserKnownHostsFile={known}", str(bundle), f"{board.user}@{board.address}:{to}"]
    shutil.rmtree(to, ignore_errors=True)
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def deploy(board: Board, bundle: Path) -> tuple[float, float, int]:
    """Return seconds of connection and deploy on an empty board, seconds of the same bundle again, and its requests."""
    shutil.rmtree(board.folder, ignore_errors=True)
    started = time.perf_counter()
    with SshBoard(board, PURPOSE, token=1) as opened:
        connected = time.perf_counter() - started
        opened.preflight()
        started = time.perf_counter()
        placed = opened.deploy(bundle)
        first = time.perf_counter() - started
        assert placed.bytes_sent > (bundle / "weights.bin").stat().st_size
        before, started = opened.commands, time.perf_counter()
        assert opened.deploy(bundle).files_sent == 0
        return connected + first, time.perf_counter() - started, opened.commands - before


def main() -> None:
    """Let both ways take turns."""
    small = BENCHMARK.parser(__doc__).parse_args().small
    with tempfile.TemporaryDirectory() as scratch, local_board(Path(scratch)) as board:
        bundle = Path(scratch, "bundle")
        make_bundle(bundle, megabytes=4 if small else MEGABYTES)
        deploy(board, bundle)  # imports paramiko
        plain, ours, again, requests = [], [], [], set()
        for _ in range(2 if small else ROUNDS):
            plain.append(scp(board, bundle, Path(scratch, "copy")))
            first, second, count = deploy(board, bundle)
            ours.append(first)
            again.append(second)
            requests.add(count)
    print(f"scp -r: {spread(plain)}")
    print(f"deploy: {spread(ours)}")
    print(f"unchanged: {spread(again)}; requests: {', '.join(map(str, sorted(requests)))}")
    value = statistics.median(ours) / statistics.median(plain)
    print(f"{SPREAD}{between([one / other for one, other in zip(ours, plain, strict=True)], 'x')}")
    BENCHMARK.finish(value, "x scp", good=value < GOAL and requests == {1}, small=small)


if __name__ == "__main__":
    main()
