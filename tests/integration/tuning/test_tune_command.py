"""`./inv tune` on a real model: a small search to its end, a killed one that goes on, and what compile makes of it."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_project
from crossfarm.tuning import records
from crossfarm.util.paths import HOME
from tests.waiting import wait_until

pytestmark = pytest.mark.integration
CELL = "x86_64-mnist_cnn-float32"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the project without records, so that the test writes none of its own into this one."""
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 machine, on which the target runs natively")
    left_out = shutil.ignore_patterns(".git", ".venv", ".crossfarm", "out", "tests", "__pycache__")
    shutil.copytree(HOME, tmp_path / "clone", ignore=left_out, symlinks=True)
    shutil.rmtree(tmp_path / "clone" / "tuning", ignore_errors=True)
    return tmp_path / "clone"


def start(clone: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(clone), *words]
    command += ["--store", str(HOME / ".crossfarm" / "store"), "--engine", "local"]
    return subprocess.Popen(
        command,
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(clone)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out
    return out


def file_of(clone: Path) -> tuple[Path, str]:
    project = load_project(
        models=HOME / "models.yaml", toolchains=HOME / "toolchains", pipeline=HOME / "pipelines/default.yaml"
    )
    path = records.records_path(clone / "tuning", target="x86_64", model="mnist_cnn", variant="float32")
    return path, records.identity(project.targets["x86_64"].code)


def test_a_killed_search_goes_on_and_what_it_takes_makes_the_model_new(clone: Path) -> None:
    path, identity = file_of(clone)
    said(start(clone, "compile", "--targets", "x86_64", "--only", CELL, "--out", str(clone / "out")))
    words = ("tune", "--targets", "x86_64", "--only", CELL, "--out", str(clone / "out"))
    killed = start(clone, *words)
    wait_until(lambda: records.read(path, identity=identity).measured, process=killed, seconds=600)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    kept = records.read(path, identity=identity)
    assert kept.taken is None

    out = said(start(clone, *words))
    assert f"{CELL}: round 1" in out
    assert "tried  before ms  after ms  share" in out
    found = records.read(path, identity=identity)
    assert found.taken is not None
    assert found.damaged == ()
    assert path.stat().st_size < 20_000
    assert "was searched to the end" in said(start(clone, *words))
    if found.taken.choices:
        assert found.taken.interval[1] < 1.0
        assert set(found.taken.choices) <= {entry.layer for entry in found.measured}
        plan = said(start(clone, "plan", "--targets", "x86_64", "--only", CELL, "--stages", "bundle"))
        compiling = next(line for line in plan.splitlines() if f"compile:{CELL}" in line)
        assert compiling.startswith("run"), compiling
        assert "tuning" in compiling


def test_a_budget_of_few_runs_ends_the_search_early_and_keeps_it(clone: Path) -> None:
    path, identity = file_of(clone)
    words = ("tune", "--targets", "x86_64", "--only", CELL, "--budget", "3runs", "--out", str(clone / "out"))
    assert "the runs are used up" in said(start(clone, *words))
    taken = records.read(path, identity=identity).taken
    assert taken is None or not taken.complete


def test_an_emulated_target_is_refused_unless_it_is_asked_for(clone: Path) -> None:
    process = start(clone, "tune", "--targets", "aarch64", "--only", "aarch64-mnist_cnn-float32")
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "--emulated" in out
    assert not (clone / "tuning").exists()
