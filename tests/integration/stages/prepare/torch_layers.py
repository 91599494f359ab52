"""Small networks of the usual layers of PyTorch, as a user would write them; each factory takes no arguments."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

WIDTH, HEADS, LENGTH = 32, 4, 12
INPUTS: dict[str, list[tuple[str, tuple[int, ...], str]]] = {
    "encoder": [("x", (1, LENGTH, WIDTH), "float32")],
    "attention": [("x", (1, LENGTH, WIDTH), "float32")],
    "masked_attention": [("x", (2, LENGTH, WIDTH), "float32")],
    "lstm": [("x", (1, LENGTH, WIDTH), "float32")],
    "lstm_both_ways": [("x", (2, LENGTH, WIDTH), "float32")],
    "gru": [("x", (1, LENGTH, WIDTH), "float32")],
    "vision_transformer": [("image", (1, 3, 32, 32), "float32")],
    "unet": [("image", (1, 3, 32, 48), "float32")],
    "conformer": [("x", (1, LENGTH, WIDTH), "float32")],
    "gpt": [
        ("token", (1, 1), "int64"),
        ("position", (1,), "int64"),
        ("keys", (2, 1, HEADS, LENGTH, WIDTH // HEADS), "float32"),
        ("values", (2, 1, HEADS, LENGTH, WIDTH // HEADS), "float32"),
    ],
}
"""Factory -> name, shape and dtype of its inputs."""
OUTPUTS = {
    "attention": ["mixed", "weights"],
    "lstm": ["y", "hidden", "cell"],
    "gpt": ["logits", "keys_next", "values_next"],
}
"""Names of the outputs of those that have several, or another name than `y`."""


def encoder() -> nn.Module:
    """Return PyTorch's own encoder."""
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 2)


class _Attention(nn.Module):
    def __init__(self, *, masked: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.masked = masked

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        if not self.masked:
            mixed, weights = self.attention(x, x, x)
            return mixed, weights
        mask = torch.triu(torch.full((LENGTH, LENGTH), float("-inf")), diagonal=1)
        mixed, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        return mixed


def attention() -> nn.Module:
    """Return attention that gives its weights too."""
    return _Attention(masked=False)


def masked_attention() -> nn.Module:
    """Return attention to what came before alone."""
    return _Attention(masked=True)


class _Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, *, states: bool) -> None:
        super().__init__()
        self.layer = layer
        self.states = states

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if not self.states:
            return self.layer(x)[0]
        y, (hidden, cell) = self.layer(x)
        return y, hidden, cell


def lstm() -> nn.Module:
    """Return an LSTM of one layer with its states."""
    return _Recurrent(nn.LSTM(WIDTH, 24, batch_first=True), states=True)


def lstm_both_ways() -> nn.Module:
    """Return an LSTM of two layers in both directions."""
    return _Recurrent(nn.LSTM(WIDTH, 24, num_layers=2, bidirectional=True, batch_first=True), states=False)


def gru() -> nn.Module:
    """Return a GRU."""
    return _Recurrent(nn.GRU(WIDTH, 24, batch_first=True), states=False)


class _Block(nn.Module):
    """Attention and two dense layers, each with a normalisation before and a sum behind."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dense = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def heads(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch, length, _ = x.shape
        parts = self.mix(self.before(x)).chunk(3, dim=-1)
        return tuple(part.view(batch, length, HEADS, -1).transpose(1, 2) for part in parts)

    def joined(self, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.dense(self.between(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        queries, keys, values = self.heads(x)
        return self.joined(x, functional.scaled_dot_product_attention(queries, keys, values))


class _VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, stride=8)
        self.first = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.places = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks = nn.Sequential(_Block(), _Block())
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        return self.head(self.blocks(x)[:, 0])


def vision_transformer() -> nn.Module:
    """Return a transformer over patches of an image."""
    return _VisionTransformer()


def _convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1)
    )


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_convolutions(3, 8), _convolutions(8, 16)])
        self.middle = _convolutions(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.merge = nn.ModuleList([_convolutions(32, 16), _convolutions(24, 8)])
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        large = self.down[0](image)
        small = self.down[1](functional.max_pool2d(large, 2))
        x = self.up(self.middle(functional.max_pool2d(small, 2)))
        x = self.merge[0](torch.cat([small, x], dim=1))
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.head(self.merge[1](torch.cat([large, x], dim=1))))


def unet() -> nn.Module:
    """Return a U-Net of three levels."""
    return _UNet()


class _Conformer(nn.Module):
    """Half a dense block, attention, a convolution over time, half a dense block (Gulati et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.widen, self.narrow = nn.Conv1d(WIDTH, 2 * WIDTH, 1), nn.Conv1d(WIDTH, WIDTH, 1)
        self.over_time = nn.Conv1d(WIDTH, WIDTH, 7, padding=3, groups=WIDTH)
        self.batch_norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + 0.5 * self.dense[0](x)
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        gated = functional.glu(self.widen(self.norms[1](x).transpose(1, 2)), dim=1)
        x = x + self.narrow(functional.silu(self.batch_norm(self.over_time(gated)))).transpose(1, 2)
        return self.norms[2](x + 0.5 * self.dense[1](x))


def conformer() -> nn.Module:
    """Return one conformer block."""
    return _Conformer()


class _Gpt(nn.Module):
    """One token a run; keys and values of what came before are inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList([_Block(), _Block()])
        self.head = nn.Linear(WIDTH, 50, bias=False)

    def forward(
        self, token: torch.Tensor, position: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.tokens(token) + self.places(position)
        numbers = torch.arange(LENGTH)
        here = (numbers == position).view(1, 1, LENGTH, 1)
        seen = (numbers <= position).view(1, 1, 1, LENGTH)
        kept = []
        for block, old_keys, old_values in zip(self.blocks, keys, values, strict=True):
            query, key, value = block.heads(x)  # type: ignore[operator]
            both = torch.where(here, key, old_keys), torch.where(here, value, old_values)
            scores = query @ both[0].transpose(2, 3) / math.sqrt(WIDTH // HEADS)
            mixed = torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1) @ both[1]
            x = block.joined(x, mixed)  # type: ignore[operator]
            kept.append(both)
        return self.head(x), torch.stack([k for k, _ in kept]), torch.stack([v for _, v in kept])


def gpt() -> nn.Module:
    """Return a small GPT with its cache outside."""
    return _Gpt()
