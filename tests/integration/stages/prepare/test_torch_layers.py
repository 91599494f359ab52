"""The usual layers of PyTorch go through export and prepare, and compute what PyTorch computes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from crossfarm.config.sources import FactorySource
from crossfarm.stages.fetch.artifact import content_folder, write_description
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise
from crossfarm.stages.prepare.torch_export import export_factory
from crossfarm.util.paths import HOME

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"),
]

LAYERS = Path(__file__).with_name("torch_layers.py")
NAMES = [
    *("encoder", "attention", "masked_attention", "lstm", "lstm_both_ways", "gru"),
    *("vision_transformer", "unet", "conformer", "gpt"),
]
# Weights are drawn as by the exporting process, from seed 0.
BY_TORCH = """
import json, sys, numpy, torch, torch_layers
name, frames = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
net = getattr(torch_layers, name)().eval()
if len(sys.argv) > 3:
    torch.save(net.state_dict(), sys.argv[3])
with torch.inference_mode():
    kept = {}
    outputs = []
    for frame in range(frames):
        feed = dict(numpy.load(f"feed{frame}.npz"))
        found = net(*[kept.get(key, torch.from_numpy(value)) for key, value in feed.items()])
        found = found if isinstance(found, tuple) else (found,)
        if name == "gpt":
            kept = dict(keys=found[1], values=found[2])
        outputs.append([value.numpy() for value in found])
numpy.savez("expected.npz", **{f"{f}_{i}": v for f, row in enumerate(outputs) for i, v in enumerate(row)})
print(json.dumps(dict(inputs=torch_layers.INPUTS[name], outputs=torch_layers.OUTPUTS.get(name, ["y"]))))
"""


def _feeds(inputs: list[tuple[str, tuple[int, ...], str]], frames: int) -> list[dict[str, NDArray[np.generic]]]:
    random = np.random.default_rng(1)
    feeds: list[dict[str, NDArray[np.generic]]] = []
    for frame in range(frames):
        feed: dict[str, NDArray[np.generic]] = {}
        for name, shape, dtype in inputs:
            if dtype == "int64":
                value = frame if name == "position" else random.integers(0, 50)
                feed[name] = np.full(shape, value, np.int64)
            elif frames > 1:
                feed[name] = np.zeros(shape, np.float32)
            else:
                feed[name] = random.normal(size=shape).astype(np.float32)
        feeds.append(feed)
    return feeds


def _signatures() -> dict[str, list[tuple[str, tuple[int, ...], str]]]:
    script = "import json, torch_layers; print(json.dumps(torch_layers.INPUTS))"
    done = subprocess.run([sys.executable, "-c", script], cwd=LAYERS.parent, check=True, capture_output=True, text=True)
    return {name: [tuple(item) for item in items] for name, items in json.loads(done.stdout).items()}


@pytest.fixture(scope="module")
def signatures() -> dict[str, list[tuple[str, tuple[int, ...], str]]]:
    """Return name, shape and dtype of the inputs of each network."""
    return _signatures()


def _code(folder: Path) -> Path:
    artifact = folder / "code"
    content_folder(artifact).mkdir(parents=True)
    (content_folder(artifact) / LAYERS.name).write_bytes(LAYERS.read_bytes())
    write_description(artifact, name=LAYERS.name, size=LAYERS.stat().st_size, sha256="")
    return artifact


@pytest.mark.parametrize("name", NAMES)
def test_a_network_computes_what_pytorch_computes(
    name: str, signatures: dict[str, list[tuple[str, tuple[int, ...], str]]], tmp_path: Path
) -> None:
    frames = 5 if name == "gpt" else 1
    feeds = _feeds(signatures[name], frames)
    for frame, feed in enumerate(feeds):
        np.savez(tmp_path / f"feed{frame}.npz", **feed)
    done = subprocess.run(
        [sys.executable, "-c", BY_TORCH, name, str(frames)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(LAYERS.parent), str(HOME)))},
        check=True,
        capture_output=True,
        text=True,
    )
    outputs = json.loads(done.stdout.splitlines()[-1])["outputs"]
    inputs = [StaticInput(name=key, shape=tuple(shape), dtype=dtype) for key, shape, dtype in signatures[name]]
    source = FactorySource(factory=f"torch_layers:{name}", output_names=tuple(outputs))
    model = make_static(export_factory(source, artifacts={"code": _code(tmp_path)}, inputs=inputs), inputs)
    (tmp_path / "model.onnx").write_bytes(serialise(model))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = np.load(tmp_path / "expected.npz")
    kept: dict[str, NDArray[np.generic]] = {}
    for frame, feed in enumerate(feeds):
        found = dict(zip(outputs, session.run(outputs, {**feed, **kept}), strict=True))
        if name == "gpt":
            kept = {"keys": found["keys_next"], "values": found["values_next"]}
        for number, output in enumerate(outputs):
            wanted = expected[f"{frame}_{number}"]
            np.testing.assert_allclose(found[output], wanted, rtol=0, atol=2e-5 * max(1.0, np.abs(wanted).max()))
