"""What a run says of itself when a check fails, and when nothing was checked at all."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import onnx
import pytest

from tests.integration.pipeline.waiting import Farm

pytestmark = pytest.mark.integration

LABELLED = """
datasets:
  - {name: rows, kind: csv, source: {file: rows.csv}, height: 1, width: 8}
models:
  - name: adder
    licence: MIT
    source: {file: adder.onnx}
    inputs: [{name: x, shape: [1, 1, 1, 8]}]
    preprocess: {channels: GRAY}
    data: [rows]
    decode: {kind: classify}
    checks: {top1: 0.9}
"""


def _label_rows(farm: Farm, model: onnx.ModelProto, *labels: int) -> None:
    """Declare labelled data for y = relu(x + 1): the brightest pixel of row k is the k-th, so its right label is k."""
    shape = model.graph.input[0].type.tensor_type.shape
    shape.Clear()
    for extent in (1, 1, 1, 8):
        shape.dim.add().dim_value = extent
    farm.add("adder", model)
    rows = [[*(200 if place == row else 0 for place in range(8)), label] for row, label in enumerate(labels)]
    (farm.folder / "rows.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    (farm.folder / "models.yaml").write_text(LABELLED)


def test_a_check_that_fails_is_1_a_failure_in_junit_and_stands_first_in_the_summary(
    farm: Farm, small_model: onnx.ModelProto
) -> None:
    _label_rows(farm, small_model, 0, 1, 7)
    ended = farm.run()
    assert ended.code == 1, ended.output
    assert "FAILED: 1 cell: 1 failed" in ended.output
    assert "2 of 3 right" in ended.output
    root = ET.parse(farm.out / "junit.xml").getroot()  # noqa: S314
    assert (root.get("failures"), root.get("errors")) == ("1", "0")
    (case,) = (case for case in root.iter("testcase") if case.find("failure") is not None)
    assert case.get("name") == "accuracy.top1.rows"
    summary = (farm.out / "summary.md").read_text()
    assert summary.startswith("# crossfarm: FAILED: 1 cell: 1 failed")
    wrong = summary.partition("## What is wrong\n")[2].partition("\n## ")[0]
    assert "accuracy.top1.rows" in wrong
    assert farm.records("end")[0]["exit_code"] == 1
    again = farm.run()
    assert again.code == 1
    assert set(farm.states().values()) == {"hit"}, "what the store has is as wrong the second time"


def test_the_same_data_rightly_labelled_pass(farm: Farm, small_model: onnx.ModelProto) -> None:
    _label_rows(farm, small_model, 0, 1, 2)
    ended = farm.run("--require-checks")
    assert ended.code == 0, ended.output
    assert "passed: 1 cell: 1 passed" in ended.output


def test_a_run_that_only_makes_bundles_has_checked_nothing_and_says_so(
    farm: Farm, small_model: onnx.ModelProto
) -> None:
    farm.add("adder", small_model)
    ended = farm.run("--stages", "bundle")
    assert ended.code == 0, ended.output
    assert ended.output.rstrip().endswith("nothing was checked: 1 cell: 1 made")
    assert "passed:" not in ended.output
    assert (farm.out / "summary.md").read_text().startswith("# crossfarm: nothing was checked: 1 cell: 1 made")
    assert ET.parse(farm.out / "junit.xml").getroot().get("skipped") == "1"  # noqa: S314
    required = farm.run("--stages", "bundle", "--require-checks")
    assert required.code == 3
    assert "--require-checks: not checked: 1 of 1 cells: x86_64-adder-float32" in required.output


def test_a_run_whose_every_cell_is_skipped_has_checked_nothing(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    path = farm.folder / "models.yaml"
    path.write_text(path.read_text() + "    skip: [{target: x86_64, reason: it is out of order}]\n")
    ended = farm.run()
    assert ended.code == 0, ended.output
    assert ended.output.rstrip().endswith("nothing was checked: 1 cell: 1 skipped")
    assert farm.run("--require-checks").code == 3


def test_a_target_that_cannot_be_run_here_is_owed_its_check(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    farm.set_targets("x86_64", "aarch64")
    # No emulator is found on this path, whatever the machine has.
    farm.environment["PATH"] = str(farm.folder)
    ended = farm.run("--require-checks")
    assert ended.code == 3, ended.output
    assert "not checked: 1 of 2 cells: aarch64-adder-float32" in ended.output
    assert farm.run().code == 0
