"""Tensors in files: all cases of one input or output stacked, C order, little-endian, nothing else in the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfarm.errors import BundleError

Array = NDArray[Any]


def little_endian(dtype: str) -> np.dtype[Any]:
    """Return NumPy's little-endian dtype for one of config.models.DType: `float32`, `bool` ..."""
    return np.dtype(dtype).newbyteorder("<")


def write_stacked(path: Path, cases: Iterable[Array], *, dtype: str) -> None:
    """Write the cases of one tensor one behind the other.

    Args:
        path: the file to create.
        cases: arrays of one shape.
        dtype: one of config.models.DType.
    """
    with path.open("wb") as stream:
        for case in cases:
            stream.write(np.ascontiguousarray(case, dtype=little_endian(dtype)).tobytes())


def read_stacked(path: Path, *, dtype: str, shape: tuple[int, ...], cases: int) -> Array:
    """Read what `write_stacked` or the runner wrote.

    Args:
        path: the file.
        dtype: one of config.models.DType.
        shape: shape of one case.
        cases: number of cases.

    Returns:
        An array of shape (cases, *shape).

    Raises:
        BundleError: the file is missing, or its size is not that of so many cases.
    """
    kind = little_endian(dtype)
    expected = cases * math.prod(shape) * kind.itemsize
    found = path.stat().st_size if path.is_file() else -1
    if found != expected:
        what = f"has {found} bytes instead of {expected}" if found >= 0 else "is missing"
        raise BundleError(
            f"{path.parent.name}/{path.name} {what} ({cases} cases of {dtype} {list(shape)}); "
            "the run that wrote it did not end: run it again"
        )
    return np.fromfile(path, dtype=kind).reshape(cases, *shape)
