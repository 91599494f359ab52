"""Boxes: how they are read out of outputs, which are the same, and how precise they are."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crossfarm.config.decoding import AnchorGrid, Anchors, Boxes, ScoreMap
from crossfarm.stages.check.boxes import (
    Found,
    anchor_centres,
    are_same,
    average_precision,
    connected_places,
    found_boxes,
    intersection_over_union,
    without_overlaps,
)

GRIDS = (AnchorGrid(stride=8, count=2), AnchorGrid(stride=16, count=6))
ANCHORS = Boxes(kind="boxes", anchors=Anchors(boxes="where", scores="how sure", grids=GRIDS))


def _found(score: float, *box: float) -> Found:
    return Found(score=score, box=(box[0], box[1], box[2], box[3]))


def test_anchors_stand_in_the_middle_of_their_cells_row_by_row() -> None:
    centres = anchor_centres(GRIDS, height=128, width=128)
    assert len(centres) == 16 * 16 * 2 + 8 * 8 * 6 == 896
    assert centres[:4].tolist() == [[4, 4], [4, 4], [12, 4], [12, 4]]
    assert centres[512].tolist() == [8, 8]
    assert centres[-1].tolist() == [120, 120]


def test_a_box_is_read_against_its_anchor() -> None:
    where, sure = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), -200, np.float32)
    where[0, 3, :4], sure[0, 3] = [2, -1, 10, 20], 3
    (box,) = found_boxes({"where": where, "how sure": sure}, ANCHORS, height=128, width=128)
    assert box.box == (9, -7, 19, 13)
    assert box.score == pytest.approx(1 / (1 + np.exp(-3)))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"where": np.zeros((1, 896, 16))}, "there is no output 'how sure'; outputs: where"),
        ({"where": np.zeros((1, 896, 3)), "how sure": np.zeros((1, 896))}, "the grids have 896 anchors, but how sure"),
        ({"where": np.zeros((1, 896, 4)), "how sure": np.zeros((1, 895))}, "but how sure has 895 numbers"),
    ],
)
def test_outputs_that_do_not_fit_the_anchors_are_refused(outputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        found_boxes(outputs, ANCHORS, height=128, width=128)


def test_a_map_gives_a_box_around_each_place_that_grows_by_area_over_perimeter() -> None:
    probabilities = np.zeros((1, 1, 40, 60), np.float32)
    probabilities[0, 0, 10:20, 5:35] = 0.9  # a line
    probabilities[0, 0, 30:32, 5:35] = 0.9  # too flat
    probabilities[0, 0, 30:38, 45:55] = 0.4  # not sure enough
    found = found_boxes({"map": probabilities}, Boxes(kind="boxes", map=ScoreMap(growth=1.0)), height=40, width=60)
    step = 30 * 10 / (2 * (30 + 10))
    assert [item.box for item in found] == [(5 - step, 10 - step, 35 + step, 20 + step)]
    assert found[0].score == pytest.approx(0.9)


def _flooded(marked: Any) -> set[frozenset[tuple[int, int]]]:
    """Return the connected places by flooding, one mark after another."""
    left = {(int(row), int(column)) for row, column in np.argwhere(marked)}
    found = set()
    while left:
        queue, place = deque([left.pop()]), set()
        while queue:
            row, column = queue.popleft()
            place.add((row, column))
            near = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        found.add(frozenset(place))
    return found


@given(arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_connected_places_are_those_that_flooding_finds(marked: Any) -> None:
    places = connected_places(marked)
    assert {frozenset(zip(rows.tolist(), columns.tolist(), strict=True)) for rows, columns in places} == _flooded(
        marked
    )
    assert sum(len(rows) for rows, _ in places) == np.count_nonzero(marked)


def test_a_worse_box_over_a_better_one_is_dropped() -> None:
    good, worse, apart = _found(0.9, 0, 0, 10, 10), _found(0.8, 1, 0, 11, 10), _found(0.5, 30, 30, 40, 40)
    assert without_overlaps([apart, worse, good], 0.5) == [good, apart]
    assert without_overlaps([apart, worse, good], 0.9) == [good, worse, apart]


def test_the_share_of_two_boxes() -> None:
    assert intersection_over_union((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert intersection_over_union((5, 5, 5, 5), (5, 5, 5, 5)) == 0


def test_boxes_are_the_same_within_a_pixel_in_any_order() -> None:
    one, other = _found(0.9, 0, 0, 10, 10), _found(0.8, 20, 0, 30, 10)
    near = _found(0.9, 0.9, 0, 10, 11)
    assert are_same([one, other], [other, near])
    assert not are_same([one], [one, other])
    assert not are_same([one, one], [one, other])
    assert not are_same([_found(0.9, 0, 0, 10, 11.5)], [one])
    assert not are_same([_found(0.9, 0, 0, float("nan"), 10)], [one])


@pytest.mark.parametrize(
    ("found", "labelled", "expected"),
    [
        ([[]], [[]], 1.0),
        ([[_found(0.9, 0, 0, 10, 10)]], [[]], 0.0),
        ([[]], [[(0, 0, 10, 10)]], 0.0),
        ([[_found(0.9, 0, 0, 10, 9)]], [[(0, 0, 10, 10)]], 1.0),
        # The same thing is found once only; the second box is wrong, but worse, so that nothing is lost.
        ([[_found(0.9, 0, 0, 10, 10), _found(0.8, 0, 0, 10, 9)]], [[(0, 0, 10, 10)]], 1.0),
        # A wrong box before the right ones: precision 1/2 at the first, 2/3 at the second thing, so 2/3 at both.
        (
            [[_found(0.9, 50, 50, 60, 60), _found(0.8, 0, 0, 10, 10)], [_found(0.7, 0, 0, 10, 10)]],
            [[(0, 0, 10, 10)], [(0, 0, 10, 10)]],
            2 / 3,
        ),
        ([[_found(0.9, 0, 0, 10, 10)], []], [[(0, 0, 10, 10)], [(0, 0, 10, 10)]], 0.5),
    ],
)
def test_precision_over_recall(found: Any, labelled: Any, expected: float) -> None:
    assert average_precision(found, labelled) == pytest.approx(expected)
