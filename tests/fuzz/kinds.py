"""All kinds of hostile input by name."""

from __future__ import annotations

import importlib

from tests.fuzz.harness import Kind

_MODULES = {
    "yaml": "yaml_files",
    "onnx": "onnx_files",
    "tflite": "tflite_files",
    "archives": "archive_files",
    "bundles": "bundle_files",
}
NAMES = tuple(_MODULES)


def load(name: str) -> Kind:
    """Return a kind; what it imports is heavy for some."""
    kind: Kind = importlib.import_module(f"tests.fuzz.{_MODULES[name]}").KIND
    return kind
