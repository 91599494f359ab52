"""Debian made on this machine, and what is left when that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

from crossfarm.images.debian_base import NAME, debian_sources
from crossfarm.images.lock import LOCK, OWN_LOCK, Pin, pinned_base
from crossfarm.util import docker
from crossfarm.util.paths import HOME
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

PROGRAM = """
import sys
from pathlib import Path
from crossfarm.images.debian_base import bootstrap
from crossfarm.images.build import one_at_a_time
say = lambda text: print(text, flush=True)
with one_at_a_time(say) as lock:
    bootstrap(Path(sys.argv[1]), lock=lock, say=say, sources=sys.argv[2])
"""


def _start(folder: Path, sources: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), sources], cwd=HOME, text=True)


def _debians() -> set[str]:
    filters = urllib.parse.quote(json.dumps({"reference": [NAME]}))
    return {tag for image in docker.ask(f"/images/json?filters={filters}") for tag in image["RepoTags"] or ()}


def test_a_killed_bootstrap_leaves_nothing_that_the_next_one_trusts(tmp_path: Path, debian: Pin) -> None:
    if os.geteuid() != 0:
        pytest.skip("the test does not know whether this user has a range in /etc/subuid")
    shutil.copy(HOME / LOCK, tmp_path)
    working = tmp_path / ".crossfarm" / "images" / "bootstrap"
    sources = f"{debian_sources()}\n# {tmp_path.name} {time.time_ns()}\n"
    before = _debians()

    process = _start(tmp_path, sources)
    wait_until(lambda: list(working.glob("*/mmdebstrap*/usr")), process=process, seconds=300)
    process.kill()
    process.wait()
    assert list(working.glob("*/mmdebstrap*/usr")), "it was killed in the middle"
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert not (tmp_path / OWN_LOCK).exists()
    assert pinned_base(tmp_path).name == "debian"
    assert _debians() == before

    process = _start(tmp_path, sources)
    assert process.wait(timeout=420) == 0
    pin = pinned_base(tmp_path)
    try:
        assert pin.is_own
        assert _debians() == before | {pin.reference}
        assert not working.exists()
        with contextlib.closing(docker.client()) as client:
            found = client.containers.run(
                pin.reference, ["sh", "-c", "apt-get --version; ls /var/cache/apt; cat /etc/hostname"], remove=True
            )
        assert b"apt 2" in found
        assert b"pkgcache" not in found
        assert os.uname().nodename.encode() not in found
    finally:
        with contextlib.closing(docker.client()) as client:
            client.images.remove(pin.reference)


def test_a_debian_that_is_there_is_taken_by_another_clone(tmp_path: Path, debian: Pin) -> None:
    if not debian.is_own:
        pytest.skip("a registry has the Debian, so none was made here")
    shutil.copy(HOME / LOCK, tmp_path)
    began = time.monotonic()
    process = _start(tmp_path, debian_sources())
    assert process.wait(timeout=120) == 0
    assert time.monotonic() - began < 10
    assert pinned_base(tmp_path) == debian
