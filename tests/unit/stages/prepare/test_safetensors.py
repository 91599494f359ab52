"""Weights in safetensors form: good files are read, hostile ones refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.safetensors import is_safetensors, read_safetensors


def _file(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _entry(shape: Any, begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((), np.float32)}
GOOD = _file(
    {"__metadata__": {"format": "pt"}, "a.weight": _entry([2, 3], 0, 24), "b": _entry([], 24, 28)},
    b"".join(array.tobytes() for array in ARRAYS.values()),
)


def test_tensors_are_found_with_type_shape_and_place() -> None:
    assert is_safetensors(GOOD)
    found = read_safetensors(GOOD)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        tensor = found[name]
        values = np.frombuffer(GOOD[tensor.begin : tensor.end], np.float32).reshape(tensor.shape)
        np.testing.assert_array_equal(values, array)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its header has 0 bytes, the file 0"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "its header has"),
        (_file(b"{" * 50, b""), "its header is no JSON"),
        (_file(b"[" * 100_000, b""), "its header is no JSON"),
        (_file(b'{"a": 1, "a": 2}', b""), "a name is given twice"),
        (_file([1], b""), "its header is no object"),
        (_file({"a": {"dtype": "F32"}}, b""), "does not have dtype, shape and data_offsets"),
        (_file({"a": _entry([1], 0, 4, "F7")}, bytes(4)), "of the type 'F7', which is not known"),
        (_file({"a": _entry([-1], 0, 4)}, bytes(4)), "not lists of sizes"),
        (_file({"a": _entry([1.0], 0, 4)}, bytes(4)), "not lists of sizes"),
        (_file({"a": _entry([True], 0, 4)}, bytes(4)), "not lists of sizes"),
        (_file({"a": _entry([1] * 65, 0, 4)}, bytes(4)), "not lists of sizes"),
        (_file({"a": _entry([2], 0, 4)}, bytes(4)), "has 4 bytes, which do not fit its shape"),
        (_file({"a": _entry([1], 4, 8)}, bytes(8)), "not behind the one before it"),
        (_file({"a": _entry([1], 0, 4), "b": _entry([1], 0, 4)}, bytes(4)), "not behind the one before it"),
        (_file({"a": _entry([1], 0, 4)}, bytes(8)), "its tensors end at byte"),
        (_file({"a": _entry([1 << 40, 1 << 40], 0, 4)}, bytes(4)), "do not fit its shape"),
        (GOOD[:-1], "its tensors end at byte"),
    ],
)
def test_a_hostile_file_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ModelError, match=f"the safetensors file is damaged: .*{reason}"):
        read_safetensors(content)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_byte_raises_nothing_but_a_model_error(place: int, value: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] = value
    try:
        tensors = read_safetensors(bytes(damaged))
    except ModelError:
        return
    assert all(0 <= tensor.begin <= tensor.end <= len(damaged) for tensor in tensors.values())
