"""A compiled model as data: which functions are called in which order on which tensors. Knows nothing of TVM."""

from __future__ import annotations

import dataclasses
import math

from crossfarm.backends.tvm.arena import Lifetime

DTYPES: dict[str, tuple[int, int]] = {
    "int8": (0, 8),
    "int16": (0, 16),
    "int32": (0, 32),
    "int64": (0, 64),
    "uint8": (1, 8),
    "uint16": (1, 16),
    "uint32": (1, 32),
    "uint64": (1, 64),
    "float16": (2, 16),
    "float32": (2, 32),
    "float64": (2, 64),
    "bool": (6, 8),
}
"""dtype -> DLDataTypeCode of DLPack, and bits."""


def tensor_size(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor."""
    return math.prod(shape) * DTYPES[dtype][1] // 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Memory of one value, seen by one tensor or, after a reshape, by several.

    Attributes:
        size: bytes.
        content: the bytes of a constant, little-endian, C order; None for what is computed.
    """

    size: int
    content: bytes | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorView:
    """A block seen as an array in C order.

    Attributes:
        block: index into Program.blocks.
        dtype: one of DTYPES.
        shape: extents; empty for a scalar.
    """

    block: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return tensor_size(self.dtype, self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """A call of a compiled function.

    Attributes:
        function: its name in the object file, without prefix.
        arguments: indices into Program.tensors: what it reads, then what it writes.
    """

    function: str
    arguments: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramPort:
    """An input or output of the model.

    Attributes:
        name: as the ONNX file has it.
        tensor: index into Program.tensors. Several ports may share one: an output can be an input, or a constant.
    """

    name: str
    tensor: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A straight list of calls.

    Attributes:
        blocks: all memory; constants of equal content are one block.
        tensors: views of it.
        calls: in order.
        inputs: in the model's order; every one has a block of its own.
        outputs: in the model's order.
        storage_size: bytes of the storages that TVM's own planner would use, for comparison.
    """

    blocks: tuple[Block, ...]
    tensors: tuple[TensorView, ...]
    calls: tuple[Call, ...]
    inputs: tuple[ProgramPort, ...]
    outputs: tuple[ProgramPort, ...]
    storage_size: int

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the functions that are called, sorted."""
        return tuple(sorted({call.function for call in self.calls}))

    def lifetimes(self) -> dict[int, Lifetime]:
        """Return block -> lifetime, for the blocks that need a place in the arena.

        Step k is the k-th call. Inputs are alive from step -1, in which they are copied in; outputs until the step
        behind the last call, in which they are copied out. A block that nothing touches has no lifetime.
        """
        first: dict[int, int] = {}
        last: dict[int, int] = {}

        def touch(tensor: int, step: int) -> None:
            block = self.tensors[tensor].block
            if self.blocks[block].content is None:
                first.setdefault(block, step)
                last[block] = step

        for port in self.inputs:
            touch(port.tensor, -1)
        for step, call in enumerate(self.calls):
            for argument in call.arguments:
                touch(argument, step)
        for port in self.outputs:
            touch(port.tensor, len(self.calls))
        return {
            block: Lifetime(size=self.blocks[block].size, first=first[block], last=last[block])
            for block in sorted(first)
        }
