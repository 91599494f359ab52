"""From outputs to boxes, and how boxes match others: pure functions over NumPy arrays.

A box is left, top, right and bottom in pixels of the input.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from crossfarm.config.decoding import AnchorGrid, Anchors, Boxes, ScoreMap
from crossfarm.config.models import Box
from crossfarm.stages.data.tensors import Array

MATCH = 0.5
"""Least intersection over union of a box and the thing that it is around."""
SAME_EDGE = 1.0
"""Pixels by which an edge may be elsewhere and still be the same."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A box that a model gives.

    Attributes:
        score: how sure it is, 0 to 1.
        box: where.
    """

    score: float
    box: Box


def found_boxes(outputs: Mapping[str, Array], decode: Boxes, *, height: int, width: int) -> list[Found]:
    """Return the boxes of one case, the best first.

    Args:
        outputs: name -> output of the case; the first one holds the map where there is one.
        decode: how boxes are given.
        height: of the input.
        width: of the input.

    Raises:
        ValueError: an output is not there, or has not as many numbers as there are anchors.
    """
    if decode.map is not None:
        found = _map_boxes(next(iter(outputs.values())), decode.map, threshold=decode.threshold)
    elif decode.anchors is not None:
        found = _anchor_boxes(outputs, decode.anchors, threshold=decode.threshold, height=height, width=width)
    return without_overlaps(found, decode.overlap)


def anchor_centres(grids: Sequence[AnchorGrid], *, height: int, width: int) -> Array:
    """Return [x, y] of the centre of every anchor in pixels, shape (anchors, 2)."""
    parts = []
    for grid in grids:
        rows, columns = math.ceil(height / grid.stride), math.ceil(width / grid.stride)
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * grid.stride
        parts.append(np.repeat(centres, grid.count, axis=0))
    return np.concatenate(parts)


def _anchor_boxes(
    outputs: Mapping[str, Array], anchors: Anchors, *, threshold: float, height: int, width: int
) -> list[Found]:
    missing = [name for name in (anchors.boxes, anchors.scores) if name not in outputs]
    if missing:
        raise ValueError(f"there is no output {missing[0]!r}; outputs: {', '.join(outputs)}")
    centres = anchor_centres(anchors.grids, height=height, width=width)
    logits = np.asarray(outputs[anchors.scores], np.float64).reshape(-1)
    raw = np.asarray(outputs[anchors.boxes], np.float64)
    if len(logits) != len(centres) or raw.size % len(centres) or raw.size < 4 * len(centres):
        raise ValueError(
            f"the grids have {len(centres)} anchors, but {anchors.scores} has {len(logits)} numbers and "
            f"{anchors.boxes} {raw.size}"
        )
    raw = raw.reshape(len(centres), -1)
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -100.0, 100.0)))
    middles, halves = centres + raw[:, :2], raw[:, 2:4] / 2
    corners = np.concatenate([middles - halves, middles + halves], axis=1)
    return [
        Found(score=float(scores[number]), box=_box(corners[number])) for number in np.flatnonzero(scores >= threshold)
    ]


def _map_boxes(probabilities: Array, how: ScoreMap, *, threshold: float) -> list[Found]:
    """Return a box around each connected place of a map, as in Liao et al., Real-time Scene Text Detection with
    Differentiable Binarization, AAAI 2020, section 3.4, with upright boxes; its score is the mean over the place."""
    height, width = probabilities.shape[-2:]
    flat = np.asarray(probabilities, np.float64).reshape(height, width)
    found = []
    for rows, columns in connected_places(flat > how.threshold):
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        across, down = int(right - left), int(bottom - top)
        score = float(flat[rows, columns].mean())
        if min(across, down) < how.least or score < threshold:
            continue
        step = across * down * how.growth / (2 * (across + down))
        grown = (max(left - step, 0), max(top - step, 0), min(right + step, width), min(bottom + step, height))
        found.append(Found(score=score, box=_box(np.asarray(grown))))
    return found


def connected_places(marked: Array) -> list[tuple[Array, Array]]:
    """Return rows and columns of each connected place of marks, diagonals included, in the order of their first mark.

    Runs of marks of each row are joined with those of the row before that they touch.

    Args:
        marked: bool of shape (height, width).
    """
    edges = np.diff(marked.astype(np.int8), axis=1, prepend=0, append=0)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    parent = list(range(len(starts)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    first = np.searchsorted(starts[:, 0], np.arange(len(marked) + 1))
    for row in range(1, len(marked)):
        above, here = first[row - 1], first[row]
        while above < first[row] and here < first[row + 1]:
            if starts[above, 1] <= stops[here, 1] and starts[here, 1] <= stops[above, 1]:
                one, other = root(int(above)), root(int(here))
                parent[max(one, other)] = min(one, other)
            if stops[above, 1] < stops[here, 1]:
                above += 1
            else:
                here += 1
    members: dict[int, list[int]] = {}
    for run in range(len(starts)):
        members.setdefault(root(run), []).append(run)
    return [
        (
            np.concatenate([np.full(stops[run, 1] - starts[run, 1], starts[run, 0]) for run in runs]),
            np.concatenate([np.arange(starts[run, 1], stops[run, 1]) for run in runs]),
        )
        for runs in members.values()
    ]


def without_overlaps(found: Sequence[Found], overlap: float) -> list[Found]:
    """Return the boxes, the best first, without those that a better one covers by more than `overlap`."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda item: -item.score):
        if all(intersection_over_union(one.box, other.box) <= overlap for other in kept):
            kept.append(one)
    return kept


def intersection_over_union(one: Box, other: Box) -> float:
    """Return the share of the area of both boxes that they have in common; 0 for boxes without an area."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    common = max(across, 0.0) * max(down, 0.0)
    whole = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - common
    return common / whole if common > 0 and whole > 0 else 0.0


def are_same(found: Sequence[Found], expected: Sequence[Found]) -> bool:
    """Say whether two lists hold the same boxes: as many, and for each of one a different one of the other of which no
    edge is further than SAME_EDGE."""
    left = [item.box for item in expected]
    for item in found:
        near = [box for box in left if all(abs(a - b) <= SAME_EDGE for a, b in zip(box, item.box, strict=True))]
        if not near:
            return False
        left.remove(near[0])
    return not left


def average_precision(found: Sequence[Sequence[Found]], labelled: Sequence[Sequence[Box]]) -> float:
    """Return the area under precision over recall, boxes matched at an intersection over union of MATCH.

    Boxes of all cases in the order of their scores each take the thing that they cover most, if no better one took it.
    Precision at a recall is the best at that recall or a larger one: Everingham et al., The PASCAL Visual Object
    Classes Challenge: A Retrospective, IJCV 111 (2015), section 3.2.2. 1 where there is nothing and nothing is found.

    Args:
        found: boxes of each case.
        labelled: boxes around what there is, of each case.
    """
    things = sum(map(len, labelled))
    every = [(item.score, case, item.box) for case, items in enumerate(found) for item in items]
    ordered = sorted(every, key=lambda item: -item[0])
    if not things or not ordered:
        return float(not things and not ordered)
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, case, box in ordered:
        covers = [intersection_over_union(box, thing) for thing in labelled[case]]
        best = int(np.argmax(covers)) if covers else 0
        is_hit = bool(covers) and covers[best] >= MATCH and (case, best) not in taken
        if is_hit:
            taken.add((case, best))
        hits.append(is_hit)
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(best_from_here[np.asarray(hits)]) / things)


def _box(corners: Array) -> Box:
    left, top, right, bottom = (float(value) for value in corners)
    return (left, top, right, bottom)
