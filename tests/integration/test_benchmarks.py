"""Every benchmark in its small form: all that the full one does, over little data, so that none is broken unseen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import _all, _table
from benchmarks._all import read_output
from benchmarks._measuring import Benchmark
from benchmarks._table import names
from crossfarm.util import docker
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

NEED_AN_ENGINE = ("image_cold", "images", "job_start", "preflight")


@pytest.mark.parametrize("name", names())
def test_a_benchmark_runs_in_its_small_form(name: str) -> None:
    if name in NEED_AN_ENGINE and not docker.answers():
        pytest.skip("no container engine answers; ./inv setup as root installs one")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--small"]
    done = subprocess.run(
        command, cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
    figure = read_output(name, done.stdout, code=done.returncode, seconds=0)
    assert figure.verdict == "not judged", done.stdout
    assert re.match(r"-?\d+\.\d{3} ", figure.value), done.stdout
    assert figure.spread, f"{name} does not say how far its rounds lay apart:\n{done.stdout}"


def test_a_run_of_all_writes_the_page_and_fails_when_one_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = [
        next(one for one in _table.benchmarks() if one.name == "start"),
        Benchmark(name="gone", what="a module that does not exist", how="h", goal="g", minutes=1),
    ]
    page = tmp_path / "benchmarks.md"
    page.write_text(_table.PAGE.read_text())
    monkeypatch.setattr(_all, "benchmarks", lambda: declared)
    monkeypatch.setattr(_all, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["bench all"])
    with pytest.raises(SystemExit) as ended:
        _all.main()
    assert ended.value.code == 1
    text = page.read_text()
    assert _table.between_markers(text, _table.GOALS) == _table.goals_table(declared)
    figures = _table.between_markers(text, _table.FIGURES)
    assert re.search(r"^\| `start` \| \d+\.\d{3} s \| median .* \| (met|missed) \| \d+ s \|$", figures, re.MULTILINE)
    assert re.search(r"^\| `gone` \|  \|  \| did not run: exit code 1, .*No module named", figures, re.MULTILINE)
    assert "commit " in figures
