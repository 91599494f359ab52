"""Reads weights in the safetensors form: a length, a JSON header, then the numbers of all tensors one behind the other.

Format: https://github.com/huggingface/safetensors#format. Nothing in such a file is run.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from crossfarm.errors import ModelError
from crossfarm.util.text import one_line

HEADER_LIMIT = 100_000_000
"""The most bytes of a header, as in the format's own library."""
_RANK_LIMIT = 64
_METADATA = "__metadata__"
ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
"""Type of elements in the format's own words -> bytes of one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor of the file.

    Attributes:
        dtype: one of ITEM_BYTES.
        shape: extents.
        begin: where its first byte stands in the file.
        end: where the byte behind its last one stands.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def is_safetensors(head: bytes, size: int | None = None) -> bool:
    """Say whether a file begins as one of this form does: a length that fits, then a JSON object.

    Args:
        head: the file, or at least its first nine bytes.
        size: of the whole file, where `head` is not all of it.
    """
    length = len(head) if size is None else size
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= length - 8


def read_safetensors(content: bytes) -> dict[str, StoredTensor]:
    """Return the tensors of a file by name, in its order.

    Raises:
        ModelError: the file is damaged or was made to mislead: a header that is too long or no JSON, an unknown type, a
            shape that does not fit its bytes, or bytes outside of the file, shared by two tensors or left over.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 10 or length > min(len(content) - 8, HEADER_LIMIT):
        raise _damaged(f"its header has {length} bytes, the file {len(content)}")
    try:
        header = json.loads(content[8 : 8 + length], object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"its header is no JSON: {one_line(str(error), 200)}") from error
    if not isinstance(header, dict):
        raise _damaged("its header is no object")
    start = 8 + length
    tensors = {name: _read_entry(name, entry, start) for name, entry in header.items() if name != _METADATA}
    place = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != place:
            raise _damaged(f"tensor {_shown(name)} begins at byte {tensor.begin}, not behind the one before it")
        place = tensor.end
    if place != len(content):
        raise _damaged(f"its tensors end at byte {place} of {len(content)}")
    return tensors


def _read_entry(name: str, entry: Any, start: int) -> StoredTensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(f"tensor {_shown(name)} does not have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _damaged(f"tensor {_shown(name)} is of the type {_shown(str(dtype))}, which is not known")
    if not _are_sizes(shape) or len(shape) > _RANK_LIMIT or not _are_sizes(offsets) or len(offsets) != 2:
        raise _damaged(f"shape or data_offsets of tensor {_shown(name)} are not lists of sizes")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise _damaged(f"tensor {_shown(name)} has {end - begin} bytes, which do not fit its shape")
    return StoredTensor(dtype=dtype, shape=tuple(shape), begin=start + begin, end=start + end)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)


def _without_repeats(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _shown(name: str) -> str:
    return repr(one_line(name, 100))


def _damaged(reason: str) -> ModelError:
    return ModelError(f"the safetensors file is damaged: {reason}; fetch it again")
