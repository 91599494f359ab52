"""Hostile TFLite files: a good one with changed bytes, offsets and numbers, converted as `prepare` does."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from crossfarm.stages.prepare.external_data import no_external_data
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise
from crossfarm.stages.prepare.tflite.graph import convert
from tests.fuzz.harness import Kind
from tests.fuzz.spoiling import NUMBERS, spoil
from tests.unit.stages.prepare.tflite.test_reader import GOOD

INPUT = StaticInput(name="image", shape=(1, 4, 4, 6), dtype="int8", value=None)


def make(rng: random.Random, folder: Path) -> None:
    """Write model.tflite."""
    data = bytearray(GOOD)
    if rng.random() < 0.7:
        for _ in range(rng.randint(0, 3)):
            at = 4 * rng.randrange(len(data) // 4)
            (number,) = struct.unpack_from("<I", data, at)
            number = rng.choice((*NUMBERS, number + 1, number - 1, number + 4, number * 2, len(data) - at))
            struct.pack_into("<I", data, at, number % 2**32)
        content = bytes(data)
    else:
        content = spoil(rng, bytes(data))
    (folder / "model.tflite").write_bytes(content)


def feed(folder: Path) -> bool:
    """Convert to ONNX and make that static."""
    content = convert((folder / "model.tflite").read_bytes(), [INPUT])
    serialise(make_static(content, [INPUT], read_external=no_external_data))
    return True


KIND = Kind(name="tflite", count=500, make=make, feed=feed)
