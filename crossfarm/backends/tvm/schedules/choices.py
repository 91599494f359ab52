"""What a schedule is free to decide, and what of a layer it depends on.

A rule chooses before weights are packed, because packing follows from the choice. Both travel with the layer's block as
annotations, through fusion, until the block is scheduled.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from crossfarm.backends.tvm.schedules.processor import Processor

LAYER, CHOICE, RUN = "crossfarm.layer", "crossfarm.choice", "crossfarm.run"
"""Names of the annotations; the last one is how many channels of the result follow each other without padding."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """A sum of products over constant weights, as far as its schedule depends on it. Images are NHWC.

    Attributes:
        kind: of rule.
        image: batch, height, width and channels of the input; a dense layer is an image of height 1.
        channels: of the result.
        kernel: height and width.
        strides: down and right.
        padding: top, left, bottom, right.
        dilation: down and right.
        groups: of channels.
    """

    kind: Literal["convolution", "dense", "depthwise", "matmul"]
    image: tuple[int, int, int, int]
    channels: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def key(self) -> str:
        """One line that only layers share which compute the same."""
        batch, *image = self.image
        window = f"k{_by(self.kernel)} s{_by(self.strides)} p{_by(self.padding)} d{_by(self.dilation)} g{self.groups}"
        return f"{self.kind} n{batch} {_by(image)} to {self.channels} {window}"

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the result."""
        top, left, bottom, right = self.padding
        return (
            (self.image[1] + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.strides[0] + 1,
            (self.image[2] + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.strides[1] + 1,
        )

    @property
    def pixels(self) -> int:
        """Rows of the product: pixels of the result in all images."""
        return self.image[0] * math.prod(self.output)

    @property
    def depth(self) -> int:
        """Input channels of a group."""
        return self.image[3] // self.groups

    @property
    def per_group(self) -> int:
        """Output channels of a group."""
        return self.channels // self.groups

    @property
    def steps(self) -> int:
        """Length of the sum of products that one value of the result is."""
        return math.prod(self.kernel) * self.depth

    @property
    def flops(self) -> int:
        """Operations, a multiply-add being two."""
        return 2 * self.pixels * self.channels * self.steps

    @property
    def is_matrix_product(self) -> bool:
        """Each pixel of the result depends on the pixel at the same place alone."""
        return self.kernel == self.strides == (1, 1) and not any(self.padding)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductChoice:
    """How a convolution or a dense layer is computed; see register_tiling.py.

    Attributes:
        rows: pixels of a register tile.
        vectors: of channels, side by side.
        lanes: floats in a vector.
        columns_first: the outermost loop runs over blocks of channels, not over pixels.
        depth_unroll: steps of the sum in a row; a divisor of the innermost loop of the sum.
        shared_loops: how many of the outer loops become one that threads share; 0 for none.
        depth_block: channels of a block into which a convolution's input is laid out first (NCHWc); a divisor of the
            depth, 0 leaves it in NHWC.
        gathered_rows: rows of the result whose patches are gathered before they are multiplied (im2col); a divisor of
            the height, 0 gathers none.
    """

    rows: int
    vectors: int
    lanes: int
    columns_first: bool
    depth_unroll: int
    shared_loops: int
    depth_block: int = 0
    gathered_rows: int = 0

    @property
    def columns(self) -> int:
        """Channels of a register tile, and of a block of packed weights."""
        return self.vectors * self.lanes

    def innermost(self, layer: Layer) -> int:
        """Return the trips of the innermost loop of the sum."""
        return layer.steps if self.gathered_rows else self.depth_block or layer.depth


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthwiseChoice:
    """How a depthwise convolution is computed; see depthwise.py.

    Attributes:
        strip: rows of pixels for which the zero padding is made at once; a divisor of the rows.
        pixels: summed side by side; a divisor of the columns.
        lanes: channels in a vector.
        unroll_kernel: whole, not only its columns.
        is_shared: threads share the strips.
        parts: of the channels, each with a padded image of its own; a divisor of the vectors of channels.
    """

    strip: int
    pixels: int
    lanes: int
    unroll_kernel: bool
    is_shared: bool
    parts: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class WinogradChoice:
    """How a convolution of 3x3 is computed by Winograd's algorithm; see winograd.py.

    Attributes:
        tile: results of a tile in each direction, 2 or 4.
        strip: rows of tiles that are transformed and multiplied at once.
        rows: tiles of a register tile; a divisor of the tiles in a strip.
        vectors: of channels, side by side.
        lanes: floats in a vector.
        is_shared: threads share the work.
    """

    tile: int
    strip: int
    rows: int
    vectors: int
    lanes: int
    is_shared: bool

    @property
    def columns(self) -> int:
        """Channels of a register tile, and of a block of packed weights."""
        return self.vectors * self.lanes


Choice = ProductChoice | DepthwiseChoice | WinogradChoice


class Choose(Protocol):
    """Decides how a layer is computed: a rule, or something that knows better for certain layers."""

    def __call__(self, layer: Layer, processor: Processor) -> Choice | None:
        """Return a choice of the layer's kind; None when the layer cannot be computed so."""


def plain(choice: Choice) -> dict[str, Any]:
    """Return a choice as JSON values without defaults, so that records stay as they are when a field is new."""
    defaults = {field.name: field.default for field in dataclasses.fields(choice)}
    return {name: value for name, value in dataclasses.asdict(choice).items() if value != defaults[name]}


def as_attributes(layer: Layer, choice: Choice) -> dict[str, str]:
    """Return the attributes of a te.compute that carry layer and choice."""
    chosen = json.dumps(plain(choice), sort_keys=True)
    return {LAYER: layer.key, CHOICE: chosen, RUN: str(layer.per_group)}


def product_choice(annotated: Mapping[str, Any]) -> ProductChoice:
    """Read a choice back out of the annotations of a block."""
    return ProductChoice(**json.loads(str(annotated[CHOICE])))


def depthwise_choice(annotated: Mapping[str, Any]) -> DepthwiseChoice:
    """Read a choice back out of the annotations of a block."""
    return DepthwiseChoice(**json.loads(str(annotated[CHOICE])))


def winograd_choice(annotated: Mapping[str, Any]) -> WinogradChoice:
    """Read a choice back out of the annotations of a block."""
    return WinogradChoice(**json.loads(str(annotated[CHOICE])))


def _by(extents: Sequence[int]) -> str:
    return "x".join(map(str, extents))
