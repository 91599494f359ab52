"""action.yml, its steps run for real in a repository of a user with a small model, on this host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from crossfarm.util.paths import HOME
from tests.composite_action import Ended, Repository

pytestmark = pytest.mark.integration

NIGHTLY = HOME / ".github" / "workflows" / "nightly.yml"
PIPELINE = "name: mine\ntargets: [x86_64]\nmeasure: {warmup: 1, repeat: 10}\n"
MODELS = """# my models
models:
  - name: adder
    licence: MIT
    source: {file: adder.onnx}
    inputs: [{name: x, shape: [1, 8]}]
"""
BROKEN = """  - name: gone
    licence: MIT
    source: {file: gone.onnx}
    inputs: [{name: x, shape: [1, 8]}]
"""


def adder() -> bytes:
    one = numpy_helper.from_array(np.ones((1, 8), np.float32), "one")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["s"], name="add"), helper.make_node("Relu", ["s"], ["y"], name="relu")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [one],
    )
    built: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return built.SerializeToString()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("user"))
    (made.workspace / "models.yaml").write_text(MODELS)
    (made.workspace / "mine.yaml").write_text(PIPELINE)
    (made.workspace / "adder.onnx").write_bytes(adder())
    return made


def use(repository: Repository, **inputs: str) -> Ended:
    return repository.use(**{"pipeline": "mine.yaml", "engine": "local", **inputs})


@pytest.fixture(scope="module")
def first(repository: Repository) -> Ended:
    """The first use, with nothing kept."""
    return use(repository, artifact="first")


def test_a_good_run_has_its_reports_its_summary_and_no_annotation(repository: Repository, first: Ended) -> None:
    assert first.failed is None, first.output
    assert first.outputs == {"exit-code": "0", "regressed": "false", "out": ".crossfarm/out"}
    names = {path.name for path in (repository.artifacts / "first").iterdir()}
    assert {"junit.xml", "report.html", "summary.md", "results.jsonl", "badge.json", "comparison.json"} <= names
    assert "# crossfarm: passed: 1 cell" in first.summaries["Show"]
    assert "new" in first.summaries["Compare with the runs before"]
    assert first.output["Show"] == ""
    assert json.loads((repository.artifacts / "first" / "badge.json").read_text())["message"] == "1 of 1 cell passed"


def test_a_second_run_on_a_new_machine_makes_nothing_again_and_knows_the_first(
    repository: Repository, first: Ended
) -> None:
    assert first.failed is None
    second = use(repository)
    assert second.failed is None, second.output
    assert "up to date" in second.output["Run"]
    assert "no regression" in second.summaries["Compare with the runs before"]


def test_a_model_that_fails_is_annotated_at_its_line_and_ends_the_action_last(repository: Repository) -> None:
    models = repository.workspace / "models.yaml"
    models.write_text(MODELS + BROKEN)
    (repository.workspace / "gone.onnx").write_bytes(b"no model")
    ended = use(repository)
    models.write_text(MODELS)
    assert (ended.failed, ended.code, ended.outputs["exit-code"]) == ("End as the run did", 1, "1")
    line = (MODELS + BROKEN).splitlines().index("  - name: gone") + 1
    (annotation,) = [found for found in ended.output["Show"].splitlines() if found.startswith("::error ")]
    assert annotation.startswith(f"::error file=models.yaml,line={line},title=")
    assert "## What is wrong" in ended.summaries["Show"]
    assert ended.states["Reports and logs"] == "success"
    assert ended.states["Keep artifacts"] == "success"


def test_what_a_run_prints_is_never_a_command_of_github(repository: Repository, first: Ended) -> None:
    begin, *_ = first.output["Run"].splitlines()
    assert begin.startswith("::stop-commands::")
    token = begin.removeprefix("::stop-commands::")
    assert len(token) == 32
    assert f"\n::{token}::\n" in first.output["Run"]


def test_the_nightly_merges_what_its_jobs_left_and_compares_it(
    repository: Repository, first: Ended, tmp_path: Path
) -> None:
    """The steps of nightly.yml behind its jobs, of which one left nothing."""
    assert first.failed is None
    (tmp_path / "inv").symlink_to(HOME / "inv")
    shutil.copytree(repository.artifacts / "first", tmp_path / "parts" / "part-x86_64")
    steps = {step["name"]: step for step in yaml.safe_load(NIGHTLY.read_text())["jobs"]["merge"]["steps"]}
    environment = {
        **os.environ,
        "OUT": "merged",
        "HISTORY": "nightly/history.db",
        "MATRIX": json.dumps({"include": [{"target": "x86_64"}, {"target": "armv7"}]}),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_ACTION_PATH": str(HOME),
        "GITHUB_WORKSPACE": str(tmp_path),
        **{"STORE": "store", "IN_MODELS": str(HOME / "models.yaml"), "IN_PIPELINE": "default", "IN_CONFIRM": "false"},
    }
    said = ""
    for name in ("Merge", "Compare with the nights before", "Show"):
        script = HOME / steps[name]["run"]
        done = subprocess.run([script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    outputs = (tmp_path / "output").read_text().split()
    assert outputs == ["exit-code=3", "smaller=true", "bigger=false", "regressed=false"]
    assert "::error title=merge%3Aparts/part-armv7::infrastructure: left no results" in said
    assert "1 job before the cells failed" in (tmp_path / "summary").read_text()
    assert json.loads((tmp_path / "merged" / "badge.json").read_text())["message"] == "1 job failed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("models", "../models.yaml"),
        ("models", "nothing.yaml"),
        ("models", "-x"),
        ("models", "models.yaml\nout=elsewhere"),
        ("pipeline", "$(id)"),
        ("pipeline", "/etc/hostname.yaml"),
        ("targets", "x86_64;id"),
        ("targets", "--help"),
        ("only", "`id`"),
        ("engine", "Local"),
        ("registry", "ghcr.io/Owner"),
        ("history", "yes"),
        ("require_checks", ""),
        ("folder", "a/../../b"),
        ("folder", "a b"),
        ("artifact", "a/b"),
        ("fail", "always"),
    ],
)
def test_an_input_that_is_none_is_refused_before_anything_runs(repository: Repository, name: str, value: str) -> None:
    ended = use(repository, **{name: value})
    assert (ended.failed, ended.code) == ("Check the inputs", 2)
    assert ended.output["Check the inputs"].startswith(f"::error title=crossfarm: input {name.replace('_', '-')}::")
    assert {state for step, state in ended.states.items() if step not in ("Check the inputs", "Python")} == {"skipped"}


def test_a_file_that_a_link_leads_out_to_is_refused(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(MODELS)
    link = repository.workspace / "link.yaml"
    link.symlink_to(tmp_path / "theirs.yaml")
    ended = use(repository, models="link.yaml")
    link.unlink()
    assert "the file is outside of the repository" in ended.output["Check the inputs"]
