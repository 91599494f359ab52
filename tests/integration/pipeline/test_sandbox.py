"""Whole runs on this host: every report says what shut the programs in, and a run without a sandbox says so once."""

from __future__ import annotations

import os
import shutil
import subprocess

import onnx
import pytest

from crossfarm.util import sandbox
from tests.integration.pipeline.conftest import Farm

pytestmark = pytest.mark.integration


def _sandboxes(farm: Farm) -> set[str | None]:
    return {record["provenance"]["sandbox"] for record in farm.records("measurement")}


def test_a_run_names_its_sandbox_in_results_and_summary(farm: Farm, small_model: onnx.ModelProto) -> None:
    if sandbox.available() == "none":
        pytest.skip(f"nothing shuts programs in on this machine; {sandbox.ADVICE}")
    farm.add("small", small_model)
    ended = farm.run()
    assert ended.code == 0, ended.output
    assert _sandboxes(farm) == {sandbox.available()}
    assert f"| {sandbox.available()} |" in (farm.out / "summary.md").read_text()
    assert "not sandboxed" not in ended.output


def test_a_run_that_cannot_shut_programs_in_says_so_in_one_line(farm: Farm, small_model: onnx.ModelProto) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("the right to make namespaces is taken away with setpriv, by root")
    for name in ("small", "other"):
        farm.add(name, small_model)
    for expected in (1, 0):
        done = subprocess.run(
            [setpriv, "--inh-caps=-sys_admin", "--bounding-set=-sys_admin", *farm.command()],
            capture_output=True,
            text=True,
            env=farm.variables(),
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("not sandboxed: ")]
        assert len(lines) == expected, "a run that runs no program has nothing to say"
    assert _sandboxes(farm) == {"none"}
