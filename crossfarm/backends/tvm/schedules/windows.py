"""The geometry of a window that slides over an image: strides, padding, dilation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tvm import te, tirx

from crossfarm.backends.tvm.passes.relax_utils import integers
from crossfarm.backends.tvm.schedules.choices import Layer
from crossfarm.backends.tvm.schedules.primitives import float32_zero
from crossfarm.backends.tvm.schedules.register_tiling import PADDED_INPUT
from crossfarm.backends.tvm.types import Attrs, PrimExpr, Tensor, Var


def layer_2d(
    attributes: Attrs, kind: Literal["convolution", "depthwise"], *, image: Sequence[int], weights: Sequence[int]
) -> Layer:
    """Return the layer of a relax.nn.conv2d over an image of a shape and weights [height, width, depth, channels]."""
    padding = integers(attributes.padding)
    top, left, bottom, right = padding if len(padding) == 4 else (padding * 2 if len(padding) == 2 else padding * 4)
    down, across = integers(attributes.strides)
    dilation_down, dilation_across = integers(attributes.dilation)
    return Layer(
        kind=kind,
        image=(image[0], image[1], image[2], image[3]),
        channels=weights[3],
        kernel=(weights[0], weights[1]),
        strides=(down, across),
        padding=(top, left, bottom, right),
        dilation=(dilation_down, dilation_across),
        groups=int(attributes.groups),
    )


def layer_1d(attributes: Attrs, *, image: Sequence[int], weights: Sequence[int]) -> Layer:
    """Return the layer of a relax.nn.conv1d, as one over an image of height 1."""
    padding = integers(attributes.padding)
    return Layer(
        kind="convolution",
        image=(image[0], image[1], image[2], image[3]),
        channels=weights[3],
        kernel=(weights[0], weights[1]),
        strides=(1, integers(attributes.strides)[0]),
        padding=(0, padding[0], 0, padding[-1]),
        dilation=(1, integers(attributes.dilation)[0]),
        groups=int(attributes.groups),
    )


def padded(image: Tensor, layer: Layer) -> Tensor:
    """Return the image [N, H, W, C] with zero padding, or as it is without padding."""
    return _zero_padded(image, layer.padding)


def padded_columns(image: Tensor, layer: Layer) -> Tensor:
    """Return the image [N, H, W, C] with zero padding left and right, but not above and below."""
    _, left, _, right = layer.padding
    return _zero_padded(image, (0, left, 0, right))


def _zero_padded(image: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    if not any(padding):
        return image
    batch, height, width, channels = (int(extent) for extent in image.shape)
    top, left, bottom, right = padding
    shape = (batch, height + top + bottom, width + left + right, channels)

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        inside = tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return tirx.if_then_else(inside, image[n, y - top, x - left, c], float32_zero())

    return te.compute(shape, element, name=PADDED_INPUT)
