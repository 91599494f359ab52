"""Sparse constants are filled up within bounds; LiteRT's own are tried among the integration tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tflite
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.stages.prepare.tflite.sparse import ELEMENTS_LIMIT, DenseBudget, DenseSizeError, read_sparse


@dataclasses.dataclass(frozen=True)
class _Level:
    """An axis that is stored as a whole, as the schema's class `DimensionMetadata` has it."""

    size: int

    def Format(self) -> int:
        return int(tflite.DimensionType.DENSE)

    def DenseSize(self) -> int:
        return self.size

    def __getattr__(self, name: str) -> Any:
        return lambda: None


@dataclasses.dataclass(frozen=True)
class _Sparsity:
    """The schema's class `SparsityParameters`, of axes that are all stored as a whole."""

    order: Sequence[int]
    blocked: Sequence[int]
    sizes: Sequence[int]

    def TraversalOrderAsNumpy(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.order, np.int32)

    def BlockMapAsNumpy(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.blocked, np.int32)

    def DimMetadataLength(self) -> int:
        return len(self.sizes)

    def DimMetadata(self, level: int) -> _Level:
        return _Level(self.sizes[level])


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), block=st.integers(1, 3))
def test_blocks_of_columns_come_to_their_places(rows: int, columns: int, block: int) -> None:
    expected = np.arange(rows * columns * block, dtype=np.float32).reshape(rows, columns * block)
    stored = expected.reshape(rows, columns, block).transpose(1, 0, 2).reshape(-1)
    sparsity = _Sparsity(order=[1, 0, 2], blocked=[1], sizes=[columns, rows, block])
    found = read_sparse(sparsity, stored, expected.shape, budget=DenseBudget())
    np.testing.assert_array_equal(found, expected)


def test_all_tensors_of_a_file_share_what_may_be_filled_up() -> None:
    budget = DenseBudget(elements=10)
    sparsity, stored = _Sparsity(order=[0, 1], blocked=[], sizes=[2, 3]), np.zeros(6, np.float32)
    read_sparse(sparsity, stored, (2, 3), budget=budget)
    with pytest.raises(DenseSizeError, match=rf"shape \[2, 3\] is too large: .* {ELEMENTS_LIMIT} elements"):
        read_sparse(sparsity, stored, (2, 3), budget=budget)


@pytest.mark.parametrize(
    ("sparsity", "shape"),
    [
        (_Sparsity(order=[0, 1, 2], blocked=[0, 0], sizes=[1, 1, 1]), (1,)),
        (_Sparsity(order=[0, 1], blocked=[0], sizes=[1, 9]), (3,)),
        (_Sparsity(order=[0, 1], blocked=[0], sizes=[1, 0]), (3,)),
        (_Sparsity(order=[0], blocked=[], sizes=[1]), (-1,)),
        (_Sparsity(order=list(range(40)), blocked=[], sizes=[1] * 40), (1,) * 40),
    ],
    ids=["twice", "wider", "empty", "negative", "deep"],
)
def test_axes_and_blocks_that_no_tensor_has_are_refused(sparsity: _Sparsity, shape: tuple[int, ...]) -> None:
    budget = DenseBudget()
    with pytest.raises(DenseSizeError):
        read_sparse(sparsity, np.zeros(int(np.prod(sparsity.sizes)), np.float32), shape, budget=budget)
    assert budget.elements <= ELEMENTS_LIMIT
