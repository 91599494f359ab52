"""Recognises files of other frameworks, and says how a model gets from there to a format that is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

from crossfarm.stages.prepare.safetensors import is_safetensors

_SHOWN_FILES = 2000
"""So many names of an archive are looked at."""
_KERAS = (
    "a Keras model; export it in Keras 3 with `model.export('net.onnx', format='onnx')` and give `format: onnx`, or "
    "with `tf.lite.TFLiteConverter.from_keras_model(model)` and give `format: tflite`"
)
_SAVED_MODEL = (
    "a TensorFlow SavedModel or graph; convert its folder with `python -m tf2onnx.convert --saved-model FOLDER "
    "--output net.onnx` and give `format: onnx`, or with `tf.lite.TFLiteConverter.from_saved_model(FOLDER)` and give "
    "`format: tflite`"
)
_TORCH = (
    "a PyTorch file; give `format: torch` with a factory as the source and this file as its `state`, or export it with "
    "`torch.onnx.export(module, inputs, 'net.onnx', dynamo=True)` and give `format: onnx`"
)
_SAFETENSORS = (
    "weights in safetensors form, without the network; give `format: torch` with a factory as the source and this file "
    "as its `state`"
)
_JAX = (
    "a StableHLO module, as JAX exports it; export the function with `jax2onnx.to_onnx(...)` and give `format: onnx`, "
    "or by `jax2tf` and `tf.lite.TFLiteConverter.from_concrete_functions(...)` and give `format: tflite`"
)
_FLAX = (
    "weights in MessagePack form, as Flax writes them, without the network; export the function from JAX to ONNX "
    "(`jax2onnx.to_onnx(...)`) or TFLite"
)
_TFLITE = "a TFLite file; say `format: tflite`"
_OTHER_ARCHIVE = "a zip archive; name the file inside of it, or unpack it"


def foreign_kind(content: bytes) -> str | None:
    """Return what a file is that is no ONNX model, and what to do with it; None when that is not recognised.

    Args:
        content: of the file; nothing of it is unpacked or run.
    """
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive_kind(content)
    return next((kind for recognises, kind in _BY_BYTES if recognises(content)), None)


def _archive_kind(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()[:_SHOWN_FILES]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return _OTHER_ARCHIVE
    if any(name.endswith((".weights.h5", "keras_metadata.pb")) for name in names):
        return _KERAS
    if any(name.endswith("saved_model.pb") for name in names):
        return _SAVED_MODEL
    if any(name.endswith(("data.pkl", "/version", "model.json", ".pt2")) for name in names):
        return _TORCH
    return _OTHER_ARCHIVE


def _is_saved_model(content: bytes) -> bool:
    """The version of its schema, 1, comes first, then its graphs with their tags."""
    return content.startswith(b"\x08\x01\x12") and b"serve" in content[:65536]


def _is_flax(content: bytes) -> bool:
    """MessagePack's mapping of less than 16 entries, one of which is `params`."""
    return content[:1] > b"\x80" and content[:1] < b"\x90" and b"params" in content[:64]


_BY_BYTES: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda content: content[4:8] == b"TFL3", _TFLITE),
    (lambda content: content.startswith(b"\x89HDF\r\n\x1a\n"), _KERAS),
    (lambda content: content.startswith(b"ML\xefR"), _JAX),
    (is_safetensors, _SAFETENSORS),
    # A pickle, PyTorch's oldest form: its protocol, then its magic number.
    (lambda content: content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), _TORCH),
    (_is_saved_model, _SAVED_MODEL),
    (_is_flax, _FLAX),
)
