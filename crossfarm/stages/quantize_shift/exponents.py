"""Which power of two becomes the scale of a tensor: the one with the least error among some."""

from __future__ import annotations

import math

import numpy as np

from crossfarm.stages.data.tensors import Array

LEAST, MOST = -128, 127
"""Numbers of 8 bits."""
CANDIDATES = 5
"""Exponents that are tried: the least that cuts nothing off, and smaller ones."""
SAMPLES = 2**19
"""Numbers of a tensor, over all inputs, by which its exponent is chosen."""
_SMALLEST = -60


class Samples:
    """What was seen of one tensor: its largest magnitude, and evenly spread numbers of it."""

    def __init__(self, *, inputs: int) -> None:
        """Prepare for so many inputs."""
        self._each = max(256, SAMPLES // inputs)
        self._largest = 0.0
        self._numbers: list[Array] = []

    def add(self, tensor: Array) -> None:
        """Look at the tensor of one input; float32, any shape."""
        flat = np.ravel(tensor)
        if flat.size == 0:
            return
        self._largest = max(self._largest, float(np.max(np.abs(flat))))
        # An odd step does not run along one channel of an even number of elements.
        self._numbers.append(flat[:: max(1, flat.size // self._each) | 1].copy())

    def exponent(self) -> int:
        """Return k such that 2**k as the scale gives the least mean squared error over the samples."""
        numbers = np.concatenate(self._numbers) if self._numbers else np.zeros(1, np.float32)
        return best_exponent(numbers, largest=self._largest)


def best_exponent(numbers: Array, *, largest: float | None = None) -> int:
    """Return the exponent k with the least mean squared error of clip(rint(x / 2**k), -128, 127) * 2**k.

    Args:
        numbers: float32 or float64, any shape.
        largest: the largest magnitude, where `numbers` are samples.
    """
    numbers = np.ravel(numbers).astype(np.float64)
    top = float(np.max(np.abs(numbers), initial=0.0)) if largest is None else largest
    first = math.ceil(math.log2(top / MOST)) if top > 0 else 0
    tried = [max(_SMALLEST, first - step) for step in range(CANDIDATES)]
    return min(tried, key=lambda k: float(np.mean((rounded(numbers, k) * 2.0**k - numbers) ** 2)))


def rounded(numbers: Array, exponent: int) -> Array:
    """Return numbers / 2**exponent rounded to the nearest integer, ties to even, cut off to 8 bits; float64."""
    return np.asarray(np.clip(np.rint(np.asarray(numbers, np.float64) * 2.0**-exponent), LEAST, MOST))
