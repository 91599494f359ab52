"""setup and doctor on this very machine, with the project as it is."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from crossfarm.errors import EXIT_GOOD, EXIT_INFRASTRUCTURE
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

PROGRAM = """
import sys
from crossfarm.util.console import Console
from crossfarm.errors import ToolError
from crossfarm.setup.requirements import HOME, run_doctor, run_setup
from crossfarm.backends.project_files import load_project

project = load_project(
    models=HOME / "models.yaml", toolchains=HOME / "toolchains", pipeline=HOME / "pipelines" / "default.yaml"
)
console = Console(sys.stdout, interactive=False)
if sys.argv[1] == "doctor":
    sys.exit(run_doctor(project, console=console))
try:
    sys.exit(run_setup(project, yes=False, tests=False, console=console, is_root=False))
except ToolError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def run(verb: str) -> tuple[int, str, float]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, verb], cwd=HOME, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    return done.returncode, done.stdout, time.perf_counter() - began


def test_doctor_and_setup_agree_about_this_machine() -> None:
    code, text, _ = run("doctor")
    assert code in (EXIT_GOOD, EXIT_INFRASTRUCTURE)
    for target in ("x86_64", "aarch64", "armv7"):
        assert f"a way to run {target}" in text
    if code == EXIT_GOOD:
        code, text, _ = run("setup")
        assert code == EXIT_GOOD
        assert text.startswith("setup: everything is there")
    elif "pip install" not in text:
        assert run("setup")[0] == EXIT_INFRASTRUCTURE


def test_setup_costs_under_a_second_when_all_is_there() -> None:
    code, _, seconds = min((run("setup") for _ in range(3)), key=lambda found: found[2])
    if code != EXIT_GOOD:
        pytest.skip("something is missing on this machine; ./inv setup installs it")
    assert seconds < 1.0
