"""Data that is neither a picture nor audio: the bytes of files, and texts as tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossfarm.config.samples import ByteWindow, Files, Tokens, TokenWindow
from crossfarm.stages.data.datasets import label_of, listed_files, matching_files, read_listed

Row = tuple[str, NDArray[np.float32], int | str | None]
"""Name, numbers of the input, label."""

_BLOCK = 4096
_BLANKS = b" \t\n\r\x0b\x0c"


def file_rows(dataset: Files, location: Path, window: ByteWindow) -> Iterator[Row]:
    """Yield the files of a wheel, of another zip archive or of a folder that a glob matches, sorted by path.

    Raises:
        ConfigError: nothing matches, a file is too large, or a path gives no label.
    """
    where = f"dataset {dataset.name}"
    files = listed_files(location, where=where)
    for name in matching_files(files, dataset.globs, limit=dataset.limit, location=location, where=where):
        content = read_listed(location, name, size=files[name], where=where)
        label = None if dataset.label is None else label_of(name, dataset.label, where)
        yield name, byte_window(content, window), label


def byte_window(content: bytes, window: ByteWindow) -> NDArray[np.float32]:
    """Return the first and the last bytes of a file as numbers, shape (head + tail,)."""
    first, last = content[:_BLOCK], content[-_BLOCK:]
    if window.strip:
        first, last = first.lstrip(_BLANKS), last.rstrip(_BLANKS)
    head, tail = first[: window.head], last[-window.tail :]
    numbers = np.full(window.head + window.tail, window.padding, np.float32)
    numbers[: len(head)] = np.frombuffer(head, np.uint8)
    numbers[len(numbers) - len(tail) :] = np.frombuffer(tail, np.uint8)
    return numbers


def token_rows(dataset: Tokens, window: TokenWindow) -> Iterator[Row]:
    """Yield the texts of a data set, each cut or filled to the window's length."""
    for row in dataset.rows:
        tokens = row.tokens[: window.length]
        numbers = np.full(window.length, window.padding, np.float32)
        numbers[: len(tokens)] = tokens
        yield row.text, numbers, row.label
