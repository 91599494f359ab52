"""Resemblyzer's speaker encoder (Apache-2.0) as a PyTorch module.

Three layers of LSTM over the 40 mel bands of 10 ms each, and a dense layer over what the last one ends with: Wan et
al., Generalized End-to-End Loss for Speaker Verification, ICASSP 2018.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

BANDS, WIDTH, LAYERS = 40, 256, 3
_OF_TRAINING = ("similarity_weight", "similarity_bias")


class SpeakerEncoder(nn.Module):
    """Mel bands (1, frames, BANDS) to a vector (1, WIDTH) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """Return the vector of a voice."""
        _, (hidden, _) = self.lstm(bands)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)

    def load_state_file(self, path: Path) -> None:
        """Take the weights out of a training's checkpoint."""
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({name: value for name, value in state.items() if name not in _OF_TRAINING})
