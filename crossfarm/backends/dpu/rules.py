"""Which layers the array takes: AMD's published limits (UG1414 3.5, DPUCZDX8G), and the few of this array's own.

A layer that breaks one stays on the CPU, and the report says which rule it broke, with the number that broke it.
"""

from __future__ import annotations

from crossfarm.backends.dpu.array import Array
from crossfarm.backends.dpu.layers import Layer, Network

MOST_KERNEL = 16
MOST_STRIDE = 8
MOST_CHANNELS = 4096
MOST_WINDOW = 256
MOST_LEFT = 24
SHIFTS = range(-24, 63)


class Broken(Exception):  # noqa: N818 (it never leaves the partition)
    """A rule is broken; the text says which, and by what number."""


def check(layer: Layer, network: Network, array: Array) -> None:
    """Hold a layer against the rules.

    Raises:
        Broken: it breaks one.
    """
    fed = network.tensors[layer.inputs[0]]
    made = network.tensors[layer.output]
    if layer.kind == "conv":
        _within("kernel", layer.kernel, 1, MOST_KERNEL)
        _within("stride", layer.stride, 1, MOST_STRIDE)
        _within("input channels", (fed.channels,), 1, MOST_CHANNELS)
        _within("output channels", (made.channels,), 1, MOST_CHANNELS)
        _within("dilation x input channels", [each * fed.channels for each in layer.dilation], 1, MOST_CHANNELS)
        lines = layer.kernel[0] * layer.kernel[1] * array.words(fed.channels)
        _within(f"kernel_w * kernel_h * ceil(input channels / {array.channels})", (lines,), 1, array.weight_lines)
    elif layer.kind in ("depthwise", "max", "average"):
        _within("kernel", layer.kernel, 1, MOST_WINDOW)
        words = layer.kernel[0] * layer.kernel[1] * array.words(fed.channels)
        most = array.weight_lines * array.channels
        if layer.kind == "depthwise":
            _within(f"kernel_w * kernel_h * ceil(channels / {array.channels})", (words,), 1, most)
            _within("channels", (fed.channels,), 1, MOST_CHANNELS)
    elif layer.kind == "concat":
        for name in layer.inputs[:-1]:
            channels = network.tensors[name].channels
            if channels % array.channels:
                raise Broken(f"channels of what is concatenated are {channels}, no multiple of {array.channels}")
    elif layer.kind == "add":
        _within("difference of the operands' exponents", layer.lefts, 0, MOST_LEFT)
    if layer.shift not in SHIFTS or any(left not in SHIFTS for left in layer.lefts):
        raise Broken(f"it shifts by {layer.shift}, and the array by {SHIFTS.start} to {SHIFTS.stop - 1}")


def _within(what: str, values: tuple[int, ...] | list[int], least: int, most: int) -> None:
    for value in values:
        if not least <= value <= most:
            raise Broken(f"{what} is {value}, and the array takes {least} to {most}")
