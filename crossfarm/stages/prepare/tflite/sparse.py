"""Fills up sparse constants of TFLite files.

Format: tensorflow/lite/schema/schema.fbs, `SparsityParameters`: the axes of the tensor, then those of its blocks, are
walked in `traversal_order`; each is dense, or has in CSR form the indices that are there below each entry of the axis
before it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

_VECTORS = {
    tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
    tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
    tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
}
ELEMENTS_LIMIT = 1 << 28
"""The most elements of all tensors of a file that are filled up: a small file may claim large ones."""
_LEVELS_LIMIT = 16
"""The most axes of a tensor and of its blocks; a place is as many numbers."""


class DenseSizeError(ValueError):
    """A sparse tensor would become too large, or its indices do not fit its shape."""


@dataclasses.dataclass(kw_only=True)
class DenseBudget:
    """How many elements may still be filled up, of all tensors of a file.

    Attributes:
        elements: that are left.
    """

    elements: int = ELEMENTS_LIMIT

    def take(self, count: int, *, what: str) -> None:
        """Use up a part of it.

        Raises:
            DenseSizeError: not so much is left.
        """
        if count > self.elements:
            raise DenseSizeError(f"{what} is too large: all of a file may have {ELEMENTS_LIMIT} elements unpacked")
        self.elements -= count


def read_sparse(sparsity: Any, stored: NDArray[Any], shape: tuple[int, ...], *, budget: DenseBudget) -> NDArray[Any]:
    """Return all values of a sparse tensor, zeros where nothing is stored.

    Args:
        sparsity: of the schema's class `SparsityParameters`.
        stored: the stored values, one axis.
        shape: of the tensor.
        budget: of the file that the tensor is from.

    Raises:
        DenseSizeError: the tensor is too large, or what is stored does not fit the shape.
    """
    order = [int(axis) for axis in _array(sparsity.TraversalOrderAsNumpy())]
    blocked = [int(axis) for axis in _array(sparsity.BlockMapAsNumpy())]
    levels = sparsity.DimMetadataLength()
    known = min(shape, default=0) >= 0 and all(0 <= axis < len(shape) for axis in blocked)
    known = known and len(set(blocked)) == len(blocked)
    fits = sorted(order) == list(range(len(shape) + len(blocked))) and levels == len(order) <= _LEVELS_LIMIT
    if not known or not fits:
        raise DenseSizeError("the axes of a sparse tensor do not fit its shape")
    budget.take(math.prod(shape), what=f"a sparse tensor of shape {list(shape)}")
    metadata = [sparsity.DimMetadata(level) for level in range(levels)]
    # No axis can have more places than there are values, or segments for them in the file.
    limit = max(
        len(stored), *(len(_indices(level.ArraySegmentsType(), level.ArraySegments())) for level in metadata), 1
    )
    positions = np.zeros((1, 0), np.int64)
    for level in metadata:
        positions = _descend(level, positions, limit=limit)
    if len(positions) != len(stored):
        raise DenseSizeError(f"a sparse tensor stores {len(stored)} values for {len(positions)} places")
    return _filled(positions, order, blocked, metadata, stored, shape)


def _descend(level: Any, positions: NDArray[np.int64], *, limit: int) -> NDArray[np.int64]:
    """Return the positions with the indices of one more axis behind them."""
    if level.Format() == tflite.DimensionType.DENSE:
        size = level.DenseSize()
        if size < 0 or len(positions) * size > limit:
            raise DenseSizeError("a sparse tensor has more places than values")
        inner = np.tile(np.arange(size), len(positions))
        return np.column_stack([np.repeat(positions, size, axis=0), inner])
    segments = _indices(level.ArraySegmentsType(), level.ArraySegments())
    indices = _indices(level.ArrayIndicesType(), level.ArrayIndices())
    counts = np.diff(segments)
    fits = len(segments) == len(positions) + 1 and segments[0] == 0 and counts.min(initial=0) >= 0
    if not fits or counts.sum() != len(indices) or len(indices) > limit:
        raise DenseSizeError("the segments of a sparse tensor do not fit its indices")
    return np.column_stack([np.repeat(positions, counts, axis=0), indices])


def _filled(  # noqa: PLR0917
    positions: NDArray[np.int64],
    order: list[int],
    blocked: list[int],
    metadata: list[Any],
    stored: NDArray[Any],
    shape: tuple[int, ...],
) -> NDArray[Any]:
    """Put the values to their places; an index of an axis with blocks is block times its size plus the index inside."""
    columns = {axis: positions[:, level] for level, axis in enumerate(order)}
    for inner, axis in enumerate(blocked):
        size = metadata[order.index(len(shape) + inner)].DenseSize()
        if not 0 < size <= max(shape[axis], 1):
            raise DenseSizeError(f"a block of a sparse tensor has {size} of the {shape[axis]} places of its axis")
        columns[axis] = columns[axis] * size + columns[len(shape) + inner]
    flat = np.zeros(len(stored), np.int64)
    for axis, extent in enumerate(shape):
        if len(stored) and (columns[axis].min() < 0 or columns[axis].max() >= extent):
            raise DenseSizeError("an index of a sparse tensor lies outside of its shape")
        flat = flat * extent + columns[axis]
    dense = np.zeros(math.prod(shape), stored.dtype)
    dense[flat] = stored
    return dense.reshape(shape)


def _indices(kind: int, table: Any) -> NDArray[np.int64]:
    if kind not in _VECTORS or table is None:
        return np.zeros(0, np.int64)
    vector = _VECTORS[kind]()
    vector.Init(table.Bytes, table.Pos)
    return _array(vector.ValuesAsNumpy())


def _array(values: Any) -> NDArray[np.int64]:
    return np.asarray(values, np.int64) if isinstance(values, np.ndarray) else np.zeros(0, np.int64)
