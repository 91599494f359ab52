"""The geometry of a window that slides over an image of quantised integers, and the padding of such an image."""

from __future__ import annotations

import dataclasses

from tvm import te, tirx

from crossfarm.backends.tvm.passes.relax_utils import integers
from crossfarm.backends.tvm.types import Attrs, PrimExpr, Tensor, Var

PADDED = "crossfarm_int8_frame"
"""Block that copies an image into its padding."""


def vector_of_bytes(extent: int) -> int:
    """Return how many neighbouring bytes, of so many, are copied or computed at once; 1 when no vector divides them."""
    return next((lanes for lanes in (64, 32, 16, 8, 4) if extent % lanes == 0), 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """How a window slides.

    Attributes:
        kernel: height and width.
        strides: down and right.
        padding: top, left, bottom, right.
        dilation: down and right.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result for an image."""
        top, left, bottom, right = self.padding
        return (
            (height + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.strides[0] + 1,
            (width + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.strides[1] + 1,
        )


def window_of(attributes: Attrs, kernel: tuple[int, ...]) -> Window:
    """Return the window of a relax.nn.conv2d or of pooling."""
    padding = integers(attributes.padding)
    top, left, bottom, right = padding if len(padding) == 4 else (padding * 2 if len(padding) == 2 else padding * 4)
    down, across = integers(attributes.strides)
    dilation_down, dilation_across = integers(attributes.dilation)
    return Window(
        kernel=(kernel[0], kernel[1]),
        strides=(down, across),
        padding=(top, left, bottom, right),
        dilation=(dilation_down, dilation_across),
    )


def padded_image(image: Tensor, window: Window, *, fill: PrimExpr, dtype: str | None = None) -> Tensor:
    """Return an image [N, H, W, C] padded with `fill`, or as it is without padding.

    Args:
        image: quantised integers.
        window: whose padding is meant.
        fill: expression of the result's dtype.
        dtype: of the result; the image's without it.
    """
    dtype = dtype or str(image.dtype)
    if not any(window.padding) and dtype == str(image.dtype):
        return image
    # [N, H, W, C] -> [N, top + H + bottom, left + W + right, C]
    batch, height, width, channels = (int(extent) for extent in image.shape)
    top, left, bottom, right = window.padding

    def element(n: Var, y: Var, x: Var, c: Var) -> PrimExpr:
        value = image[n, y - top, x - left, c].astype(dtype)
        if not any(window.padding):
            return value
        return tirx.if_then_else(tirx.all(y >= top, y < height + top, x >= left, x < width + left), value, fill)

    return te.compute((batch, height + top + bottom, width + left + right, channels), element, name=PADDED)
