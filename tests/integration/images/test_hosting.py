"""What setup does for containers, with the real daemon and the real kernel."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.images.ensure import supply_images
from crossfarm.images.identity import BASE
from crossfarm.setup.container_host import start_engine
from crossfarm.util import docker
from tests.integration.images.project import Project

pytestmark = pytest.mark.integration


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A dockerd on PATH that has a place, and a network, of its own; it ends with the test."""
    real = shutil.which("dockerd")
    if os.geteuid() != 0 or real is None or shutil.which("unshare") is None:
        pytest.skip("a daemon of its own needs root and dockerd")
    if Path("/run/systemd/system").exists():
        pytest.skip("systemd starts the engine here")
    # The name of a socket may have 107 letters. In this machine's own network the daemon would take away the bridge of
    # the machine's engine.
    short = Path(f"/run/crossfarm-test-{os.getpid()}")
    short.mkdir()
    script = tmp_path / "dockerd"
    script.write_text(
        f"#!/bin/sh\nexec unshare --net {real} --data-root {short}/data --exec-root {short}/exec "
        f"--pidfile {short}/pid -H unix://{short}/sock --bridge=none --iptables=false\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{short}/sock")
    try:
        yield short
    finally:
        with contextlib.suppress(OSError, ValueError):
            process = int((short / "pid").read_text())
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)
        shutil.rmtree(short, ignore_errors=True)


def test_an_engine_is_started_and_answers(daemon: Path, tmp_path: Path) -> None:
    assert not docker.answers()
    said: list[str] = []
    began = time.monotonic()
    start_engine(tmp_path / "log", say=said.append)
    assert time.monotonic() - began < 31
    assert docker.answers()
    assert docker.present_references() == frozenset()
    assert said == [f"starting dockerd, its log is {tmp_path / 'log'}"]
    assert "API listen" in (tmp_path / "log").read_text()


def test_an_arm_program_runs_in_a_container_that_has_no_emulator(project: Project) -> None:
    entry = Path("/proc/sys/fs/binfmt_misc/qemu-arm")
    program = Path("/usr/arm-linux-gnueabihf/lib/ld-linux-armhf.so.3")
    if not entry.exists() or not program.exists():
        pytest.skip("the emulator is not registered with the kernel, or there is no ARM program; ./inv setup as root")
    assert "F" in entry.read_text().partition("flags:")[2].splitlines()[0]
    image = supply_images(project.folder, [], say=project.say)[BASE]
    with contextlib.closing(docker.client()) as client:
        output: bytes = client.containers.run(
            image.reference,
            ["sh", "-c", "test ! -e /usr/bin/qemu-arm-static && /ld-linux-armhf.so.3 --version"],
            volumes={str(program.resolve()): {"bind": "/ld-linux-armhf.so.3", "mode": "ro"}},
            network_mode="none",
            remove=True,
        )
    assert b"ld.so (Debian GLIBC" in output
