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

from benchmarks._measuring import finish, spread
from benchmarks._sshd import PURPOSE, local_board
from crossfarm.boards.ssh import SshBoard
from crossfarm.spec.boards import Board

GOAL = 1.3
ROUNDS = 7
WEIGHTS = 48_000_000


def make_bundle(folder: Path) -> None:
    """Write a folder of 50 MB that looks like a bundle."""
    (folder / "inputs").mkdir(parents=True)
    shutil.copyfile("/bin/true", folder / "program")
    (folder / "weights.bin").write_bytes(os.urandom(WEIGHTS))
    (folder / "inputs" / "0.bin").write_bytes(os.urandom(2_000_000))
    (folder / "manifest.json").write_text("{}")


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
        assert placed.bytes_sent > WEIGHTS
        before, started = opened.commands, time.perf_counter()
        assert opened.deploy(bundle).files_sent == 0
        return connected + first, time.perf_counter() - started, opened.commands - before


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, local_board(Path(scratch)) as board:
        bundle = Path(scratch, "bundle")
        make_bundle(bundle)
        deploy(board, bundle)  # imports paramiko
        plain, ours, again, requests = [], [], [], set()
        for _ in range(ROUNDS):
            plain.append(scp(board, bundle, Path(scratch, "copy")))
            first, second, count = deploy(board, bundle)
            ours.append(first)
            again.append(second)
            requests.add(count)
    print(f"scp -r: {spread(plain)}")
    print(f"deploy: {spread(ours)}")
    print(f"unchanged: {spread(again)}; requests: {', '.join(map(str, sorted(requests)))}")
    value = statistics.median(ours) / statistics.median(plain)
    finish(
        "deploy", value, "x", f"under {GOAL} x scp, one request when unchanged", good=value < GOAL and requests == {1}
    )
