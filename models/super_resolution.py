"""Real-ESRGAN's realesr-animevideov3 (BSD-3-Clause), four times as large, as a PyTorch module that reads ncnn weights.

Architecture: SRVGGNetCompact of Wang et al., Real-ESRGAN, ICCVW 2021: convolutions of 3 x 3, PReLU behind all but the
last, a pixel shuffle, and the input with each pixel repeated added. Pixels are RGB from 0 to 1.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

SCALE, WIDTH, HIDDEN = 4, 64, 16
_HALF = 0x01306B47
"""What stands in an ncnn file before weights of half precision: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure."""


class SuperResolution(nn.Module):
    """Pixels (1, 3, height, width) to (1, 3, SCALE * height, SCALE * width)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (3, *[WIDTH] * HIDDEN):
            layers += [nn.Conv2d(channels, WIDTH, 3, padding=1), nn.PReLU(WIDTH)]
        self.body = nn.Sequential(*layers, nn.Conv2d(WIDTH, 3 * SCALE * SCALE, 3, padding=1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the larger picture."""
        base = nn.functional.interpolate(pixels, scale_factor=SCALE, mode="nearest")
        return nn.functional.pixel_shuffle(self.body(pixels), SCALE) + base

    def load_state_file(self, path: Path) -> None:
        """Take the weights of an ncnn file: of each convolution a mark, its kernel in half precision, filled up to four
        bytes, and its bias in float32; of each PReLU its slopes.

        Raises:
            ValueError: the file is of another form or length.
        """
        content, place = bytearray(path.read_bytes()), 0

        def take(count: int, dtype: torch.dtype) -> torch.Tensor:
            nonlocal place
            values = torch.frombuffer(content, dtype=dtype, count=count, offset=place)
            place += (count * values.element_size() + 3) // 4 * 4
            return values.to(torch.float32)

        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                if int.from_bytes(content[place : place + 4], "little") != _HALF:
                    raise ValueError(f"no weights of half precision begin at byte {place}")
                place += 4
                layer.weight.data = take(layer.weight.numel(), torch.float16).reshape(layer.weight.shape)
                layer.bias.data = take(layer.out_channels, torch.float32)
            else:
                layer.weight.data = take(WIDTH, torch.float32)
        if place != len(content):
            raise ValueError(f"the file has {len(content)} bytes, of which {place} are weights")
