"""The history of real runs: kept, shown, compared, and confirmed with both bundles; and never in a run's way."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from crossfarm.store.store import Store
from crossfarm.util.paths import HOME
from tests.integration.pipeline.conftest import Ended, Farm, model

pytestmark = pytest.mark.integration

CELL = "x86_64-heavy-float32"


def _typed(farm: Farm, *words: str) -> Ended:
    """Type a command of the history; a traceback never reaches the user."""
    done = subprocess.run(
        [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=farm.variables(),
        cwd=HOME,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return Ended(code=done.returncode, output=done.stdout)


def _compare(farm: Farm, *words: str) -> Ended:
    place = ["--models", str(farm.folder / "models.yaml"), "--pipeline", str(farm.folder / "trial.yaml")]
    return _typed(farm, "compare", *words, "--store", str(farm.store), *place)


def _multiplied(times: int) -> onnx.ModelProto:
    """Return a model that multiplies by one matrix again and again."""
    weight = numpy_helper.from_array(np.eye(256, dtype=np.float32) * 0.5, "w")
    nodes = [
        helper.make_node("MatMul", [f"t{number - 1}" if number else "x", "w"], [f"t{number}"], name=f"m{number}")
        for number in range(times)
    ]
    nodes.append(helper.make_node("Relu", [f"t{times - 1}"], ["y"], name="relu"))
    return model(nodes, [weight], [64, 256], outputs=["y"])


@pytest.fixture
def two_runs(farm: Farm) -> Farm:
    """Return a farm that measured a model, and then one under its name that computes four times as much."""
    (farm.folder / "trial.yaml").write_text(
        "name: trial\ntargets: [x86_64]\nmeasure: {warmup: 3, repeat: 30}\n", encoding="utf-8"
    )
    for times in (4, 16):
        farm.add("heavy", _multiplied(times))
        ended = farm.run()
        assert ended.code == 0, ended.output
        told = [line for line in ended.output.splitlines() if not line.startswith("reports: ")]
        assert not [line for line in told if "history" in line]
    return farm


def test_a_regression_of_real_bundles_is_confirmed_in_turns(two_runs: Farm) -> None:
    farm = two_runs
    unconfirmed = _compare(farm, "previous", "latest", "--json")
    rows = {row["metric"]: row for row in json.loads(unconfirmed.output)["rows"]}
    assert (rows["latency.p50"]["kind"], rows["latency.p50"]["gates"]) == ("unconfirmed", False)
    again = _compare(farm, "previous", "latest", "--json", "--confirm")
    assert again.code == 1, again.output
    row = next(row for row in json.loads(again.output)["rows"] if row["metric"] == "latency.p50")
    assert (row["kind"], row["gates"], row["cell"]) == ("regressed", True, CELL)
    assert "confirmed in turns: +" in row["reason"]
    for path in Store(farm.store).manifests():
        if json.loads(path.read_text())["job"] == f"bundle:{CELL}":
            path.unlink()
    gone = json.loads(_compare(farm, "previous", "latest", "--json", "--confirm").output)["rows"]
    row = next(row for row in gone if row["metric"] == "latency.p50")
    assert (row["kind"], row["gates"]) == ("unconfirmed", False)
    assert row["reason"].endswith("the store has a bundle no more")


def test_the_history_of_real_runs_is_shown_and_carried(two_runs: Farm) -> None:
    farm = two_runs
    place = ["--history", str(farm.folder / "history.db")]
    shown = _typed(farm, "history", "heavy", "x86_64", *place)
    assert shown.code == 0, shown.output
    assert f"{CELL} on local@" in shown.output
    assert "latency.p50, 2 runs" in shown.output
    assert _typed(farm, "history", "hevy", *place).output.endswith("perhaps you meant 'heavy'\n")
    assert _typed(farm, "history", "export", str(farm.folder / "copy.db"), *place).code == 0
    other = ["--history", str(farm.folder / "other.db")]
    for words in ("2 runs added, 0 known", "0 runs added, 2 known"):
        assert words in _typed(farm, "history", "import", str(farm.folder / "copy.db"), *other).output
    assert "0 runs added, 1 known" in _typed(farm, "history", "import", str(farm.out / "results.jsonl"), *other).output
    assert "1 run deleted" in _typed(farm, "history", "prune", "--keep-runs", "1", *other).output
    assert _typed(farm, "history", "prune", *other).code == 2


def test_results_files_and_commits_are_compared_too(two_runs: Farm) -> None:
    files = [str(two_runs.out / name) for name in ("results.previous.jsonl", "results.jsonl")]
    assert "unconfirmed" in _compare(two_runs, *files).output
    assert "### " in _compare(two_runs, "baseline", files[1], "--markdown").output
    head = _compare(two_runs, "HEAD", "latest")
    assert "no regression" in head.output or "called so" in head.output
    assert _compare(two_runs, "nonsense", "latest").code == 2
    assert _compare(two_runs, "latest", "baseline").code == 2


def test_a_history_that_cannot_be_written_costs_no_run(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    (farm.folder / "history.db").write_text("this is no database, and is long enough to be looked at as one " * 20)
    ended = farm.run()
    assert ended.code == 0, ended.output
    assert "not kept in the history: " in ended.output
    assert f"./inv history import {farm.out / 'results.jsonl'}" in ended.output
    assert (farm.out / "junit.xml").exists()
    added = _typed(farm, "history", "import", str(farm.out / "results.jsonl"), "--history", str(farm.folder / "new.db"))
    assert "1 run added" in added.output


def test_a_run_may_have_no_history(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    assert farm.run("--history", "none").code == 0
    assert not (farm.folder / "history.db").exists()
    refused = farm.run("--history", "postgresql://farm:hunter2@db.example/results")
    assert refused.code == 2
    assert "hunter2" not in refused.output
