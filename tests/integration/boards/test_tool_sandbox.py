"""Hostile tools in real sandboxes: what they reach and what they leave. A tool is a shell or Python of this host."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.errors import ToolError, ToolMissingError, ToolTimeoutError
from crossfarm.util import sandbox
from crossfarm.util.tool_sandbox import run_sandboxed
from tests.waiting import stretched, wait_until

pytestmark = pytest.mark.integration

LONG = f"98765.{os.getpid()}"
"""Seconds that are no other process's."""


@pytest.fixture(params=["bubblewrap", "unshare"])
def work(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a tool, for each kind of sandbox; both must work wherever these tests run."""
    if not sandbox.works(request.param):
        pytest.skip(f"{request.param} cannot make namespaces on this machine; {sandbox.ADVICE}")
    monkeypatch.setattr(sandbox, "available", lambda: request.param)
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def _said(work: Path, script: str, *, reads: tuple[Path, ...] = (), variables: dict[str, str] | None = None) -> str:
    done = run_sandboxed(["/bin/sh", "-c", script], folder=work, reads=reads, processor_seconds=60, variables=variables)
    return done.stdout


@pytest.fixture
def home_file() -> Iterator[Path]:
    """Yield a file in the caller's home that anybody may read."""
    path = Path.home() / f".crossfarm-test-{os.getpid()}"
    path.write_text("a secret")
    path.chmod(0o644)
    yield path
    path.unlink()


def test_it_reads_what_it_is_offered_and_neither_home_nor_other_folders(work: Path, home_file: Path) -> None:
    offered, neighbour = work.parent / "offered", work.parent / "neighbour"
    for path in (offered, neighbour):
        path.write_text(f"{path.name} text")
        path.chmod(0o644)
    places = f"{home_file} {neighbour} {Path(__file__)} /etc/passwd /etc/shadow /var /run /root /home /sys"
    script = f"cat {offered}; cat {home_file}; for p in {places}; do [ -e $p ] && echo saw $p; done"
    said = _said(work, script, reads=(offered,))
    assert said.startswith("offered text")
    assert "secret" not in said and "saw" not in said


def test_it_writes_in_its_folder_and_nowhere_else(work: Path) -> None:
    offered = work.parent / "offered"
    offered.mkdir(mode=0o755)
    places = f"/x {offered}/x {work.parent}/x /usr/x /etc/x {Path.home()}/x {Path(sys.prefix)}/x"
    script = f"for p in {places}; do (echo x >$p) 2>/dev/null && [ -e $p ] && echo wrote $p; done"
    said = _said(work, f"{script}; echo made >made; mkdir in; echo x >in/it", reads=(offered,))
    # What it wrote beside its folder lies in memory of the sandbox alone.
    assert [line for line in said.splitlines() if str(work.parent) not in line] == []
    assert (work / "made").read_text() == "made\n" and (work / "in" / "it").exists()
    assert sorted(path.name for path in work.parent.iterdir() if path.name != "root") == ["offered", "work"]
    assert not list(offered.iterdir())


def test_it_has_no_network_and_no_variable_of_this_process(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFARM_SECRET", "a token")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        script = (
            f"import os, socket\ntry: socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)\n"
            "except OSError as error: print('no network', error)\nprint(sorted(os.environ))\n"
            "import glob\nfor path in glob.glob('/proc/[0-9]*/environ'):\n"
            "  try: print('token' in open(path).read())\n  except OSError: print('closed')\n"
        )
        python = Path(sys.base_prefix) / "bin" / "python3"
        done = run_sandboxed(
            [str(python), "-I", "-c", script],
            folder=work,
            reads=(Path(sys.base_prefix),),
            processor_seconds=60,
            variables={"GIVEN": "1"},
        )
    assert done.returncode == 0, done.stdout
    assert "no network" in done.stdout and "True" not in done.stdout
    assert "'GIVEN'" in done.stdout and "CROSSFARM_SECRET" not in done.stdout


def test_what_it_leaves_are_plain_files_alone(work: Path) -> None:
    _said(work, "ln -s /etc/shadow link; mkfifo pipe; mkdir in; ln -s / in/root; ln -s in folder; echo x >kept")
    assert sorted(str(path.relative_to(work)) for path in work.rglob("*")) == ["in", "kept"]


def test_memory_processor_time_and_the_clock_end_it(work: Path) -> None:
    most = sandbox.most_memory()
    python = Path(sys.base_prefix) / "bin" / "python3"
    done = run_sandboxed(
        [str(python), "-I", "-c", f"bytearray({most} + (1 << 20))"],
        folder=work,
        reads=(Path(sys.base_prefix),),
        processor_seconds=60,
    )
    assert done.returncode == 1 and "MemoryError" in done.stdout
    with pytest.raises(ToolError, match=r"^/bin/sh -c .* took more than 1 s of processor time"):
        run_sandboxed(["/bin/sh", "-c", "while :; do :; done"], folder=work, processor_seconds=1)
    with pytest.raises(ToolTimeoutError, match=r"^/bin/sh -c .* did not end within [\d.]+ s and was killed; wait less"):
        run_sandboxed(
            ["/bin/sh", "-c", f"sleep {LONG} & sleep {LONG}"],
            folder=work,
            processor_seconds=5,
            wall_seconds=stretched(2),
            slow="wait less",
        )
    wait_until(lambda: not _sleepers())


def _sleepers() -> list[str]:
    """Return the processes that sleep so long as the tools here do."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [str(path)] if path.read_bytes() == f"sleep\0{LONG}\0".encode() else []
    return found


def test_a_signal_is_told_as_outside(work: Path) -> None:
    done = run_sandboxed(["/bin/sh", "-c", "kill -ABRT $$"], folder=work, processor_seconds=5)
    assert done.returncode == -signal.SIGABRT


def test_a_tool_that_is_not_there_is_told_with_what_to_do(work: Path) -> None:
    with pytest.raises(ToolMissingError, match=r"^/no/tool cannot be run: .*; buy one"):
        run_sandboxed(["/no/tool"], folder=work, processor_seconds=5, missing="buy one")


def test_a_folder_that_holds_the_home_is_refused(work: Path) -> None:
    with pytest.raises(ToolError, match=re.escape("/ holds your home")):
        run_sandboxed(["/bin/true"], folder=work, reads=(Path("/"),), processor_seconds=5)
