"""Hostile TFLite files: good ones with changed bytes, offsets and numbers, converted as `prepare` does."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import struct
from pathlib import Path

import numpy as np

from crossfarm.stages.prepare.external_data import no_external_data
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise
from crossfarm.stages.prepare.tflite.graph import convert
from tests.fuzz.harness import Kind
from tests.fuzz.spoiling import NUMBERS, spoil
from tests.unit.stages.prepare.tflite.test_reader import GOOD

INPUT = StaticInput(name="image", shape=(1, 4, 4, 6), dtype="int8", value=None)


@functools.cache
def _bases() -> tuple[tuple[bytes, tuple[StaticInput, ...]], ...]:
    """Return good files with their inputs: a convolution, and, where LiteRT's schema is installed, many operators."""
    bases: list[tuple[bytes, tuple[StaticInput, ...]]] = [(GOOD, (INPUT,))]
    if importlib.util.find_spec("ai_edge_litert") is not None:
        bases += [_many_operators(), _recurrent()]
    return tuple(bases)


def _many_operators() -> tuple[bytes, tuple[StaticInput, ...]]:
    """Return a file whose constants say how much is made of how little: shapes, paddings, repetitions, sparsity."""
    from tests.integration.stages.prepare.tflite.files import TfliteFile
    from tests.integration.stages.prepare.tflite.test_files import csr

    file = TfliteFile()
    source = here = file.tensor((2, 3))

    def numbers(*values: int) -> int:
        return file.tensor(data=np.array(values, np.int32))

    def then(name: str, shape: tuple[int, ...], constants: list[int], kind: str, **options: object) -> None:
        nonlocal here
        after = file.tensor(shape)
        file.add(name, [here, *constants], [after], kind, **options)
        here = after

    then("TILE", (4, 3), [numbers(2, 1)], "TileOptions")
    then("PAD", (6, 4), [file.tensor(data=np.array([[1, 1], [0, 1]], np.int32))], "PadOptions")
    then("BROADCAST_TO", (2, 6, 4), [numbers(2, 6, 4)], "BroadcastToOptions")
    bounds = [numbers(0, 1, 0), numbers(2, 5, 4), numbers(1, 2, 1)]
    then("STRIDED_SLICE", (2, 2, 4), bounds, "StridedSliceOptions", beginMask=1)
    then("TRANSPOSE", (2, 4, 2), [numbers(0, 2, 1)], "TransposeOptions")
    then("GATHER", (2, 3, 2), [numbers(3, 0, 1)], "GatherOptions", axis=1)
    then("CUMSUM", (2, 3, 2), [file.tensor(data=np.array(1, np.int32))], "CumsumOptions")
    then("RESHAPE", (1, 3, 2, 2), [numbers(1, 3, 2, 2)], "ReshapeOptions")
    then("RESIZE_BILINEAR", (1, 5, 4, 2), [numbers(5, 4)], "ResizeBilinearOptions")
    then(
        "MIRROR_PAD",
        (1, 7, 4, 2),
        [file.tensor(data=np.array([[0, 0], [1, 1], [0, 0], [0, 0]], np.int32))],
        "MirrorPadOptions",
    )
    then("SUM", (1, 7, 2), [numbers(2)], "ReducerOptions")
    weights = np.array([[1, 0], [0, 2], [3, 0]], np.float32)
    sparsity, kept = csr(weights)
    sparse = file.tensor(data=weights, stored=kept.tobytes(), sparsity=sparsity)
    then("FULLY_CONNECTED", (7, 3), [sparse, -1], "FullyConnectedOptions")
    content = file.content([source], [here])
    return content, (StaticInput(name=f"t{source}", shape=(2, 3), dtype="float32"),)


def _recurrent() -> tuple[bytes, tuple[StaticInput, ...]]:
    """Return a file with a quantised LSTM: 4-bit and 16-bit scales, states, sizes that must agree."""
    from tests.integration.stages.prepare.tflite.test_recurrent import BATCH, FEATURES, TIME, integer_lstm

    content, source = integer_lstm(np.random.default_rng(3))
    return content, (StaticInput(name=f"t{source}", shape=(BATCH, TIME, FEATURES), dtype="int8"),)


def make(rng: random.Random, folder: Path) -> None:
    """Write model.tflite, and the number of the good file that it was."""
    number = rng.randrange(len(_bases()))
    good = _bases()[number][0]
    data = bytearray(good)
    if rng.random() < 0.7:
        for _ in range(rng.randint(0, 3)):
            at = 4 * rng.randrange(len(data) // 4)
            (value,) = struct.unpack_from("<I", data, at)
            value = rng.choice((*NUMBERS, value + 1, value - 1, value + 4, value * 2, len(data) - at))
            struct.pack_into("<I", data, at, value % 2**32)
        content = bytes(data)
    else:
        content = spoil(rng, bytes(data))
    (folder / "model.tflite").write_bytes(content)
    (folder / "base.json").write_text(json.dumps(number), encoding="utf-8")


def feed(folder: Path) -> bool:
    """Convert to ONNX and make that static."""
    inputs = _bases()[json.loads((folder / "base.json").read_text(encoding="utf-8"))][1]
    content = convert((folder / "model.tflite").read_bytes(), inputs)
    serialise(make_static(content, inputs, read_external=no_external_data))
    return True


KIND = Kind(name="tflite", count=500, make=make, feed=feed)
