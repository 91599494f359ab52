"""The commands of one layer: one for each group of output channels of a convolution, else one for all channels."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from crossfarm.backends.dpu.array import Array
from crossfarm.backends.dpu.commands import Alu, Command, Op
from crossfarm.backends.dpu.layers import Layer, Network

_KINDS = {"max": Alu.MAX, "average": Alu.AVERAGE, "depthwise": Alu.DEPTHWISE, "table": Alu.TABLE, "add": Alu.ADD}
_BIAS_BYTES = 4
TABLE_BYTES = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operand:
    """What a tile reads of an input: where it lies, its extents in words, and where the first window begins."""

    address: int
    rows: int
    width: int
    words: int
    top: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """Rows of a result: the first, how many, and where they go."""

    first: int
    rows: int
    address: int
    width: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A command of a layer before it is known where its tile lies.

    Attributes:
        layer: of which.
        op: of the command.
        kind: likewise.
        inputs: which of the layer's inputs it reads.
        constant_words: of its weights and biases, or its table.
        bias_at: words behind the weights' first at which biases begin.
        constants: those words; None where only shapes are known.
        out_offset: words behind a pixel's first that it writes.
        out_words: words of a pixel that it writes.
        out_stride: words of a pixel.
        shift: see Layer.
    """

    layer: Layer
    op: Op
    kind: Alu
    inputs: tuple[str, ...]
    constant_words: int
    bias_at: int
    constants: bytes | None
    out_offset: int
    out_words: int
    out_stride: int
    shift: int

    def command(self, tile: Tile, operands: Sequence[Operand], weights: int) -> Command:
        """Return the command for a tile.

        Args:
            tile: of the output.
            operands: what is read of each of `inputs`.
            weights: where the constants lie in the weight banks.
        """
        layer, first = self.layer, operands[0]
        lefts = layer.lefts if self.kind == Alu.ADD else (0, 0)
        return Command(
            op=self.op,
            kind=self.kind,
            low=layer.low,
            high=layer.high,
            shift=self.shift,
            left_a=lefts[0],
            left_b=lefts[1],
            in_address=first.address,
            in_rows=first.rows,
            in_width=first.width,
            in_words=first.words,
            in_y=first.top,
            in_x=-layer.padding[1],
            out_address=tile.address + self.out_offset,
            out_rows=tile.rows,
            out_width=tile.width,
            out_stride=self.out_stride,
            kernel_y=layer.kernel[0],
            kernel_x=layer.kernel[1],
            stride_y=layer.stride[0],
            stride_x=layer.stride[1],
            dilation_y=layer.dilation[0],
            dilation_x=layer.dilation[1],
            second=operands[1].address if self.kind == Alu.ADD else 0,
            weights=weights,
            bias=weights + self.bias_at,
            scale=struct.unpack("<I", struct.pack("<f", layer.multiplier))[0],
        )


def steps_of(layer: Layer, network: Network, array: Array) -> Iterator[Step]:
    """Yield the commands of a layer.

    Args:
        layer: one of the network's.
        network: whose tensors it reads and writes.
        array: for which.
    """
    out_words = array.words(network.tensors[layer.output].channels)
    in_words = array.words(network.tensors[layer.inputs[0]].channels)
    whole = Step(
        layer=layer,
        op=Op.ALU,
        kind=_KINDS.get(layer.kind, Alu.NONE),
        inputs=layer.inputs,
        constant_words=0,
        bias_at=0,
        constants=None,
        out_offset=0,
        out_words=out_words,
        out_stride=out_words,
        shift=layer.shift,
    )
    if layer.kind == "conv":
        lines = layer.kernel[0] * layer.kernel[1] * in_words
        words = lines * array.channels
        for group in range(out_words):
            yield dataclasses.replace(
                whole,
                op=Op.CONV,
                constant_words=words + _BIAS_BYTES,
                bias_at=words,
                constants=_convolution_constants(layer, group, in_words, array.channels),
                out_offset=group,
                out_words=1,
            )
    elif layer.kind == "depthwise":
        words = layer.kernel[0] * layer.kernel[1] * in_words
        yield dataclasses.replace(
            whole,
            constant_words=words + _BIAS_BYTES * in_words,
            bias_at=words,
            constants=_depthwise_constants(layer, in_words, array.channels),
        )
    elif layer.kind == "table":
        words = -(-TABLE_BYTES // array.channels)
        table = None if layer.table is None else layer.table.tobytes().ljust(words * array.channels, b"\0")
        yield dataclasses.replace(whole, constant_words=words, constants=table)
    elif layer.kind == "concat":
        offset = 0
        for name, shift in zip(layer.inputs, layer.lefts, strict=True):
            words = array.words(network.tensors[name].channels)
            yield dataclasses.replace(
                whole, kind=Alu.COPY, inputs=(name,), out_offset=offset, out_words=words, shift=shift
            )
            offset += words
    else:
        yield whole


def _convolution_constants(layer: Layer, group: int, in_words: int, channels: int) -> bytes | None:
    """Return the weights of one group, [row][column][word][output channel][input channel], and its biases."""
    if layer.weights is None:
        return None
    import numpy as np

    some = layer.weights[group * channels : (group + 1) * channels]
    count, fed, tall, wide = some.shape
    filled = np.zeros((channels, in_words * channels, tall, wide), np.int8)
    filled[:count, :fed] = some
    lines = filled.reshape(channels, in_words, channels, tall, wide).transpose(3, 4, 1, 0, 2)
    return lines.tobytes() + _biases(layer.bias, group * channels, channels)


def _depthwise_constants(layer: Layer, words: int, channels: int) -> bytes | None:
    """Return the weights, [row][column][channel], and the biases of all channels."""
    if layer.weights is None:
        return None
    import numpy as np

    count, _, tall, wide = layer.weights.shape
    filled = np.zeros((words * channels, tall, wide), np.int8)
    filled[:count] = layer.weights[:, 0]
    return filled.transpose(1, 2, 0).tobytes() + _biases(layer.bias, 0, words * channels)


def _biases(bias: Any, first: int, count: int) -> bytes:
    import numpy as np

    filled = np.zeros(count, "<i4")
    if bias is not None:
        some = bias[first : first + count]
        filled[: len(some)] = some
    return filled.tobytes()
