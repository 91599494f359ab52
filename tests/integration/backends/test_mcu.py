"""Models on an emulated Cortex-M, through the whole pipeline, and what is refused on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossfarm.backends.mcu import backend
from crossfarm.backends.mcu.memory import MEMORY, Memory
from crossfarm.boards.protocol import Purpose, this_host
from crossfarm.boards.simulators import cortex_m
from crossfarm.bundles.linking.c_compiler import Toolchain
from crossfarm.config.cell import Cell
from crossfarm.config.llvm import McuCode
from crossfarm.config.targets import ZigCompiler
from crossfarm.errors import BoardError, UnfitError
from crossfarm.util.paths import HOME
from tests.integration.backends.conftest import CellBuilder, load_target, reference
from tests.integration.backends.test_int8_targets import two_convolutions

pytestmark = pytest.mark.integration

needs_emulator = pytest.mark.skipif(cortex_m.missing() is not None, reason=str(cortex_m.missing()))
node = helper.make_node
CODE = load_target("cortex_m7").code
CELL = Cell(model="tested", target="cortex_m7", variant="float32")


def _model(operator: str, **attributes: Any) -> onnx.ModelProto:
    """Return y = operator(relu(x * 2))."""
    graph = helper.make_graph(
        [
            node("Mul", ["x", "two"], ["doubled"], name="doubler"),
            node("Relu", ["doubled"], ["positive"], name="cut"),
            node(operator, ["positive"], ["y"], name="the_odd_one", **attributes),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 40])],
        [numpy_helper.from_array(np.full((1, 40), 2, np.float32), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _compile(model: onnx.ModelProto, folder: Path, **changes: int) -> Memory:
    onnx.save(model, folder / "model.onnx")
    output = folder / "output"
    output.mkdir()
    code = McuCode.model_validate({**CODE.model_dump(), **changes})
    backend.compile(cell=CELL, model=folder / "model.onnx", code=code, output=output)
    return Memory.read(output / MEMORY)


def _convolutions(channels: int = 24) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    wide = generator.integers(-127, 128, (channels, 13, 3, 3), dtype=np.int8)
    deep = generator.integers(-127, 128, (channels, 1, 3, 3), dtype=np.int8)
    return two_convolutions(wide, deep)


def test_weights_stay_bytes_and_none_is_transformed(tmp_path: Path) -> None:
    counted = _compile(_convolutions(), tmp_path)
    bytes_of_weights = 24 * 13 * 9 + 24 * 9
    # Bias and scale of each channel, 4 bytes each, and 64 bytes for each of the constants to be aligned.
    assert bytes_of_weights < counted.weights_bytes < bytes_of_weights + 2 * 24 * 2 * 4 + 6 * 64


@needs_emulator
@pytest.mark.parametrize("target", ["cortex_m4", "cortex_m7"])
def test_float_models_agree_with_onnx_runtime_and_take_what_was_counted(target: str, tmp_path: Path) -> None:
    model = _model("Softmax", axis=1)
    cases = [{"x": np.random.default_rng(seed).standard_normal((1, 40)).astype(np.float32)} for seed in range(3)]
    builder = CellBuilder(target=load_target(target), name="tested", folder=tmp_path)
    bundle = builder.bundle(model, cases)
    (found,), (expected,) = builder.run(bundle), reference(model, cases)
    assert np.abs(found - expected).max() <= 1e-6
    result = json.loads((tmp_path / "outputs" / "result.json").read_text())
    counted = Memory.read(tmp_path / "compile" / MEMORY)
    assert result["workspace_peak_bytes"] == counted.workspace_bytes
    assert result["arena_bytes"] == counted.arena_bytes
    assert 0 < result["stack_peak_bytes"] < 64 * 1024
    assert len(set(result["latency_ns"])) >= 1 and min(result["latency_ns"]) > 0


@needs_emulator
def test_a_run_takes_as_many_instructions_on_a_busy_machine(tmp_path: Path) -> None:
    cases = [{"x": np.zeros((1, 13, 9, 11), np.uint8)}] * 2
    builder = CellBuilder(target=load_target("cortex_m7"), name="tested", folder=tmp_path)
    bundle = builder.bundle(_convolutions(), cases)
    times = []
    for _ in range(2):
        builder.run(bundle)
        times.append(json.loads((tmp_path / "outputs" / "result.json").read_text())["latency_ns"])
    assert times[0] == times[1]


def test_an_arena_that_exceeds_the_ram_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(UnfitError, match=r"takes an arena of [\d,]+ bytes .* ram_bytes .* is 2,048; choose a smaller"):
        _compile(_convolutions(), tmp_path, ram_bytes=2048)


def test_weights_and_code_that_exceed_the_flash_are_refused_with_the_numbers(tmp_path: Path) -> None:
    words = r"takes [\d,]+ bytes of flash \([\d,]+ of weights, [\d,]+ of code\), but flash_bytes .* is 4,096; choose"
    with pytest.raises(UnfitError, match=words):
        _compile(_convolutions(), tmp_path, flash_bytes=4096)


def test_an_operator_that_needs_more_than_a_freestanding_c_library_has_is_named(tmp_path: Path) -> None:
    words = (
        r"cortex_m7: operator Sin \(node 'the_odd_one', number 2\) needs the function sinf, which a freestanding C "
        r"library lacks"
    )
    with pytest.raises(UnfitError, match=words):
        _compile(_model("Sin"), tmp_path)


@needs_emulator
def test_a_firmware_that_hangs_is_ended(tmp_path: Path) -> None:
    """With the real emulator: an image whose main never returns, in place of a bundle's."""
    builder = CellBuilder(target=load_target("cortex_m7"), name="tested", folder=tmp_path)
    bundle = builder.bundle(_convolutions(), [{"x": np.zeros((1, 13, 9, 11), np.uint8)}])
    work = tmp_path / "work"
    work.mkdir()
    for name in ("start.c", "semihosting.c", "semihosting.h", "image.h", "image.ld"):
        (work / name).write_bytes((HOME / "runner" / "mcu" / "image" / name).read_bytes())
    (work / "loop.c").write_text('#include "image.h"\nint image_main(void) { for (;;) stack_paint(); }\n')
    compiler = builder.target.compiler
    assert isinstance(compiler, ZigCompiler)
    toolchain = Toolchain(compiler=compiler, static=False, folder=work, freestanding=True)
    for name in ("start", "semihosting", "loop"):
        toolchain.compile(f"{name}.c", f"{name}.o")
    toolchain.link_image(["start.o", "semihosting.o", "loop.o"], "image.elf", script="image.ld")
    (bundle / "image.elf").write_bytes((work / "image.elf").read_bytes())
    purpose = Purpose(target="t", machine=("thumbv7em",), emulator=None, code=builder.target.instructions)
    board = cortex_m.open_board(this_host("t"), purpose, token=0)
    with pytest.raises(BoardError, match="did not end within 2 s and was stopped"):
        board.simulate(bundle, {}, cases=1, timeout=2)


def test_the_library_has_no_variables_and_calls_nothing_but_what_it_may(tmp_path: Path) -> None:
    builder = CellBuilder(target=load_target("cortex_m7"), name="tested", folder=tmp_path)
    bundle = builder.bundle(_convolutions(), [{"x": np.zeros((1, 13, 9, 11), np.uint8)}])
    assert {path.name for path in bundle.iterdir()} == {
        *("accelerator.json", "image.elf", "inputs", "libtested.a", "manifest.json", "model.h", "model_sizes.h")
    }
    sizes = {
        item["name"]: item["value"] for item in json.loads((bundle / "accelerator.json").read_text())["quantities"]
    }
    assert sizes["ram_static"] <= 64
    (tmp_path / "user.c").write_text(
        '#include "model.h"\n'
        "static uint8_t arena[CROSSFARM_MODEL_ARENA_BYTES] __attribute__((aligned(CROSSFARM_MODEL_ALIGNMENT)));\n"
        "int use(void);\n"
        "int use(void) { crossfarm_model *m; return (int)crossfarm_model_open(arena, sizeof arena, &m); }\n"
    )
    for language in ("-std=c99", "-xc++"):
        words = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            "thumb-freestanding-eabihf",
            "-mcpu=cortex_m7+vfp4d16sp",
        ]
        words += [language, "-Wall", "-Wextra", "-Werror", f"-I{bundle}", "-c", str(tmp_path / "user.c")]
        done = subprocess.run([*words, "-o", str(tmp_path / "user.o")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
