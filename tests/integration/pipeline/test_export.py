"""A bundle is carried out of the store whole, and runs where it lies."""

from __future__ import annotations

import json
import subprocess

import onnx
import pytest

from tests.integration.pipeline.waiting import Farm

pytestmark = pytest.mark.integration


def test_a_bundle_is_copied_out_and_runs(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    folder = farm.folder / "bundle"
    ended = farm.run("x86_64-adder-float32", "--to", str(folder), task="bundle")
    assert ended.code == 0, ended.output
    manifest = json.loads((folder / "manifest.json").read_text())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for_people = {path for path in found if path.startswith(("example/", "python/"))} | {"CMakeLists.txt"}
    assert {"example/main.cpp", "python/adder/__init__.py"} <= for_people
    assert {file["path"] for file in manifest["files"]} | {"manifest.json"} == found - for_people
    done = subprocess.run([folder / "program", folder], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["cases"] == manifest["cases"]
    (folder / "manifest.json").write_text("the copy is not the store's")
    assert farm.run("--stages", "bundle", task="plan").output.count("hit  ") >= 4


def test_a_folder_that_exists_is_not_written_to(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    ended = farm.run("x86_64-adder-float32", "--to", str(farm.folder), task="bundle")
    assert ended.code == 2
    assert "exists already" in ended.output


def test_a_cell_that_does_not_exist_is_told_with_the_nearest(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    ended = farm.run("x86_64-addr-float32", "--to", str(farm.folder / "new"), task="bundle")
    assert ended.code == 2
    assert "perhaps you meant 'x86_64-adder-float32'" in ended.output
