"""docs/extending.md: its files are complete, and a pipeline runs with them in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.cli.develop import IMPORT_LINTER
from crossfarm.results import CheckRecord, JobRecord, MeasurementRecord, Record, read_records
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

PAGE = HOME / "docs" / "extending.md"
COPIED = (
    *("crossfarm", "runner", "toolchains", "pipelines", "requirements"),
    *("tasks.py", "pyproject.toml", "requirements.lock", "images.lock"),
)
SOURCES_TEST = "tests/unit/stages/test_sources.py"
MOST_LINES = 60
CELL = "toy-small-float32"
MODELS = """
models:
  - name: small
    licence: MIT
    source: {file: small.onnx}
    inputs: [{name: x, shape: [2, 8]}]
"""


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def _files() -> dict[str, str]:
    """Return path -> content of the page's complete files; the first line names the file."""
    found = {}
    for block in (*_blocks("python"), *_blocks("yaml")):
        first, _, content = block.partition("\n")
        found[first.removeprefix("# ")] = content
    return found


class Clone:
    """A copy of the project with the page's files in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            if (HOME / name).is_dir():
                shutil.copytree(HOME / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            else:
                shutil.copyfile(HOME / name, folder / name)
        for path, content in _files().items():
            assert not (folder / path).exists(), f"{path} is a file of the project itself"
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(content)
        for patch in _blocks("diff"):
            subprocess.run(["git", "apply"], input=patch, cwd=folder, text=True, check=True)
        (folder / "models.yaml").write_text(MODELS)

    def model(self, last: str) -> None:
        """Write the model: y = last(x · w + b)."""
        generator = np.random.default_rng(0)
        constants = {"w": generator.standard_normal((8, 4)), "b": generator.standard_normal(4)}
        nodes = [
            helper.make_node("Gemm", ["x", "w", "b"], ["sum"], name="sum"),
            helper.make_node(last, ["sum"], ["y"], name="last"),
        ]
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (self.folder / "small.onnx").write_bytes(model.SerializeToString())

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line of the copy to its end."""
        return self.python("crossfarm.cli.program", "--search-root", str(self.folder), *arguments)

    def python(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module in the copy."""
        return self.run("-m", module, *arguments)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy."""
        command = [sys.executable, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is compiled once need not be compiled in every worker
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    def records(self) -> Sequence[Record]:
        """Return the records of the last run."""
        return read_records(self.folder / "out" / "results.jsonl")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def ran(clone: Clone) -> Clone:
    """The pipeline of the page has run."""
    clone.model("Relu")
    done = clone.command("pipeline", "--pipeline", "toy", "--engine", "local")
    assert done.returncode == 0, done.stdout + done.stderr
    return clone


def test_each_file_of_the_page_has_sixty_lines_at_most() -> None:
    lengths = {path: len(content.splitlines()) for path, content in _files().items()}
    assert len(lengths) == 7
    assert max(lengths.values()) <= MOST_LINES, lengths


def test_the_toys_cell_goes_through_every_stage_and_passes(ran: Clone) -> None:
    states = {record.job: record.state for record in ran.records() if isinstance(record, JobRecord)}
    about_cell = {f"{stage}:{CELL}" for stage in ("compile", "bundle", "measure", "check")}
    about_model = {f"{stage}:small" for stage in ("prepare", "histogram", "reference")}
    assert {job for job in states if not job.startswith("fetch:")} == about_model | about_cell, "nothing is linked"
    assert set(states.values()) == {"run"}
    (check,) = [record for record in ran.records() if getattr(record, "name", "") == "accuracy.output.y"]
    assert isinstance(check, CheckRecord)
    assert check.cell == CELL
    assert check.status == "passed"
    assert '<testcase name="accuracy.output.y"' in (ran.folder / "out" / "junit.xml").read_text()


def test_the_simulators_time_is_that_of_its_cycles_and_says_that_it_is_simulated(ran: Clone) -> None:
    found = {record.name: record for record in ran.records() if isinstance(record, MeasurementRecord)}
    latency = found["latency.p50"]
    assert latency.provenance.timing == "simulated"
    assert latency.provenance.emulator == "toy 1"
    assert latency.value == 20, "two results of 8 elements each, on 16 lanes at 100 MHz"
    assert not {"arena", "peak_rss", "load_time"} & set(found), "the simulator does not know them"
    (row,) = [record for record in ran.records() if isinstance(record, CheckRecord) and record.name == "latency.p50"]
    assert "simulated: says nothing about a real board and gates nothing" in row.message


def test_the_toy_stage_counts_the_operators(ran: Clone) -> None:
    objects = (ran.folder / ".crossfarm" / "store" / "objects").rglob("*")
    written = json.dumps({"Gemm": 1, "Relu": 1}, indent=1) + "\n"
    assert written.encode() in [path.read_bytes() for path in objects if path.is_file()]


def test_a_second_run_finds_everything(ran: Clone) -> None:
    done = ran.command("plan", "--pipeline", "toy", "--engine", "local")
    assert re.search(r"1 cells, 8 jobs: 0 run, 8 hit", done.stdout), done.stdout


def test_doctor_says_how_the_toy_runs(clone: Clone) -> None:
    clone.model("Relu")
    done = clone.command("doctor", "--pipeline", "toy")
    assert re.search(r"^found +a way to run toy +simulated: toy 1$", done.stdout, re.MULTILINE), (
        done.stdout + done.stderr
    )


def test_the_page_keeps_the_layers_of_imports_and_the_style(clone: Clone) -> None:
    layers = clone.run("-c", IMPORT_LINTER)
    assert re.search(r"Contracts: \d+ kept, 0 broken", layers.stdout), layers.stdout + layers.stderr
    new = [path for path in _files() if path.endswith(".py")]
    for arguments in (("check", "--quiet"), ("format", "--check", "--quiet")):
        style = clone.python("ruff", *arguments, *new)
        assert style.returncode == 0, style.stdout + style.stderr


def test_the_declared_sources_are_all_that_the_pages_modules_import(clone: Clone) -> None:
    shutil.copyfile(HOME / SOURCES_TEST, clone.folder / "test_sources.py")
    done = clone.python("pytest", "-p", "no:cacheprovider", "-v", "test_sources.py")
    assert done.returncode == 0, done.stdout
    assert "[toy] PASSED" in done.stdout
    assert "[histogram] PASSED" in done.stdout


def test_an_operator_that_the_toy_has_not_skips_its_cell_with_operator_and_node(ran: Clone) -> None:
    ran.model("Sigmoid")
    done = ran.command("pipeline", "--pipeline", "toy", "--engine", "local")
    assert done.returncode == 0
    assert f"compile {CELL} skipped" in done.stdout
    assert "operator Sigmoid of node 'last' cannot be compiled for this target" in done.stdout
    assert "nothing was checked" in done.stdout


def test_a_wrong_code_section_is_told_with_its_line(clone: Clone) -> None:
    path = clone.folder / "toolchains" / "toy.yaml"
    text = path.read_text()
    try:
        path.write_text(text.replace("lanes: 16", "lanez: 16"))
        done = clone.command("plan", "--pipeline", "toy", "--engine", "local")
    finally:
        path.write_text(text)
    assert done.returncode == 2
    assert "toolchains/toy.yaml:5: code.lanez:" in done.stdout + done.stderr
    assert "perhaps you meant 'lanes'" in done.stdout + done.stderr
