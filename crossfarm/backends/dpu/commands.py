"""The command list: what the array is told, and the file that holds it.

A file is a header of HEADER numbers, an entry of PORT numbers for each input and output, COMMAND numbers for each
command, and the CRC-32 of all that: little-endian numbers of 32 bits. runner/dpu/program.c reads it.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
import zlib
from collections.abc import Sequence

from crossfarm.backends.dpu.array import Array
from crossfarm.backends.dpu.layers import LEAST, MOST, Packing, Tensor
from crossfarm.errors import BundleError

MAGIC = 0x55504443
VERSION = 1
HEADER, PORT, COMMAND = 16, 12, 32
MOST_COMMANDS = 1 << 20


class Op(enum.IntEnum):
    """What a command does. The first three are the memory engine's, the others the array's."""

    LOAD = 1
    WEIGHTS = 2
    SAVE = 3
    CONV = 4
    ALU = 5
    LAYER = 6


MEMORY = (Op.LOAD, Op.WEIGHTS, Op.SAVE)


class Alu(enum.IntEnum):
    """What the ALU computes."""

    NONE = 0
    MAX = 1
    AVERAGE = 2
    ADD = 3
    DEPTHWISE = 4
    COPY = 5
    TABLE = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """One command; addresses and lengths are in words, and what a command does not use is 0.

    Attributes:
        op: what it does.
        kind: of an ALU command.
        wait: commands of the other engine that must have ended before it begins.
        low: smallest result.
        high: largest result.
        shift: the sum is divided by 2**shift, and rounded to the nearest, ties to even.
        left_a: the first operand of a sum is multiplied by 2**left_a.
        left_b: the second by 2**left_b.
        memory: address in memory.
        bank: address in the banks, of features or of weights.
        words: that are moved.
        in_address: in the feature banks, of the first row of the tile.
        in_rows: rows of the tile.
        in_width: pixels of a row.
        in_words: words of a pixel.
        in_y: row of the tile at which the first window begins; rows outside of the tile are zero padding.
        in_x: column at which the first window begins.
        out_address: in the feature banks.
        out_rows: rows of the result.
        out_width: pixels of a row.
        out_stride: words from one pixel to the next.
        kernel_y: height of the window, and kernel_x its width.
        stride_y: rows from one window to the next; stride_x columns.
        dilation_y: rows from one row of a window to the next; dilation_x columns.
        second: address of the second operand.
        weights: address in the weight banks; so is bias.
        scale: of a mean over a number that is no power of two, as the bits of a float; 0 where it shifts.
        cycles: how long it takes.
    """

    op: Op
    kind: Alu = Alu.NONE
    wait: int = 0
    low: int = LEAST
    high: int = MOST
    shift: int = 0
    left_a: int = 0
    left_b: int = 0
    memory: int = 0
    bank: int = 0
    words: int = 0
    in_address: int = 0
    in_rows: int = 0
    in_width: int = 0
    in_words: int = 0
    in_y: int = 0
    in_x: int = 0
    out_address: int = 0
    out_rows: int = 0
    out_width: int = 0
    out_stride: int = 0
    kernel_y: int = 1
    kernel_x: int = 1
    stride_y: int = 1
    stride_x: int = 1
    dilation_y: int = 1
    dilation_x: int = 1
    second: int = 0
    weights: int = 0
    bias: int = 0
    scale: int = 0
    cycles: int = 0

    @property
    def is_memory(self) -> bool:
        """Return whether it is the memory engine's."""
        return self.op in MEMORY

    def numbers(self) -> tuple[int, ...]:
        """Return it as it stands in a file."""
        return tuple(int(getattr(self, name)) & 0xFFFFFFFF for name in _FIELDS)


_FIELDS = tuple(field.name for field in dataclasses.fields(Command))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output of the program.

    Attributes:
        address: in memory.
        tensor: as the model has it.
        packing: how an input is laid out in memory; None where pixel stands beside pixel.
        width: pixels of a row in memory.
    """

    address: int
    tensor: Tensor
    packing: Packing | None
    width: int

    def numbers(self) -> tuple[int, ...]:
        """Return it as it stands in a file."""
        how = (0, 0, 0, 0)
        if self.packing is not None:
            how = (self.packing.kernel, self.packing.stride, self.packing.dilation, self.packing.left)
        shape = (self.tensor.channels, self.tensor.height, self.tensor.width)
        return (self.address, *shape, *how, self.width, 0, 0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A command list with all that a run needs to know.

    Attributes:
        array: for which it was made.
        inputs: in the order of the files that a run is given.
        outputs: likewise.
        commands: in an order in which they may run one after the other.
        memory_words: of the memory that it uses.
        constants: what stands at the beginning of memory: weights, biases, tables; empty for shapes alone.
    """

    array: Array
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    commands: tuple[Command, ...]
    memory_words: int
    constants: bytes

    def to_bytes(self) -> bytes:
        """Return the file of the command list."""
        array = self.array
        header = (
            MAGIC,
            VERSION,
            array.pixels,
            array.channels,
            array.alu_pixels,
            array.feature_words,
            array.weight_words,
            self.memory_words,
            len(self.constants) // array.channels,
            array.rate,
            len(self.commands),
            len(self.inputs),
            len(self.outputs),
            0,
            0,
            0,
        )
        numbers: list[int] = list(header)
        for port in (*self.inputs, *self.outputs):
            numbers.extend(port.numbers())
        for command in self.commands:
            numbers.extend(command.numbers())
        content = struct.pack(f"<{len(numbers)}I", *numbers)
        return content + struct.pack("<I", zlib.crc32(content))


def read_commands(content: bytes) -> Sequence[tuple[int, ...]]:
    """Return the numbers of each command of a file, as they stand there.

    Raises:
        BundleError: the file is damaged, or of another version.
    """
    if len(content) < 4 * (HEADER + 1) or len(content) % 4 or zlib.crc32(content[:-4]) != _last(content):
        raise BundleError("the command list is damaged: its checksum is another; make the bundle again")
    numbers = struct.unpack(f"<{len(content) // 4}I", content)
    if numbers[:2] != (MAGIC, VERSION):
        raise BundleError(f"the command list is none of version {VERSION}; make the bundle again")
    first = HEADER + PORT * (numbers[11] + numbers[12])
    if first + COMMAND * numbers[10] + 1 != len(numbers):
        raise BundleError("the command list is not as long as it says; make the bundle again")
    return [numbers[at : at + COMMAND] for at in range(first, len(numbers) - 1, COMMAND)]


def _last(content: bytes) -> int:
    return int(struct.unpack("<I", content[-4:])[0])
