"""Opens ONNX Runtime where it finds no files: a model may name some, and it looks for them in the current folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

EXACT = "exact.onnx"
"""Beside a prepared model whose extents depend on data: the same outputs with their true ones."""


def open_session(content: bytes, options: Any) -> Any:
    """Return an onnxruntime.InferenceSession on the CPU, opened in an empty folder.

    Args:
        content: an ONNX file.
        options: onnxruntime.SessionOptions; paths in it are absolute.

    Raises:
        Exception: whatever ONNX Runtime raises; its errors share no base class of their own.
    """
    import onnxruntime

    with in_empty_folder():
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def in_empty_folder() -> Iterator[None]:
    """Make an empty folder the current one of this process for a while."""
    with tempfile.TemporaryDirectory(prefix="crossfarm-empty-") as folder, contextlib.chdir(folder):
        yield
