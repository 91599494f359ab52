"""The geometry of a window that slides over an image: strides, padding, dilation."""

from __future__ import annotations

from typing import Any, Literal

from tvm import te, tirx

from crossfarm.backends.tvm.passes.relax_utils import integers
from crossfarm.backends.tvm.schedules.choices import Layer
from crossfarm.backends.tvm.schedules.primitives import zero
from crossfarm.backends.tvm.schedules.register_tiling import PADDED_INPUT


def layer_2d(attributes: Any, kind: Literal["convolution", "depthwise"], *, image: Any, weights: Any) -> Layer:
    """Return the layer of a relax.nn.conv2d over an image of a shape and weights [height, width, depth, channels]."""
    padding = integers(attributes.padding)
    top, left, bottom, right = padding if len(padding) == 4 else (padding * 2 if len(padding) == 2 else padding * 4)
    down, across = integers(attributes.strides)
    dilation_down, dilation_across = integers(attributes.dilation)
    return Layer(
        kind=kind,
        image=tuple(image),
        channels=weights[3],
        kernel=tuple(weights[:2]),
        strides=(down, across),
        padding=(top, left, bottom, right),
        dilation=(dilation_down, dilation_across),
        groups=int(attributes.groups),
    )


def layer_1d(attributes: Any, *, image: Any, weights: Any) -> Layer:
    """Return the layer of a relax.nn.conv1d, as one over an image of height 1."""
    padding = integers(attributes.padding)
    return Layer(
        kind="convolution",
        image=tuple(image),
        channels=weights[3],
        kernel=tuple(weights[:2]),
        strides=(1, integers(attributes.strides)[0]),
        padding=(0, padding[0], 0, padding[-1]),
        dilation=(1, integers(attributes.dilation)[0]),
        groups=int(attributes.groups),
    )


def padded(image: Any, layer: Layer) -> Any:
    """Return the image [n, height, width, channels] in its frame of noughts, or as it is without padding."""
    return _in_frame(image, layer.padding)


def padded_across(image: Any, layer: Layer) -> Any:
    """Return the image [n, height, width, channels] with its columns of noughts, but without its rows of them."""
    _, left, _, right = layer.padding
    return _in_frame(image, (0, left, 0, right))


def _in_frame(image: Any, padding: tuple[int, int, int, int]) -> Any:
    if not any(padding):
        return image
    batch, height, width, channels = (int(extent) for extent in image.shape)
    top, left, bottom, right = padding
    shape = (batch, height + top + bottom, width + left + right, channels)

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        inside = tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return tirx.if_then_else(inside, image[n, y - top, x - left, c], zero())

    return te.compute(shape, element, name=PADDED_INPUT)
