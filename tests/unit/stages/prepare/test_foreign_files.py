"""Files of other frameworks are recognised, and the way from there is told."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.foreign_files import foreign_kind
from crossfarm.stages.prepare.static_onnx import parse
from crossfarm.stages.prepare.tflite.reader import read_tflite


def _zip(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return target.getvalue()


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.mark.parametrize(
    ("content", "way"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), r"a Keras model; export it in Keras 3 with `model\.export\('net\.onnx'"),
        (_zip("metadata.json", "config.json", "model.weights.h5"), "a Keras model"),
        (_zip("net/saved_model.pb", "net/variables/variables.index"), "TensorFlow SavedModel.*tf2onnx"),
        (b"\x08\x01\x12\x90\x03\x0a\x10\x2a\x05serve" + bytes(50), "TensorFlow SavedModel"),
        (_zip("net/data.pkl", "net/version", "net/data/0"), "a PyTorch file; give `format: torch`"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch file"),
        (_safetensors(), "safetensors form, without the network; give `format: torch`"),
        (b"ML\xefR\x0dStableHLO_v1.8.0" + bytes(20), "StableHLO module, as JAX exports it"),
        (b"\x81\xa6params\x82\xa7Dense_0\x82", "as Flax writes them"),
        (_zip("readme.txt"), "a zip archive"),
    ],
)
def test_a_foreign_file_is_told_the_way(content: bytes, way: str) -> None:
    with pytest.raises(ModelError, match=f"the file is not an ONNX model .* but .*{way}"):
        parse(content)
    with pytest.raises(ModelError, match=f"the file is not a TFLite model .* but .*{way}"):
        read_tflite(content)


def test_a_tflite_file_that_is_called_onnx_is_told_its_format() -> None:
    with pytest.raises(ModelError, match="a TFLite file; say `format: tflite`"):
        parse(b"\x1c\x00\x00\x00TFL3" + bytes(40))


@pytest.mark.parametrize("content", [b"", b"\x08", b"not a model at all", b"PK\x03\x04 and then nothing"])
def test_what_is_not_recognised_is_no_other_framework(content: bytes) -> None:
    assert foreign_kind(content) in (None, "a zip archive; name the file inside of it, or unpack it")


def test_weights_whose_header_is_as_long_as_a_pickle_begins_are_safetensors() -> None:
    padded = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(0x280)
    content = len(padded).to_bytes(8, "little") + padded + bytes(4)
    assert content.startswith(b"\x80\x02")
    assert "safetensors form" in (foreign_kind(content) or "")
