"""A small classifier of photographs that goes through every stage, once for each target."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from crossfarm.bundles.packages.packages import Packages, write_packages
from crossfarm.util.paths import HOME

CLASSES = ("plain", "red, white", 'quo"te \\ ?', "größe", "two  blanks", "$(touch x)", "seven")
SIDE = 32
SIZES = ((50, 44), (33, 71), (64, 64), (90, 41))
"""Width and height of each photograph."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """The model, built for one target.

    Attributes:
        bundle: its bundle.
        packages: wheel and tar.gz of it.
        photographs: the images of its data set, in the order of their cases.
        inputs: of all cases, shape (cases, 1, 3, 32, 32): random ones first, then the photographs.
        scores: what ONNX Runtime answers, shape (cases, 1, 7).
    """

    bundle: Path
    packages: Packages
    photographs: tuple[Path, ...]
    inputs: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]

    def expected(self, photograph: Path, count: int = 5) -> list[tuple[str, float]]:
        """Return names and scores of the best classes of a photograph, as the reference has them."""
        place = len(self.scores) - len(self.photographs) + self.photographs.index(photograph)
        scores = self.scores[place].reshape(-1)
        order = np.argsort(-scores, kind="stable")[:count]
        return [(CLASSES[index].partition(",")[0], float(scores[index])) for index in order]


def classifier() -> onnx.ModelProto:
    """Return convolutions with seeded random weights whose scores differ from image to image."""
    generator = np.random.default_rng(3)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        scale = np.sqrt(2.0 / np.prod(shape[1:]))
        return numpy_helper.from_array((generator.standard_normal(shape) * scale).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "k0"], ["c0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "k1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Flatten", ["r1"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(CLASSES)])],
        [weights("k0", 8, 3, 3, 3), weights("k1", 12, 8, 3, 3), weights("w", len(CLASSES), 12 * 8 * 8)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_project(folder: Path) -> tuple[Path, ...]:
    """Write model, photographs and declarations, and return the photographs."""
    onnx.save(classifier(), folder / "shapes.onnx")
    (folder / "photographs").mkdir(parents=True)
    generator = np.random.default_rng(4)
    photographs = []
    for number, (width, height) in enumerate(SIZES):
        coarse = generator.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        path = folder / "photographs" / f"photo_{number}.png"
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
        photographs.append(path)
    (folder / "models.yaml").write_text(
        f"""
datasets:
  - {{name: photographs, kind: images, source: {{file: photographs}}, glob: "*.png", fixed_label: 0}}
models:
  - name: shapes
    description: Shapes in photographs
    licence: MIT
    source: {{file: shapes.onnx}}
    inputs: [{{name: image, shape: [1, 3, {SIDE}, {SIDE}], layout: NCHW}}]
    preprocess:
      resize: {{shorter_side: 40, interpolation: bicubic}}
      crop: [{SIDE}, {SIDE}]
      channels: BGR
      mean: [103.53, 116.28, 123.675]
      scale: [0.0174, 0.0175, 0.0171]
    data: [photographs]
    decode: {{kind: classify, classes: {{names: {json.dumps(CLASSES)}}}}}
"""
    )
    (folder / "trial.yaml").write_text("name: trial\ntargets: [x86_64]\n")
    return tuple(photographs)


def command(folder: Path, *words: str) -> list[str]:
    """Return a command line of crossfarm for the project in `folder`."""
    told = ["--models", "models.yaml", "--pipeline", "trial.yaml", "--store", "store", "--engine", "local"]
    paths = [word if word.startswith("--") or word == "local" else str(folder / word) for word in told]
    return [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), *words, *paths]


def make(folder: Path, target: str, photographs: Sequence[Path]) -> Built:
    """Build the model for a target and package it."""
    bundle = folder / target / "bundle"
    words = command(folder, "bundle", f"{target}-shapes-float32", "--to", str(bundle))
    done = subprocess.run(words, cwd=HOME, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads((bundle / "manifest.json").read_text())["cases"]
    inputs = np.fromfile(bundle / "inputs" / "0.bin", "<f4").reshape(cases, 1, 3, SIDE, SIDE)
    session = onnxruntime.InferenceSession(str(folder / "shapes.onnx"), providers=["CPUExecutionProvider"])
    machines = yaml.safe_load((HOME / "toolchains" / f"{target}.yaml").read_text())["machine"]
    return Built(
        bundle=bundle,
        packages=write_packages(bundle, machines=machines, folder=folder / target / "dist"),
        photographs=tuple(photographs),
        inputs=inputs,
        scores=np.stack([session.run(None, {"image": case})[0] for case in inputs]),
    )
