"""How far an output is from its reference: pure functions over stacked cases.

In the formulas y is the output, r the reference, both over all elements of all cases, and scale = max |r|.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from crossfarm.stages.tensors import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How one output differs from its reference over all cases.

    Attributes:
        scale: max |r|; 1 when the reference is zero everywhere or empty.
        max_abs: max |y - r|; infinity when an element of y is NaN or infinite.
        relative: max_abs / scale; this is what gates.
        mean_abs: mean |y - r|; infinity likewise.
        cosine: (y . r) / (|y| |r|), 1 for two zero vectors, 0 when one is zero; NaN when y is not finite.
        correct: share of elements with |y - r| <= tolerance * scale.
        argmax: share of cases whose argmax over the last axis is the reference's at every place; None if not asked for.
        worst_case: number of the case with the largest difference.
        not_finite: number of elements of y that are NaN or infinite.
        cases: number of cases.
    """

    scale: float
    max_abs: float
    relative: float
    mean_abs: float
    cosine: float
    correct: float
    argmax: float | None
    worst_case: int
    not_finite: int
    cases: int

    def within(self, tolerance: float) -> bool:
        """Say whether the output is good: finite everywhere, and nowhere further than tolerance * scale."""
        return self.not_finite == 0 and self.relative <= tolerance


def compare(output: Array, reference: Array, *, tolerance: float, argmax: bool = False) -> Difference:
    """Compare an output with its reference.

    Args:
        output: shape (cases, ...), of any dtype.
        reference: the same shape; finite.
        tolerance: share of the scale within which an element counts as correct.
        argmax: compare the argmax as well.

    Raises:
        ValueError: the shapes differ.
    """
    if output.shape != reference.shape:
        raise ValueError(f"shapes {output.shape} and {reference.shape} differ")
    cases = len(reference)
    y = output.reshape(cases, -1).astype(np.float64)
    r = reference.reshape(cases, -1).astype(np.float64)
    finite = np.isfinite(y)
    scale = float(np.max(np.abs(r), initial=0.0)) or 1.0
    distance = np.where(finite, np.abs(np.where(finite, y, 0.0) - r), math.inf)
    max_abs = float(np.max(distance, initial=0.0))
    per_case = np.max(distance, axis=1, initial=0.0)
    return Difference(
        scale=scale,
        max_abs=max_abs,
        relative=max_abs / scale,
        mean_abs=float(np.mean(distance)) if distance.size else 0.0,
        cosine=_cosine(y, r) if finite.all() else math.nan,
        correct=float(np.mean(distance <= tolerance * scale)) if distance.size else 1.0,
        argmax=float(np.mean(argmax_agrees(output, reference))) if argmax and cases else None,
        worst_case=int(np.argmax(per_case)) if cases else 0,
        not_finite=int(np.count_nonzero(~finite)),
        cases=cases,
    )


def argmax_agrees(output: Array, reference: Array) -> Array:
    """Say of each case whether the argmax over the last axis is the same at every place; NaN never agrees.

    Args:
        output: shape (cases, ..., classes).
        reference: the same shape.

    Returns:
        bool of shape (cases,).
    """
    cases = len(reference)
    y = output.reshape(cases, -1, output.shape[-1])
    same = np.argmax(y, axis=-1) == np.argmax(reference.reshape(y.shape), axis=-1)
    return np.asarray(same.all(axis=-1) & np.isfinite(y.astype(np.float64)).all(axis=(1, 2)))


def _cosine(y: Array, r: Array) -> float:
    """Return the cosine of the angle between two finite arrays, each divided by its largest element first, so that
    neither overflows nor vanishes when it is squared."""
    largest_y, largest_r = float(np.max(np.abs(y), initial=0.0)), float(np.max(np.abs(r), initial=0.0))
    if largest_y == 0.0 or largest_r == 0.0:
        return 1.0 if largest_y == largest_r else 0.0
    y, r = y / largest_y, r / largest_r
    cosine = float(np.vdot(y, r) / (np.linalg.norm(y) * np.linalg.norm(r)))
    return min(1.0, max(-1.0, cosine))
