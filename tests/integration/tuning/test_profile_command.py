"""`./inv profile` on a real model, and the measured peak."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration


def test_the_layers_of_a_model_add_up_to_a_whole_run(tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 machine, on which the target runs natively")
    picture = tmp_path / "profile.svg"
    command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), "profile"]
    command += ["x86_64-ppocr_cls-float32", "--plot", str(picture), "--repeat", "60", "--engine", "local"]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"([\d.]+) ms in (\d+) layers; a whole run takes ([\d.]+) ms", done.stdout)
    assert found is not None, done.stdout
    total, layers, latency = float(found[1]), int(found[2]), float(found[3])
    assert layers >= 20
    assert total == pytest.approx(latency, rel=0.2)  # medians of layers, and both on a machine that others use
    assert re.search(r"peak [\d.]+ GFLOP/s a core", done.stdout)
    assert "<svg" in picture.read_text()


def test_an_int8_cell_names_the_layers_that_lost_accuracy(tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 machine, on which the target runs natively")
    command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), "profile"]
    command += ["x86_64-ppocr_cls-int8", "--repeat", "3", "--engine", "local"]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^ *([\d.]+)% +[\d.]+% +[\d.]+%  (\w+) +(\S+)(  \(worst\))?$", done.stdout, re.MULTILINE)
    assert len(rows) >= 40
    added = [float(row[0]) for row in rows]
    assert added == sorted(added, reverse=True) and added[0] > 0
    assert [bool(row[3]) for row in rows[:4]] == [True, True, True, False]
    assert any(operator == "Conv" and name.startswith("Conv@") for _, operator, name, _ in rows)
    assert "accuracy after each step" in done.stdout or re.search(r"no accuracy ladder: .*; run \./inv", done.stdout)
