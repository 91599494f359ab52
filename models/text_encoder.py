"""The sentence encoder all-MiniLM-L6-v2 (Apache-2.0) as a PyTorch module; its parameters have the names of its file.

Six layers of BERT (Devlin et al., BERT, NAACL 2019) over 384 numbers a token, the mean over the tokens, length 1.
Tokens that are 0 are padding: no other token looks at them, and the mean leaves them out.
"""

from __future__ import annotations

import math

import torch
from torch import nn

WIDTH, HEADS, LAYERS, INNER = 384, 12, 6, 1536
VOCABULARY, POSITIONS, KINDS = 30522, 512, 2
PADDING = 0
_EPSILON = 1e-12
_HIDDEN = -1e4
"""Added to the scores of padding: its share behind the softmax is 0 in float32."""


class Embeddings(nn.Module):
    """What a token is and where it stands, as one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.token_type_embeddings = nn.Embedding(KINDS, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=_EPSILON)
        self.register_buffer("position_ids", torch.arange(POSITIONS).reshape(1, POSITIONS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (1, length, WIDTH) of tokens (1, length)."""
        places = self.position_embeddings.weight[: tokens.shape[1]]
        return self.LayerNorm(self.word_embeddings(tokens) + places + self.token_type_embeddings.weight[0])


def _close(width: int) -> nn.ModuleDict:
    """Return the end of each half of a layer: a dense layer, and the norm behind the sum."""
    return nn.ModuleDict({"dense": nn.Linear(width, WIDTH), "LayerNorm": nn.LayerNorm(WIDTH, eps=_EPSILON)})


class Layer(nn.Module):
    """Attention, then two dense layers; the input is added behind each."""

    def __init__(self) -> None:
        super().__init__()
        parts = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": parts, "output": _close(WIDTH)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, INNER)})
        self.output = _close(INNER)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return (1, length, WIDTH); `bias` is added to the scores of every token."""
        parts = self.attention["self"]
        query, key, value = (self._heads(parts[name](x)) for name in ("query", "key", "value"))
        shares = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(WIDTH / HEADS) + bias, dim=-1)
        seen = (shares @ value).transpose(1, 2).reshape(x.shape)
        x = self._closed(self.attention["output"], seen, x)
        return self._closed(self.output, nn.functional.gelu(self.intermediate["dense"](x)), x)

    @staticmethod
    def _heads(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, x.shape[1], HEADS, WIDTH // HEADS).transpose(1, 2)

    @staticmethod
    def _closed(close: nn.ModuleDict, x: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
        return close["LayerNorm"](close["dense"](x) + added)


class TextEncoder(nn.Module):
    """Tokens (1, length) to a vector (1, WIDTH) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(LAYERS))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(WIDTH, WIDTH)})  # in the file, and not used for sentences

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the vector of a text; at least one token is no padding."""
        used = (tokens != PADDING).to(torch.float32)
        bias = (1.0 - used).reshape(1, 1, 1, -1) * _HIDDEN
        x = self.embeddings(tokens)
        for layer in self.encoder["layer"]:
            x = layer(x, bias)
        weights = used.reshape(1, -1, 1)
        mean = (x * weights).sum(dim=1) / weights.sum(dim=1)
        return nn.functional.normalize(mean, dim=1)
