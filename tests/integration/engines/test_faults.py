"""Containers and engines that go away in the middle of a job: told apart, each one row, and the next job works."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import docker
import pytest

from crossfarm.engines.container.reaper import RUN, reap, this_process
from crossfarm.util.docker import Daemon, find_daemon
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

Trial = Any
"""The class of conftest.py, which pytest does not let be imported."""
SLEEP = "import time\nprint('first line\\nsecond line', flush=True)\n(job.output / 'ready').touch()\ntime.sleep(120)"
NEEDED = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions.py")
"""What a worker imports that is not Python's own."""


def _is_ready(trial: Trial) -> bool:
    return any((box / "out" / "output" / "ready").exists() for box in trial.boxes())


@pytest.fixture
def api(daemon: Daemon) -> Iterator[docker.APIClient]:
    client = docker.APIClient(base_url=daemon.address, version="auto")
    yield client
    client.close()


def _ours(api: docker.APIClient) -> list[str]:
    """Return the ids of this process's containers."""
    mine = {f"org.crossfarm.process={os.getpid()}", f"org.crossfarm.process-start={this_process().started}"}
    return [found["Id"] for found in api.containers(all=True, filters={"label": sorted(mine)})]


def test_a_container_that_is_killed_from_outside_is_told_with_the_end_of_its_log(
    begin: Any, api: docker.APIClient
) -> None:
    trial = begin()
    thread, ended, folder = trial.start(SLEEP)
    wait_until(lambda: _is_ready(trial))
    (container,) = _ours(api)
    api.kill(container)
    thread.join(timeout=30)
    assert not ended[0].good
    assert ended[0].fault == "infrastructure"
    assert "killed from outside" in ended[0].cause
    assert "first line / second line" in ended[0].cause
    assert (folder / "log").read_text() == "first line\nsecond line\n"
    outcome, _ = trial.run("(job.output / 'x').touch()")
    assert outcome.good, outcome.cause


def test_an_image_that_is_removed_after_the_plan_is_told_with_what_to_do(
    begin: Any, base_image: str, api: docker.APIClient
) -> None:
    reference = f"crossfarm-test-{os.getpid()}:gone"
    api.tag(base_image, *reference.split(":"))
    trial = begin(images={"one": reference, "other": base_image})
    api.remove_image(reference)
    outcome, _ = trial.run("pass", image="one")
    assert not outcome.good
    assert outcome.fault == "infrastructure"
    assert f"{reference} is gone" in outcome.cause
    assert "./inv images" in outcome.cause
    assert trial.run("pass", image="other")[0].good


def test_cancelling_ends_jobs_and_leaves_no_container(begin: Any, api: docker.APIClient) -> None:
    trial = begin()
    thread, ended, _ = trial.start(SLEEP)
    wait_until(lambda: _is_ready(trial))
    started = time.monotonic()
    trial.engine.cancel()
    thread.join(timeout=30)
    assert time.monotonic() - started < 10
    assert ended[0].cause == "interrupted"
    assert trial.boxes() == []
    wait_until(lambda: _ours(api) == [], seconds=5)
    assert trial.run("pass")[0].cause == "interrupted"


def test_the_reaper_takes_containers_of_dead_runs_and_no_others(base_image: str, api: docker.APIClient) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(timeout=10)
    here = this_process()
    dead = {**here.labels("dead"), "org.crossfarm.process": str(process.pid)}
    made = [
        api.create_container(base_image, ["sleep", "300"], labels=labels, network_disabled=True)["Id"]
        for labels in (dead, here.labels("alive"), {RUN: "of nobody"})
    ]
    try:
        api.start(made[0])
        assert reap(api, here) >= 1
        left = {found["Id"] for found in api.containers(all=True)}
        assert made[0] not in left
        assert {made[1], made[2]} <= left
    finally:
        for container in made:
            with contextlib.suppress(docker.errors.NotFound):
                api.remove_container(container, force=True)


KILLED = """
import sys, threading, time
from pathlib import Path
from crossfarm.engines.container.engine import ContainerEngine
from crossfarm.util.docker import find_daemon
from crossfarm.engines.container.limits import GIB, ResourceLimits
folder, home, digest, image = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
engine = ContainerEngine(daemon=find_daemon(), images={digest: image}, slots=1,
    limits=ResourceLimits(memory=GIB // 2, cpus=1.0), run="killed", work=folder, home=home)
engine.run(folder / "job-1", folder / "log")
"""


def test_a_farm_that_is_killed_leaves_no_container_behind(
    begin: Any, base_image: str, home: Path, api: docker.APIClient
) -> None:
    trial = begin()
    folder = trial.lay_out(SLEEP)
    farm = subprocess.Popen([sys.executable, "-c", KILLED, str(folder.parent), str(home), "d" * 64, base_image])
    try:
        wait_until(lambda: _is_ready(trial))
        label = f"org.crossfarm.process={farm.pid}"
        assert len(api.containers(filters={"label": label})) == 1
    finally:
        farm.send_signal(signal.SIGKILL)
        farm.wait(timeout=10)
    wait_until(lambda: api.containers(all=True, filters={"label": label}) == [], seconds=10)


def _small_image(api: docker.APIClient, base_image: str, path: Path) -> None:
    """Write a root file system of Python and what a worker needs of the base image."""
    container = api.create_container(base_image, ["true"])["Id"]
    try:
        with (
            tarfile.open(fileobj=_Stream(api.export(container)), mode="r|") as whole,
            tarfile.open(path, "w") as small,
        ):
            for member in whole:
                if _is_needed(member.name):
                    small.addfile(member, whole.extractfile(member) if member.isreg() else None)
    finally:
        api.remove_container(container)


def _is_needed(name: str) -> bool:
    packages, _, rest = name.partition("/site-packages/")
    if name.startswith("opt/") and rest:
        return rest.split("/")[0] in NEEDED
    if name.startswith(("usr/lib/gcc", "usr/share", "var/", "home/", "opt/crossfarm/zig")):
        return False
    return not name.startswith("opt/") or packages.startswith("opt/crossfarm/venv") or name.count("/") < 2


class _Stream:
    """Chunks as something that tarfile reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._rest += chunk
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


@pytest.fixture
def own_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, subprocess.Popen[bytes]]]:
    """Start a container engine of our own, which a test may stop."""
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("needs root and dockerd, to start an engine that may be stopped")
    folder = tmp_path_factory.mktemp("engine")
    socket = Path(f"/tmp/crossfarm-test-{os.getpid()}.sock")
    # In the network of this machine, a daemon without a bridge would take away the bridge of the machine's engine.
    log: IO[bytes]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "unshare", "--net", "dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
                "--pidfile", str(folder / "pid"), "-H", f"unix://{socket}", "--bridge=none", "--iptables=false",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    environment = {"DOCKER_HOST": f"unix://{socket}"}
    try:
        wait_until(lambda: process.poll() is not None or not find_daemon(environment).problem)
        if process.poll() is not None:
            pytest.skip(f"an engine of our own does not start here: {(folder / 'log').read_text()[-300:]}")
        yield find_daemon(environment), process
    finally:
        process.terminate()
        process.wait(timeout=30)
        socket.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def test_an_engine_that_is_stopped_in_the_middle_of_a_job_is_told_as_that(
    begin: Any,
    own_engine: tuple[Daemon, subprocess.Popen[bytes]],
    base_image: str,
    api: docker.APIClient,
    tmp_path: Path,
) -> None:
    daemon, process = own_engine
    _small_image(api, base_image, tmp_path / "small.tar")
    own = docker.APIClient(base_url=daemon.address, version="auto")
    changes = ["ENV PATH=/opt/crossfarm/venv/bin:/usr/bin:/bin"]
    own.import_image(src=str(tmp_path / "small.tar"), repository="small", tag="latest", changes=changes)
    own.close()
    trial = begin(daemon=daemon, images={"d" * 64: "small:latest"})
    outcome, _ = trial.run("pass")
    assert outcome.good, outcome.cause
    thread, ended, _ = trial.start(SLEEP)
    wait_until(lambda: _is_ready(trial))
    process.terminate()
    thread.join(timeout=60)
    assert not ended[0].good
    assert ended[0].fault == "infrastructure"
    assert f"the container engine at {daemon.socket} does not answer" in ended[0].cause
    assert "first line / second line" in ended[0].cause
    process.wait(timeout=30)
    outcome, _ = trial.run("pass")
    assert f"{daemon.socket} does not answer" in outcome.cause
