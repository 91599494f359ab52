"""Logs of jobs that nothing declares: those of declared models and of the last two runs stay."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_project
from crossfarm.config.project import Project
from crossfarm.setup.leftovers import remove_logs, vanished_logs
from crossfarm.util.paths import HOME


@pytest.fixture
def project() -> Project:
    return load_project(
        models=HOME / "models.yaml", toolchains=HOME / "toolchains", pipeline=HOME / "pipelines" / "default.yaml"
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    kept = ("compile-armv7-mnist_cnn-float32", "prepare-mnist_cnn", "compile-armv7-other-float32", "notes")
    for name in (*kept, "compile-armv7-gone-float32", "prepare-gone", "measure-gone_target-mnist_cnn-float32"):
        (tmp_path / "logs" / f"{name}.log").write_text("said\n")
    record = {"kind": "job", "job": "compile:armv7-other-float32"}
    (tmp_path / "results.jsonl").write_text(f"{json.dumps(record)}\nhalf a li")
    return tmp_path


def test_logs_of_vanished_models_and_targets_go_and_all_others_stay(out: Path, project: Project) -> None:
    logs = vanished_logs(out, project)
    names = [log.path.stem for log in logs]
    assert names == ["compile-armv7-gone-float32", "measure-gone_target-mnist_cnn-float32", "prepare-gone"]
    assert remove_logs(logs, out, dry_run=True) == 15
    assert all(log.path.exists() for log in logs)
    assert remove_logs(logs, out, dry_run=False) == 15
    assert len(list((out / "logs").iterdir())) == 4
    assert vanished_logs(out, project) == []


def test_the_logs_of_a_run_that_goes_on_stay(out: Path, project: Project) -> None:
    logs = vanished_logs(out, project)
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert remove_logs(logs, out, dry_run=False) == 0
        assert all(log.path.exists() for log in logs)
    finally:
        os.close(folder)
