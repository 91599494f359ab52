"""A real sshd on this host, as a board for benchmarks."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from crossfarm.boards.protocol import Purpose
from crossfarm.config.boards import Board, HealthLimits
from crossfarm.config.llvm import LlvmCode

# The home is an empty one: what a developer's .bashrc takes, bash would spend on each command, and no board has it.
CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
SetEnv HOME={folder}
"""
PURPOSE = Purpose(
    target="x86_64",
    machine=("x86_64",),
    emulator=None,
    code=LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64"),
)


@contextlib.contextmanager
def local_board(folder: Path) -> Iterator[Board]:
    """Run an sshd whose keys and whose board's folder lie in an empty folder, and yield it as a board."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit("there is no sshd here; ./inv setup installs it")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([program, "-D", "-f", str(folder / "config"), "-E", str(folder / "log")])
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        yield Board(
            name="here",
            address="127.0.0.1",
            port=port,
            user=getpass.getuser(),
            key=str(folder / "user"),
            host_key=" ".join((folder / "host.pub").read_text().split()[:2]),
            targets=("x86_64",),
            folder=str(folder / "board"),
            limits=HealthLimits(load=1000.0),
        )
    finally:
        server.terminate()
        server.wait(10)
