"""The processor time of a test run is told, with that of its children and of the workers of pytest-xdist."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crossfarm.util.paths import HOME

CONFTEST = """
from tests.processor_time import ProcessorTime
def pytest_configure(config): config.pluginmanager.register(ProcessorTime())
"""
TESTS = """
import os, pathlib, pytest, subprocess, sys
BURN = "import time\\nwhile time.process_time() < 0.5: pass"

@pytest.mark.parametrize("number", range(4))
def test_that_has_a_child_compute(number):
    subprocess.run([sys.executable, "-S", "-c", BURN], check=True) if number == 0 else None
    pathlib.Path(__file__).with_name(f"{os.getpid()}.spent").write_text(str(sum(os.times()[:4])))
"""


@pytest.mark.parametrize(("options", "workers"), [((), "1 worker"), (("-p", "xdist", "-n", "2"), "2 workers")])
def test_the_processor_time_of_a_run_holds_that_of_workers_and_children(
    tmp_path: Path, options: tuple[str, ...], workers: str
) -> None:
    if options and importlib.util.find_spec("xdist") is None:
        pytest.skip("pytest-xdist is not installed; ./inv setup installs it")
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(HOME / "pyproject.toml"), "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, *options, "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(HOME), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"^processor time: ([\d.]+) s in (.+)$", done.stdout, re.MULTILINE)
    assert told is not None, done.stdout
    assert told[2] == workers
    spent = [float(path.read_text()) for path in tmp_path.glob("*.spent")]
    assert len(spent) == int(workers[0])
    assert float(told[1]) >= sum(spent) - 0.05, "the line is rounded"
