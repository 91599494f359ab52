"""What runs on the array: layers between tensors of 8 bits, with or without the numbers of their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Kind = Literal["conv", "depthwise", "max", "average", "add", "concat", "table"]
LEAST, MOST = -128, 127
"""Numbers of 8 bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of one image: channels x height x width."""

    channels: int
    height: int = 1
    width: int = 1

    @property
    def size(self) -> int:
        """Return its numbers."""
        return self.channels * self.height * self.width


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
    """How an input with few channels is laid out: all that a kernel's row reads of it stands side by side.

    Attributes:
        tensor: as the model has it.
        kernel: width of the kernel.
        stride: along the row.
        dilation: along the row.
        left: columns of zeros before the first.
    """

    tensor: Tensor
    kernel: int
    stride: int
    dilation: int
    left: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer.

    Attributes:
        name: of the node that it was.
        kind: what it computes.
        inputs: names of tensors.
        output: name of its tensor.
        kernel: height and width of the window.
        stride: height and width.
        dilation: height and width.
        padding: rows above and columns left; below and right follow from the output's extents.
        shift: the sum is divided by 2**shift and rounded to the nearest, ties to even; may be negative.
        lefts: inputs of a sum are first multiplied by 2**left, one for each; of a concatenation the shift of each.
        low: results below are cut off, in steps of the output.
        high: results above are cut off.
        multiplier: of a mean over a number that is no power of two; the shift says nothing then.
        weights: int8, shape (output channels, input channels, height, width); depthwise (channels, 1, height, width).
        bias: int32, one for each output channel.
        table: of a function of one number: int8, for 0 to 127, then for -128 to -1.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    output: str
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    shift: int = 0
    lefts: tuple[int, ...] = ()
    low: int = LEAST
    high: int = MOST
    multiplier: float = 0.0
    weights: Array | None = None
    bias: Array | None = None
    table: Array | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """Layers in an order in which they can run, and the tensors between them."""

    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    packings: Mapping[str, Packing] = dataclasses.field(default_factory=dict)

    def macs(self, layer: Layer) -> int:
        """Return the multiply-accumulates of a layer, without those that channels are filled up with."""
        out = self.tensors[layer.output]
        window = layer.kernel[0] * layer.kernel[1] * out.size
        if layer.kind == "depthwise":
            return window
        return window * self.tensors[layer.inputs[0]].channels if layer.kind == "conv" else 0

    def parameters(self, layer: Layer) -> int:
        """Return the bytes of weights and biases of a layer."""
        if layer.kind not in ("conv", "depthwise"):
            return 256 if layer.kind == "table" else 0
        channels = self.tensors[layer.output].channels
        fed = self.tensors[layer.inputs[0]].channels if layer.kind == "conv" else 1
        return channels * (fed * layer.kernel[0] * layer.kernel[1] + 4)

    def total_macs(self) -> int:
        """Return the multiply-accumulates of a run."""
        return sum(map(self.macs, self.layers))


def packed(network: Network, *, channels: int) -> Network:
    """Return the network with its inputs laid out so that few channels do not leave the array idle.

    What a kernel's row reads becomes the channels of one pixel; the kernel is one column wide then. Only for an input
    that one convolution alone reads.

    Args:
        network: as the model has it.
        channels: of a word.
    """
    users: dict[str, list[Layer]] = {}
    for layer in network.layers:
        for name in layer.inputs:
            users.setdefault(name, []).append(layer)
    tensors, packings, replaced = dict(network.tensors), {}, {}
    for name in network.inputs:
        using, tensor = users.get(name, []), tensors[name]
        if len(using) != 1 or using[0].kind != "conv" or using[0].kernel[1] == 1 or tensor.channels >= channels:
            continue
        (layer,) = using
        wide = layer.kernel[1]
        packings[name] = Packing(
            tensor=tensor, kernel=wide, stride=layer.stride[1], dilation=layer.dilation[1], left=layer.padding[1]
        )
        width = tensors[layer.output].width
        tensors[name] = Tensor(channels=tensor.channels * wide, height=tensor.height, width=width)
        weights = layer.weights
        if weights is not None:
            count, _, tall, _ = weights.shape
            weights = weights.transpose(0, 3, 1, 2).reshape(count, wide * tensor.channels, tall, 1)
        replaced[layer.name] = dataclasses.replace(
            layer,
            kernel=(layer.kernel[0], 1),
            stride=(layer.stride[0], 1),
            dilation=(layer.dilation[0], 1),
            padding=(layer.padding[0], 0),
            weights=weights,
        )
    layers = tuple(replaced.get(layer.name, layer) for layer in network.layers)
    return dataclasses.replace(network, tensors=tensors, layers=layers, packings=packings)
