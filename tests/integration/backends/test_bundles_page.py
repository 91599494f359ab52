"""What docs/bundles.md shows works: its C program is built against a real bundle, its tables are complete."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

PAGE = (HOME / "docs" / "bundles.md").read_text()


def _block(language: str) -> str:
    """Return the only block of that language on the page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def _keys(section: str) -> set[str]:
    """Return the keys of a section's table."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    return {key for row in rows for key in re.findall("`([a-z_]+)`", row)}


def _classifier() -> onnx.ModelProto:
    weights = np.random.default_rng(5).standard_normal((6, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["scores"])]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def cases() -> list[dict[str, np.ndarray[Any, Any]]]:
    generator = np.random.default_rng(6)
    return [{"x": generator.standard_normal((1, 6)).astype(np.float32)} for _ in range(2)]


@pytest.fixture(name="road_and_bundle")
def _road_and_bundle(builder: Callable[..., Any], cases: Sequence[Any]) -> tuple[Any, Path]:
    if platform.machine() != "x86_64":
        pytest.skip("the page's program is built for x86_64 and run here")
    made = builder("x86_64", name="mnist_cnn")
    return made, made.bundle(_classifier(), cases)


def test_the_program_of_the_page_builds_and_finds_the_class(
    road_and_bundle: tuple[Any, Path], cases: Sequence[Any], tmp_path: Path
) -> None:
    builder, bundle = road_and_bundle
    scores = builder.run(bundle)[0][0]
    (tmp_path / "bundle").symlink_to(bundle)
    (tmp_path / "example.c").write_text(_block("c"))
    building, running = (shlex.split(line) for line in _block("sh").splitlines())
    compilers = [[sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.17"]]
    compilers += [[gcc]] if (gcc := shutil.which("gcc")) else []
    for compiler in compilers:
        command = [*compiler, "-Wall", "-Wextra", "-Wpedantic", "-Werror", *building[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        done = subprocess.run(running, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        best = int(np.argmax(scores))
        assert done.stdout == f"mnist_cnn: class {best}, score {scores.reshape(-1)[best]:.6g}\n"


def test_the_options_on_the_page_are_those_of_the_program(road_and_bundle: tuple[Any, Path]) -> None:
    _, bundle = road_and_bundle
    said = subprocess.run([bundle / "program", "--help"], capture_output=True, text=True, check=True).stdout
    assert f"```\n{said}```" in PAGE


def test_the_page_names_every_key_of_the_json_files_and_no_other(
    road_and_bundle: tuple[Any, Path], tmp_path: Path
) -> None:
    _, bundle = road_and_bundle
    command = [bundle / "program", bundle, "--repeat", "1", "--result", tmp_path / "result.json", "--outputs", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    result = json.loads((tmp_path / "result.json").read_text())
    assert _keys("result.json") == set(result)
    assert _keys("manifest.json") == set(json.loads((bundle / "manifest.json").read_text()))
