"""Small quantised models, compiled for an array and run by the functional model."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crossfarm.backends.dpu import backend, bundling
from crossfarm.backends.dpu.array import DpuCode
from crossfarm.boards.protocol import Purpose
from crossfarm.boards.simulators.base import Simulated
from crossfarm.boards.simulators.dpu import DpuSimulator
from crossfarm.config.cell import Cell
from crossfarm.stages.quantize_shift.quantise import folded, quantise
from crossfarm.util.paths import HOME

RUNNER = HOME / "runner" / "dpu"
WARNINGS = ("-std=c17", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wno-sign-conversion")
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CELL = Cell(model="small", target="dpu_zcu104", variant="int8_shift")
Tensors = Mapping[str, np.ndarray[Any, Any]]
PURPOSE = Purpose(target="dpu_zcu104", machine=("dpu",), emulator=None, code=None)


def code(parallelism: str = "B4096", **fields: Any) -> DpuCode:
    """Return a `code:` section."""
    usual = {"megahertz": 300, "memory_gigabytes_per_second": 6.3, "layer_microseconds": 1.0, "cpu": "x86_64"}
    return DpuCode.model_validate({**usual, "parallelism": parallelism, **fields})


def model(nodes: Sequence[onnx.NodeProto], constants: Tensors, shape: Sequence[int]) -> onnx.ModelProto:
    """Return a model of one input `x`, whose output is that of the last node."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def random_inputs(shape: Sequence[int], count: int, *, seed: int = 2) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Return so many inputs."""
    generator = np.random.default_rng(seed)
    return [{"x": generator.normal(size=shape).astype(np.float32)} for _ in range(count)]


def int8_shift(real: onnx.ModelProto, shape: Sequence[int]) -> onnx.ModelProto:
    """Return the variant int8_shift of a model."""
    return quantise(folded(real), random_inputs(shape, 16), name="small")


def build_program(folder: Path, *flags: str, name: str = "program") -> Path:
    """Build the functional model."""
    program = folder / name
    sources = [str(RUNNER / source) for source in bundling.SOURCES]
    subprocess.run(["gcc", *WARNINGS, *flags, *sources, "-o", str(program), "-lm"], check=True)
    return program


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """A bundle, as far as the simulator reads it."""

    folder: Path

    @property
    def plan(self) -> dict[str, Any]:
        """Return plan.json."""
        return json.loads((self.folder / "plan.json").read_text())

    @property
    def report(self) -> dict[str, Any]:
        """Return accelerator.json."""
        return json.loads((self.folder / "accelerator.json").read_text())

    def simulate(self, inputs: Sequence[Tensors], *, cases: int = 0) -> Simulated:
        """Run it as the simulator does."""
        stacked = {name: np.stack([each[name] for each in inputs]) for name in inputs[0]}
        return DpuSimulator(PURPOSE).simulate(self.folder, stacked, cases=cases, timeout=600.0)


def build(folder: Path, quantised: onnx.ModelProto, wanted: DpuCode, program: Path) -> Built:
    """Compile a model, and put the functional model and the core beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(quantised.SerializeToString())
    backend.compile(cell=CELL, model=path, code=wanted, output=folder)
    (folder / "program").symlink_to(program)
    (folder / "core").mkdir()
    for source in (*(RUNNER / name for name in bundling.CORE_SOURCES), *(RUNNER / "rtl").glob("*.sv")):
        (folder / "core" / source.name).write_bytes(source.read_bytes())
    report = json.loads((folder / "compile.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({"outputs": report["outputs"]}))
    return Built(folder=folder)


def expected(quantised: onnx.ModelProto, inputs: Sequence[Tensors]) -> dict[str, np.ndarray[Any, Any]]:
    """Return what ONNX Runtime gives, stacked over the cases."""
    import onnxruntime

    session = onnxruntime.InferenceSession(quantised.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = [session.run(None, dict(each)) for each in inputs]
    return {name: np.stack([answer[k] for answer in answers]) for k, name in enumerate(names)}


def equal(found: Tensors, wanted: Tensors) -> None:
    """Assert that outputs are equal bit for bit, and say something."""
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert np.ptp(array) > 0, "outputs that are all the same prove nothing"
        differing = int(np.sum(found[name] != array))
        assert found[name].tobytes() == array.tobytes(), f"{name}: {differing} of {array.size} differ"
