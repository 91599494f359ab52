"""The geometry of a window that slides over an image: strides, padding, dilation."""

from __future__ import annotations

import dataclasses
from typing import Any

from tvm import te, tirx

from crossfarm.backends.cpu.register_tiling import PADDED_INPUT
from crossfarm.backends.cpu.relax_values import integers
from crossfarm.backends.cpu.schedules import zero


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """How a kernel slides.

    Attributes:
        kernel: height and width.
        strides: down and right.
        padding: top, left, bottom, right.
        dilation: down and right.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result for an image."""
        top, left, bottom, right = self.padding
        return (
            (height + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.strides[0] + 1,
            (width + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.strides[1] + 1,
        )


def window_2d(attributes: Any, kernel: tuple[int, int]) -> Window:
    """Return the window of a relax.nn.conv2d."""
    padding = integers(attributes.padding)
    top, left, bottom, right = padding if len(padding) == 4 else (padding * 2 if len(padding) == 2 else padding * 4)
    down, across = integers(attributes.strides)
    dilation_down, dilation_across = integers(attributes.dilation)
    return Window(
        kernel=kernel,
        strides=(down, across),
        padding=(top, left, bottom, right),
        dilation=(dilation_down, dilation_across),
    )


def window_1d(attributes: Any, kernel: int) -> Window:
    """Return the window of a relax.nn.conv1d, as one over an image of height 1."""
    padding = integers(attributes.padding)
    return Window(
        kernel=(1, kernel),
        strides=(1, integers(attributes.strides)[0]),
        padding=(0, padding[0], 0, padding[-1]),
        dilation=(1, integers(attributes.dilation)[0]),
    )


def padded(image: Any, window: Window) -> Any:
    """Return the image [n, height, width, channels] in its frame of noughts, or as it is without padding."""
    if not any(window.padding):
        return image
    batch, height, width, channels = (int(extent) for extent in image.shape)
    top, left, bottom, right = window.padding
    shape = (batch, height + top + bottom, width + left + right, channels)

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        inside = tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return tirx.if_then_else(inside, image[n, y - top, x - left, c], zero())

    return te.compute(shape, element, name=PADDED_INPUT)
