"""Loops of compiled convolutions keep their sums in registers, which the times of no emulator would tell."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.backends.tvm import backend
from crossfarm.config.cell import Cell
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)")
_TARGET = re.compile(r"0x([0-9a-f]+) <")
_MULTIPLY_ADD = ("fmla", "vfma", "vmla")


def _convolution(path: Path, *, depth: int, channels: int, kernel: int, pixels: int) -> None:
    weights = np.random.default_rng(0).standard_normal((channels, depth, kernel, kernel)).astype(np.float32)
    shapes = {"x": [1, depth, pixels, pixels], "y": [1, channels, pixels, pixels]}
    ports = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w"], ["c"], pads=[kernel // 2] * 4),
            onnx.helper.make_node("Relu", ["c"], ["y"]),
        ],
        "layer",
        [ports["x"]],
        [ports["y"]],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)


def _innermost_loops(object_file: Path) -> Iterator[list[tuple[str, str]]]:
    """Yield name and operands of the instructions of each loop that holds no other and multiplies."""
    command = ["llvm-objdump", "-d", "--no-show-raw-insn", str(object_file)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [match for match in map(_INSTRUCTION.match, listing.splitlines()) if match]
    code = [(match[2], match[3]) for match in found]
    place = {int(match[1], 16): index for index, match in enumerate(found)}
    loops = []
    for end, (name, operands) in enumerate(code):
        target = _TARGET.search(operands)
        start = place.get(int(target[1], 16)) if target and not name.startswith("bl") else None
        if start is not None and start <= end:
            loops.append((start, end))
    for start, end in loops:
        body = code[start : end + 1]
        inside = [other for other in loops if other != (start, end) and start <= other[0] and other[1] <= end]
        if not inside and any(name.startswith(_MULTIPLY_ADD) for name, _ in body):
            yield body


@pytest.mark.parametrize("target", ["armv7", "aarch64"])
@pytest.mark.parametrize(
    "layer",
    [
        {"depth": 64, "channels": 64, "kernel": 3, "pixels": 14},
        {"depth": 32, "channels": 32, "kernel": 3, "pixels": 56},
        {"depth": 64, "channels": 128, "kernel": 1, "pixels": 14},
        {"depth": 256, "channels": 256, "kernel": 1, "pixels": 7},
    ],
    ids=str,
)
def test_the_innermost_loop_of_a_convolution_leaves_the_stack_alone(
    tmp_path: Path, target: str, layer: dict[str, int]
) -> None:
    if shutil.which("llvm-objdump") is None:
        pytest.skip("llvm-objdump is not installed; apt-get install llvm")
    model, output = tmp_path / "model.onnx", tmp_path / "compiled"
    _convolution(model, **layer)
    output.mkdir()
    code = load_targets(HOME / "toolchains")[target].code
    backend.compile(cell=Cell(model="layer", target=target, variant="float32"), model=model, code=code, output=output)
    loops = list(_innermost_loops(output / "model.o"))
    assert loops
    for body in loops:
        assert not [f"{name} {operands}" for name, operands in body if re.search(r"\bsp\b", operands)]
