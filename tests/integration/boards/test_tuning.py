"""`./inv tune` on a board: a real sshd on this host, a small model and few runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_project
from crossfarm.boards.leases.leases import BoardStatus, Leases
from crossfarm.errors import EXIT_INTERRUPTED
from crossfarm.tuning import records
from crossfarm.util.paths import HOME
from tests.integration.boards.conftest import Server
from tests.waiting import wait_until

pytestmark = pytest.mark.integration
CELL = "x86_64-mnist_cnn-float32"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project without records, so that the test writes none of its own into this one."""
    left_out = shutil.ignore_patterns(".git", ".venv", ".crossfarm", "out", "tests", "__pycache__")
    shutil.copytree(HOME, tmp_path / "clone", ignore=left_out, symlinks=True)
    shutil.rmtree(tmp_path / "clone" / "tuning", ignore_errors=True)
    return tmp_path / "clone"


@pytest.fixture
def start(clone: Path, server: Server, tmp_path: Path) -> Start:
    """Start `tune` with a boards.yaml whose only board is the server."""

    def start(*words: str, **fields: object) -> subprocess.Popen[str]:
        board = server.board(folder=str(tmp_path / "board"), **fields)
        document = {"boards": [board.model_dump(mode="json", exclude_none=True, exclude_unset=True)]}
        # JSON is YAML too.
        (clone / "boards.yaml").write_text(json.dumps(document), encoding="utf-8")
        command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(clone), "tune"]
        command += ["--targets", "x86_64", "--only", CELL, "--boards", "boards.yaml", "--out", str(clone / "out")]
        command += ["--store", str(HOME / ".crossfarm" / "store"), "--engine", "local", *words]
        return subprocess.Popen(
            command,
            cwd=clone,
            env={**os.environ, "PYTHONPATH": str(clone), "CROSSFARM_DATABASE": database(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'leases.db'}"


def read(clone: Path) -> records.RecordsFile:
    project = load_project(
        models=HOME / "models.yaml", toolchains=HOME / "toolchains", pipeline=HOME / "pipelines/default.yaml"
    )
    path = records.records_path(clone / "tuning", target="x86_64", model="mnist_cnn", variant="float32")
    return records.read(path, identity=records.identity(project.targets["x86_64"].code))


def test_a_killed_search_on_a_board_goes_on_and_an_interrupted_one_gives_the_board_back(
    start: Start, clone: Path, tmp_path: Path
) -> None:
    killed = start()
    wait_until(lambda: bool(read(clone).measured), process=killed, seconds=300)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = read(clone)
    # The killed one's lease ends by itself; then the next search is granted the board.
    searched = start()
    wait_until(
        lambda: holder(tmp_path) is not None and len(read(clone).measured) > len(before.measured),
        process=searched,
        seconds=300,
    )
    searched.send_signal(signal.SIGINT)
    out, _ = searched.communicate(timeout=60)
    assert searched.returncode == EXIT_INTERRUPTED, out
    assert f"{CELL}: round 1" in out
    after = read(clone)
    assert (before.taken, after.taken) == (None, None)
    assert after.measured[: len(before.measured)] == before.measured
    assert list((tmp_path / "board" / "bundles").iterdir()), "programs ran on the board"
    assert holder(tmp_path) is None
    assert status(tmp_path).health.state == "good"


def status(tmp_path: Path) -> BoardStatus:
    with Leases(database(tmp_path)) as leases:
        return leases.status().boards["here"]


def holder(tmp_path: Path) -> str | None:
    found = status(tmp_path).holder
    return found.purpose if found is not None else None


def test_a_board_that_fails_is_noted_and_given_back_and_nothing_is_taken(
    start: Start, clone: Path, tmp_path: Path
) -> None:
    process = start(limits={"load": 1000.0, "free_disk": 10**9})
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "MiB are free" in out
    assert read(clone).taken is None
    assert holder(tmp_path) is None
    assert status(tmp_path).health.state == "bad"


def test_a_virtual_board_is_refused_unless_emulation_is_asked_for_and_then_marked(start: Start, clone: Path) -> None:
    refused = start("--budget", "3runs", transport="virtual")
    out, _ = refused.communicate(timeout=300)
    assert refused.returncode == 1
    assert "--emulated" in out
    assert not (clone / "tuning").exists()
    searched = start("--budget", "3runs", "--emulated", transport="virtual")
    out, _ = searched.communicate(timeout=300)
    assert searched.returncode == 0, out
    assert "the runs are used up" in out
    assert "not measured on silicon" in out
