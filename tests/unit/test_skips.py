"""Skips are counted, and an undeclared one fails a run in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossfarm.util.paths import HOME
from tests.skips import unknown

TESTS = """
import pytest
pytestmark = pytest.mark.integration
def test_one(): pass
def test_other(): pytest.skip({reason!r})
"""


def _run(folder: Path, reason: str, *, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(TESTS.format(reason=reason))
    (folder / "conftest.py").write_text((HOME / "tests" / "conftest.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(HOME / "pyproject.toml"), "--rootdir", str(folder)]
    return subprocess.run(
        [*command, "--integration", "-p", "no:cacheprovider", str(folder)],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(HOME), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("reason", "ci", "code"),
    [
        ("the moon is full", "true", 1),
        ("the moon is full", "false", 0),
        ("mounting a small file system takes root", "true", 0),
    ],
)
def test_an_unknown_skip_fails_a_run_in_ci(tmp_path: Path, reason: str, ci: str, code: int) -> None:
    done = _run(tmp_path, reason, ci=ci)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("1 skipped for a reason that known_skips.yaml does not know" in done.stdout) == bool(code)


def test_a_reason_is_known_only_as_a_whole() -> None:
    assert unknown({"no tmpfs": 2, "no tmpfs, and more": 1}, {"no tmpfs": "containers"}) == {"no tmpfs, and more": 1}
