"""A small project of its own, and the real command line run on it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.util.paths import HOME

MODEL = """
  - name: {name}
    licence: MIT
    source: {{file: {name}.onnx}}
    inputs: [{{name: x, shape: {shape}}}]
"""


def layers(count: int, *, channels: int = 4) -> onnx.ModelProto:
    """Return a model of `count` different convolutions: each one costs the compiler time."""
    generator = np.random.default_rng(0)
    nodes, weights, before, width = [], [], "x", channels
    for number in range(count):
        wider = channels + (number + 1) % 7
        kernel = generator.standard_normal((wider, width, 1 + number % 3, 1 + number % 3)).astype(np.float32) * 0.1
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        nodes.append(helper.make_node("Conv", [before, f"w{number}"], [f"c{number}"], name=f"conv_{number}"))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"], name=f"relu_{number}"))
        before, width = f"r{number}", wider
    nodes.append(helper.make_node("ReduceMean", [before], ["y"], name="mean", keepdims=0))
    side = 2 * count + 6
    return model(nodes, weights, [1, channels, side, side], outputs=["y"])


def model(
    nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], shape: list[Any], *, outputs: list[str]
) -> onnx.ModelProto:
    """Return an ONNX model with one float input `x` of `shape`."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def adder() -> onnx.ModelProto:
    """Return the smallest model: y = relu(x + 1)."""
    one = numpy_helper.from_array(np.ones((1, 8), np.float32), "one")
    nodes = [helper.make_node("Add", ["x", "one"], ["s"], name="add"), helper.make_node("Relu", ["s"], ["y"], name="r")]
    return model(nodes, [one], [1, 8], outputs=["y"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    output: str


class Farm:
    """A folder with models.yaml, a pipeline, a store and an out folder, and the real command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.store = folder / "store"
        self.engine = "local"
        self.models: dict[str, list[Any]] = {}
        self.environment: dict[str, str] = {}
        self.set_targets("x86_64")

    def set_targets(self, *targets: str) -> None:
        """Choose the targets of the pipeline."""
        text = f"name: trial\ntargets: [{', '.join(targets)}]\nmeasure: {{warmup: 1, repeat: 5}}\n"
        (self.folder / "trial.yaml").write_text(text)

    def add(self, name: str, content: onnx.ModelProto | bytes) -> None:
        """Add a model."""
        path = self.folder / f"{name}.onnx"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        shape: list[Any] = [1, 8]
        if isinstance(content, onnx.ModelProto):
            dims = content.graph.input[0].type.tensor_type.shape.dim
            shape = [dim.dim_value or 1 for dim in dims]
        self.models[name] = shape
        entries = "".join(MODEL.format(name=model, shape=extents) for model, extents in self.models.items())
        (self.folder / "models.yaml").write_text("models:" + entries)

    def command(self, *arguments: str, task: str = "pipeline") -> list[str]:
        """Return a command line of the farm."""
        out = ["--out", str(self.out)] if task == "pipeline" and "--out" not in arguments else []
        return [
            sys.executable,
            "-m",
            "invoke",
            "--search-root",
            str(HOME),
            task,
            "--models",
            str(self.folder / "models.yaml"),
            "--pipeline",
            str(self.folder / "trial.yaml"),
            "--store",
            str(self.store),
            "--engine",
            self.engine,
            *out,
            *arguments,
        ]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the pipeline as a shell in a terminal would: as the leader of a process group."""
        return subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.variables(),
            cwd=HOME,
            start_new_session=True,
        )

    def run(self, *arguments: str, task: str = "pipeline") -> Ended:
        """Run the farm to its end; a traceback never reaches the user."""
        done = subprocess.run(
            self.command(*arguments, task=task),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.variables(),
            cwd=HOME,
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return Ended(code=done.returncode, output=done.stdout)

    def variables(self) -> Mapping[str, str]:
        """Return the environment of commands: a compiler cache that all tests share."""
        return {**os.environ, "CI": "true", **self.environment}

    def records(self, kind: str = "job") -> list[dict[str, Any]]:
        """Return the records of one kind of the last run."""
        lines = (self.out / "results.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["record"] == kind]

    def states(self) -> dict[str, str]:
        """Return job id -> state of the last run."""
        return {record["job"]: record["state"] for record in self.records()}


@pytest.fixture(scope="session")
def zig_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a compiler cache that lives as long as the tests, or the clone's own when it is there."""
    own = HOME / ".crossfarm" / "store" / "zig"
    return own if own.is_dir() else tmp_path_factory.mktemp("zig")


@pytest.fixture
def farm(tmp_path: Path, zig_cache: Path) -> Farm:
    made = Farm(tmp_path)
    made.environment["ZIG_GLOBAL_CACHE_DIR"] = os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(zig_cache))
    return made


@pytest.fixture
def small_model() -> onnx.ModelProto:
    return adder()


@pytest.fixture
def long_model() -> onnx.ModelProto:
    """Return a model that takes some seconds to compile."""
    return layers(40)


@pytest.fixture
def convolutions() -> onnx.ModelProto:
    """Return a model of a few convolutions."""
    return layers(4)
