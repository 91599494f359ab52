"""How far an output is from its reference: pure functions over stacked cases.

In the formulas y is the output and r the reference, both over all cases. The elements of an output that share an index
along its channel axis are a channel; s is the scale of an element's channel.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from crossfarm.stages.data.tensors import Array

SMALLEST_SCALE = 1e-3
"""Least scale of a channel, as a share of the output's: what is smaller is noise beside the other channels."""
ROUNDING = 16 * 2.0**-24
"""Difference that is always granted, as a share of the output's scale: the sums behind a small channel may be as large
as the output's largest values, and float32 rounds each to 2^-24. With the models of models.yaml, channels below 4 % of
the output's scale differ by up to 3.2e-7 of it, which is 5.4 * 2^-24; this is three times as much."""
NEARLY_ONE = 0.02
"""How far from 1 the sum of a distribution may be: a softmax over ten classes in steps of 1/256 errs by 10/512."""
WIDE = 100.0
"""Largest over smallest scale of channels from which on it is told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputScale:
    """What a difference is a share of.

    Attributes:
        axis: of the channels, among the axes of one case: 0 is the first, -1 the last.
        scale: of all channels, or of each; None for what is seen in the reference.
        step: distance of neighbouring values of an output that is stored in integers, 0 for others. One step is always
            granted: a number between two steps may be rounded either way.
    """

    axis: int = -1
    scale: float | tuple[float, ...] | None = None
    step: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Scales of the channels along an axis that differ by more than WIDE.

    Attributes:
        axis: among the axes of one case.
        largest: channel and scale.
        smallest: channel and scale, of those that are not 0 throughout.
    """

    axis: int
    largest: tuple[int, float]
    smallest: tuple[int, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How one output differs from its reference over all cases.

    Attributes:
        scale: max |r|; 1 when the reference is zero everywhere or empty.
        max_abs: max |y - r|; infinity when an element of y is NaN or infinite.
        relative: max |y - r| / s; this is what gates.
        mean_abs: mean |y - r|; infinity likewise.
        cosine: (y . r) / (|y| |r|), 1 for two zero vectors, 0 when one is zero; NaN when y is not finite.
        correct: share of elements with |y - r| <= tolerance * s.
        argmax: share of cases whose argmax over the last axis is the reference's at every place; None if not asked for.
        worst_case: number of the case with the largest |y - r| / s.
        channel: the channel with the largest |y - r| / s; None when there is only one.
        channel_scale: s of that channel.
        axis: of the channels, among the axes of one case, counted from 0.
        spreads: scales that differ much; those along the channel axis only where each channel has its own.
        not_finite: number of elements of y that are NaN or infinite.
        cases: number of cases.
        elements: number of elements of all cases.
    """

    scale: float
    max_abs: float
    relative: float
    mean_abs: float
    cosine: float
    correct: float
    argmax: float | None
    worst_case: int
    channel: int | None
    channel_scale: float
    axis: int
    spreads: tuple[Spread, ...]
    not_finite: int
    cases: int
    elements: int

    def within(self, tolerance: float) -> bool:
        """Say whether the output is good: finite everywhere, and nowhere further than tolerance * s."""
        return self.not_finite == 0 and self.relative <= tolerance


def compare(
    output: Array,
    reference: Array,
    *,
    tolerance: float,
    argmax: bool = False,
    yardstick: OutputScale = OutputScale(),
) -> Difference:
    """Compare an output with its reference.

    Args:
        output: shape (cases, ...), of any dtype.
        reference: the same shape; finite.
        tolerance: share of the scale within which an element counts as correct; 0 where only equal ones do.
        argmax: compare the argmax as well.
        yardstick: what differences are a share of.

    Raises:
        ValueError: the shapes differ, or the yardstick is for another shape.
    """
    if output.shape != reference.shape:
        raise ValueError(f"shapes {output.shape} and {reference.shape} differ")
    cases = len(reference)
    axis = channel_axis(reference.shape[1:], yardstick)
    y, r = output.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(y)
    scale = float(np.max(np.abs(r), initial=0.0)) or 1.0
    distance = np.where(finite, np.abs(np.where(finite, y, 0.0) - r), math.inf)
    if reference.dtype.kind in "iub":
        # Beyond 2^53 different integers may be the same float64.
        distance = np.where(output == reference, 0.0, np.maximum(distance, 1.0))
    scales = _scales(r, axis, scale, tolerance, yardstick)
    shares = _channels_last(distance, axis) / scales
    by_case = np.max(shares.reshape(cases, -1), axis=1, initial=0.0) if shares.size else np.zeros(cases)
    by_channel = np.max(shares, axis=tuple(range(shares.ndim - 1)), initial=0.0)
    worst = int(np.argmax(by_channel)) if by_channel.size else 0
    flat_y, flat_r = y.reshape(-1), r.reshape(-1)
    return Difference(
        scale=scale,
        max_abs=float(np.max(distance, initial=0.0)),
        relative=float(np.max(by_channel, initial=0.0)),
        mean_abs=float(np.mean(distance)) if distance.size else 0.0,
        cosine=_cosine(flat_y, flat_r) if finite.all() else math.nan,
        correct=float(np.mean(shares <= tolerance)) if distance.size else 1.0,
        argmax=float(np.mean(argmax_agrees(output, reference))) if argmax and cases else None,
        worst_case=int(np.argmax(by_case)) if cases else 0,
        channel=worst if len(scales) > 1 else None,
        channel_scale=float(scales[worst]) if scales.size else scale,
        axis=axis,
        spreads=_spreads(r, axis, yardstick),
        not_finite=int(np.count_nonzero(~finite)),
        cases=cases,
        elements=distance.size,
    )


def channel_axis(shape: tuple[int, ...], yardstick: OutputScale) -> int:
    """Return the channel axis of an output whose cases have `shape`, counted from 0.

    Raises:
        ValueError: there is no such axis, or there are not as many channels as scales.
    """
    rank = len(shape)
    axis = yardstick.axis + rank if yardstick.axis < 0 else yardstick.axis
    if not (0 <= axis < rank or (rank == 0 and yardstick.axis in (0, -1))):
        raise ValueError(
            f"axis {yardstick.axis} is none of the axes of {list(shape)}; give one from {-rank} to {rank - 1}"
        )
    channels = shape[axis] if rank else 1
    if isinstance(yardstick.scale, tuple) and len(yardstick.scale) != channels:
        raise ValueError(
            f"scale has {len(yardstick.scale)} numbers, but {list(shape)} has {channels} channels along axis {axis}; "
            "give one number, or one for each"
        )
    return max(axis, 0)


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


def _channels_last(stacked: Array, axis: int) -> Array:
    """Return an array of shape (cases, ...) with its channels along the last axis; a scalar has one."""
    return stacked[:, np.newaxis] if stacked.ndim == 1 else np.moveaxis(stacked, axis + 1, -1)


def _seen(r: Array, axis: int) -> Array:
    """Return max |r| of each channel, shape (channels,)."""
    last = np.abs(_channels_last(r, axis))
    return np.asarray(np.max(last, axis=tuple(range(last.ndim - 1)), initial=0.0))


def _scales(r: Array, axis: int, whole: float, tolerance: float, yardstick: OutputScale) -> Array:
    """Return s of each channel, shape (channels,)."""
    seen = _seen(r, axis)
    if yardstick.scale is not None:
        scales = np.broadcast_to(np.asarray(yardstick.scale, np.float64), seen.shape)
    elif not seen.any() or _is_distribution(r, axis):
        scales = np.full(seen.shape, whole)
    else:
        scales = np.maximum(seen, SMALLEST_SCALE * whole)
    granted = max(ROUNDING * whole, yardstick.step)
    return np.maximum(scales, granted / tolerance) if tolerance else scales


def _is_distribution(r: Array, axis: int) -> bool:
    """Say whether the channels are shares of one whole, as behind a softmax: then all have one scale."""
    last = _channels_last(r, axis)
    if last.size == 0 or last.shape[-1] < 2 or last.min() < 0:
        return False
    return bool(np.all(np.abs(last.sum(axis=-1) - 1) <= NEARLY_ONE))


def _spreads(r: Array, axis: int, yardstick: OutputScale) -> tuple[Spread, ...]:
    if yardstick.scale is not None or _is_distribution(r, axis):
        return ()
    found = (_spread(_seen(r, other), other) for other in range(max(r.ndim - 1, 1)))
    return tuple(spread for spread in found if spread is not None)


def _spread(seen: Array, axis: int) -> Spread | None:
    used = np.flatnonzero(seen)
    if used.size == 0:
        return None
    largest, smallest = int(np.argmax(seen)), int(used[np.argmin(seen[used])])
    if seen[largest] <= WIDE * seen[smallest]:
        return None
    return Spread(axis=axis, largest=(largest, float(seen[largest])), smallest=(smallest, float(seen[smallest])))


def _cosine(y: Array, r: Array) -> float:
    """Return the cosine of the angle between two finite arrays, each divided by its largest element first, so that
    neither overflows nor vanishes when it is squared."""
    largest_y, largest_r = float(np.max(np.abs(y), initial=0.0)), float(np.max(np.abs(r), initial=0.0))
    if largest_y == 0.0 or largest_r == 0.0:
        return 1.0 if largest_y == largest_r else 0.0
    y, r = y / largest_y, r / largest_r
    cosine = float(np.vdot(y, r) / (np.linalg.norm(y) * np.linalg.norm(r)))
    return min(1.0, max(-1.0, cosine))
