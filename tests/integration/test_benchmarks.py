"""Every benchmark in its small form: all that the full one does, over little data, so that none is broken unseen."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from benchmarks._all import read_output
from benchmarks._measuring import ROOT
from benchmarks._table import names
from crossfarm.images import engine

pytestmark = pytest.mark.integration

NEED_AN_ENGINE = ("image_cold", "images", "job_start", "preflight")


@pytest.mark.parametrize("name", names())
def test_a_benchmark_runs_in_its_small_form(name: str) -> None:
    if name in NEED_AN_ENGINE and not engine.answers():
        pytest.skip("no container engine answers; ./inv setup as root installs one")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--small"]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
    figure = read_output(name, done.stdout, code=done.returncode, seconds=0)
    assert figure.verdict == "not judged", done.stdout
    assert re.match(r"-?\d+\.\d{3} ", figure.value), done.stdout
    assert figure.spread, f"{name} does not say how far its rounds lay apart:\n{done.stdout}"
