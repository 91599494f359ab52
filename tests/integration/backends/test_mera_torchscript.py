"""Quantised TorchScript from the file to MERA's cycles, with the real tools; and what is no such file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crossfarm.results import CheckRecord, JobRecord, read_records
from crossfarm.util.mera.calls import MERA
from crossfarm.util.paths import HOME

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(MERA.interpreter() is None, reason=f"MERA: {MERA.missing()}"),
]

QUANTISE = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = torch.quantization.QuantStub(), torch.quantization.DeQuantStub()
        self.first, self.positive = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()
        self.second = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.pool, self.dense = nn.AdaptiveAvgPool2d(1), nn.Linear(32, 10)
    def forward(self, x):
        x = self.second(self.positive(self.first(self.quant(x))))
        return self.dequant(self.dense(torch.flatten(self.pool(x), 1)))
torch.backends.quantized.engine = "fbgemm"
net, example = Net().eval(), torch.rand(1, 1, 16, 16)
torch.jit.trace(net, example).save("float.pt")
net.qconfig = torch.quantization.get_default_qconfig("fbgemm")
net = torch.quantization.prepare(torch.quantization.fuse_modules(net, [["first", "positive"]]))
for _ in range(8):
    net(torch.rand(1, 1, 16, 16))
torch.jit.trace(torch.quantization.convert(net), example).save("quantised.pt")
"""
MODEL = """
  - name: {name}
    licence: MIT
    format: torchscript
    source: {{file: {name}.pt}}
    inputs: [{{name: image, shape: [1, 1, 16, 16], layout: NCHW, range: [0.0, 1.0]}}]
    preprocess: {{channels: GRAY, mean: 0, scale: 0.0039}}
    data: [pictures]
    decode: {{kind: classify, top: 3}}
    variants: [int8]
"""
DATA = "datasets:\n  - {name: pictures, kind: csv, source: {file: data.csv}, height: 16, width: 16}\nmodels:"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Return the records of a run over a quantised file, one that is not, and one that is no TorchScript."""
    folder = tmp_path_factory.mktemp("torchscript")
    python = MERA.interpreter()
    assert python is not None
    subprocess.run([str(python), "-c", QUANTISE], cwd=folder, check=True, capture_output=True)
    (folder / "damaged.pt").write_bytes((folder / "quantised.pt").read_bytes()[:2000])
    rows = [",".join(str((7 * row * place) % 256) for place in range(256)) + f",{row % 10}" for row in range(1, 13)]
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    models = "".join(MODEL.format(name=name) for name in ("quantised", "float", "damaged"))
    (folder / "models.yaml").write_text(DATA + models)
    (folder / "trial.yaml").write_text("name: trial\nmodels: ['*']\ntargets: [mera_f200]\nmeasure: {data_limit: 2}\n")
    words = ["pipeline", "--engine", "local", "--models", "models.yaml", "--pipeline", "trial.yaml"]
    command = [sys.executable, "-m", "invoke", "--search-root", str(HOME), *words, "--store", "store", "--out", "out"]
    subprocess.run(command, cwd=folder, env=None, capture_output=True, text=True, check=False)
    return list(read_records(folder / "out" / "results.jsonl"))


def test_quantised_torchscript_is_simulated_and_decides_as_onnx_runtime_does(found: list[object]) -> None:
    rows = {row.name: row for row in found if isinstance(row, CheckRecord) and row.cell == "mera_f200-quantised-int8"}
    assert rows["simulator.equal"].status == "passed"
    assert rows["accuracy.argmax"].status == "passed"
    assert (rows["cycles"].value or 0) > 1000
    assert "quantised TorchScript, compiled by MERA" in rows["accelerator"].message


def test_torchscript_that_is_not_quantised_is_refused(found: list[object]) -> None:
    jobs = {row.job: row for row in found if isinstance(row, JobRecord)}
    compiled = jobs["compile:mera_f200-float-int8"]
    assert compiled.state == "skipped"
    assert "the TorchScript is not quantised" in str(compiled.reason)


def test_what_is_no_torchscript_is_told_with_what_pytorch_says(found: list[object]) -> None:
    jobs = {row.job: row for row in found if isinstance(row, JobRecord)}
    assert (jobs["prepare:damaged"].state, jobs["prepare:damaged"].fault) == ("failed", "product")
    assert "cannot be written as ONNX: RuntimeError" in str(jobs["prepare:damaged"].cause)
