"""What a toolchain file says of the array: its parallelism, banks and memory, and the terms of its latency model."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from crossfarm.config.accelerators import AcceleratorCode, Variant
from crossfarm.config.base import Integer, Name, Number

PARALLELISM: dict[str, tuple[int, int]] = {
    "B512": (4, 8),
    "B800": (4, 10),
    "B1024": (8, 8),
    "B1152": (4, 12),
    "B1600": (8, 10),
    "B2304": (8, 12),
    "B3136": (8, 14),
    "B4096": (8, 16),
}
"""Name -> pixels, and channels of input and output alike, that one cycle multiplies (AMD PG338)."""
RATE_ONE = 1 << 16
"""Words a cycle are counted in parts of 65536."""
MOST_WORDS_A_CYCLE = 4
"""Width of the core's port to memory."""


class DpuCode(AcceleratorCode):
    """The `code:` section of its toolchain files."""

    TAKES: ClassVar[tuple[Variant, ...]] = ("int8_shift",)

    parallelism: Literal["B512", "B800", "B1024", "B1152", "B1600", "B2304", "B3136", "B4096"]
    """Pixels x input channels x output channels of a cycle, by AMD's names; the number counts operations."""
    bank_depth: Annotated[Integer, Field(ge=16, le=65_536)] = 2048
    """Words of a bank; a word holds the channels of one pixel that a cycle takes."""
    bank_num: Annotated[Integer, Field(ge=1, le=64)] = 8
    """Banks of a group; there are two groups for features."""
    memory_gigabytes_per_second: Annotated[Number, Field(gt=0.0, le=1000.0)]
    """What one core gets of the memory's bandwidth."""
    layer_microseconds: Annotated[Number, Field(ge=0.0, le=10_000.0)] = 0.0
    """Time beside the array's for each layer but additions."""
    run_microseconds: Annotated[Number, Field(ge=0.0, le=1_000_000.0)] = 0.0
    """Time beside the array's for each run."""
    held_against: Annotated[Integer, Field(ge=0, le=1000)] = 0
    """Networks whose published latency the estimate was held against on this board."""
    cpu: Name
    """Target whose processor takes what the array leaves over."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Array:
    """The array in the units of its commands.

    Attributes:
        pixels: of a column that one cycle multiplies.
        channels: of input and of output that one cycle multiplies; bytes of a word.
        alu_pixels: of a column that one cycle of the ALU takes.
        feature_words: of the banks for features.
        weight_words: of the banks for weights and biases.
        weight_lines: the most weights of one group of output channels, in lines of channels x channels.
        rate: words a cycle between memory and banks, in parts of 65536.
        layer_cycles: beside the array's for each layer.
        run_cycles: beside the array's for each run.
    """

    pixels: int
    channels: int
    alu_pixels: int
    feature_words: int
    weight_words: int
    weight_lines: int
    rate: int
    layer_cycles: int
    run_cycles: int

    @property
    def operations(self) -> int:
        """Return operations of a cycle; a multiplication and an addition are two."""
        return 2 * self.pixels * self.channels * self.channels

    def words(self, channels: int) -> int:
        """Return how many words hold so many channels of a pixel."""
        return -(-channels // self.channels)


def array_of(code: DpuCode) -> Array:
    """Return the array that a toolchain file describes.

    The ALU takes half of the array's pixels: that is fitted to published latencies, not known.
    """
    pixels, channels = PARALLELISM[code.parallelism]
    words_a_cycle = code.memory_gigabytes_per_second * 1000.0 / code.megahertz / channels
    return Array(
        pixels=pixels,
        channels=channels,
        alu_pixels=max(1, pixels // 2),
        feature_words=2 * code.bank_num * code.bank_depth,
        weight_words=2 * (code.bank_depth * channels + _BIAS_WORDS),
        weight_lines=code.bank_depth,
        rate=max(1, min(MOST_WORDS_A_CYCLE * RATE_ONE, round(words_a_cycle * RATE_ONE))),
        layer_cycles=math.ceil(code.layer_microseconds * code.megahertz),
        run_cycles=math.ceil(code.run_microseconds * code.megahertz),
    )


_BIAS_WORDS = 1024
"""Four bytes for each of 4096 channels, in words of 16."""
