"""A real sshd on this host, and a small program that stands for a bundle's."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfarm.boards.protocol import Purpose
from crossfarm.config.boards import Board
from crossfarm.config.llvm import LlvmCode
from tests.waiting import wait_until

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
MaxStartups 50
"""

PURPOSE = Purpose(
    target="x86_64",
    machine=("x86_64",),
    emulator=None,
    code=LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A running sshd."""

    folder: Path
    port: int

    def board(self, **fields: Any) -> Board:
        """Return it as a board of boards.yaml; each `folder` is one of its own."""
        limits = {"load": 1000.0, "free_disk": 1}
        return Board.model_validate(
            {
                "name": "here",
                "address": "127.0.0.1",
                "port": self.port,
                "user": getpass.getuser(),
                "key": str(self.folder / "user"),
                "host_key": public_key(self.folder / "host"),
                "targets": ["x86_64"],
                "limits": limits,
                **fields,
            }
        )


def public_key(path: Path) -> str:
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_sshd(folder: Path, more: str = "") -> Iterator[Server]:
    """A sshd of its own with what `more` adds to its configuration; skips where there is none."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("there is no sshd on this machine; ./inv setup installs openssh-server")
    if platform.machine() != "x86_64":
        pytest.skip("the bundles of these tests are for x86_64")
    found = Server(folder=folder, port=free_port())
    make_key(folder / "host")
    make_key(folder / "user")
    (folder / "config").write_text(CONFIG.format(port=found.port, folder=folder) + more)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([program, "-D", "-f", str(folder / "config"), "-E", str(folder / "log")])
    try:
        wait_until(lambda: _is_open(found.port), process=process, told=(folder / "log").read_text)
        yield found
    finally:
        process.terminate()
        process.wait(10)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found


PROGRAM = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **arguments) {
  char path[4096];
  for (int i = 2; i < count; ++i) {
    const char *value = i + 1 < count ? arguments[i + 1] : "";
    if (!strcmp(arguments[i], "--hang")) { puts("working"); fflush(stdout); if (!fork()) sleep(600); sleep(600); }
    if (!strcmp(arguments[i], "--crash")) abort();
    if (!strcmp(arguments[i], "--exit")) { fprintf(stderr, "program: on purpose\n"); return atoi(value); }
    if (!strcmp(arguments[i], "--sleep")) sleep((unsigned)atoi(value));
    if (!strcmp(arguments[i], "--outputs")) {
      snprintf(path, sizeof path, "%s/0.bin", value);
      FILE *file = fopen(path, "w");
      if (!file || fputs("output", file) < 0 || fclose(file)) return 5;
    }
    if (!strcmp(arguments[i], "--result")) {
      FILE *file = fopen(value, "w");
      if (!file || fprintf(file, "{\"bundle\": \"%s\"}", arguments[1]) < 0 || fclose(file)) return 5;
    }
  }
  return 0;
}
"""


MANIFEST = '{"cases": 2, "outputs": [{"dtype": "uint8", "shape": [3]}]}'
"""Of the small program: its one output has 6 bytes."""


@pytest.fixture(scope="session")
def small_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that does what its options say: hangs, crashes, ends with a code, writes its outputs."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-O1", "-o", str(folder / "program"), str(folder / "program.c")], check=True)
    return folder / "program"


@pytest.fixture
def bundle(small_program: Path, tmp_path: Path) -> Path:
    """A bundle of the small program, with weights of 2 MB."""
    folder = tmp_path / "bundle"
    (folder / "inputs").mkdir(parents=True)
    shutil.copy(small_program, folder / "program")
    (folder / "inputs" / "0.bin").write_bytes(b"input")
    (folder / "weights.bin").write_bytes(os.urandom(2_000_000))
    (folder / "manifest.json").write_text(MANIFEST)
    return folder
