"""From scores to classes, texts and decisions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.stages.check.decoding import class_name, ctc_text, decisions, top_classes

CHARACTERS = ("", *"0123456789", " ")


def _scores(path: list[int]) -> np.ndarray:
    return np.eye(len(CHARACTERS), dtype=np.float32)[path][np.newaxis]


@given(st.lists(st.floats(min_value=-10, max_value=10, width=32), min_size=1, max_size=30), st.integers(1, 10))
def test_the_best_classes_come_first_and_once(scores: list[float], count: int) -> None:
    best = top_classes(np.array(scores), count)
    assert len(best) == len(set(best)) == min(count, len(scores))
    values = [scores[index] for index in best]
    assert values == sorted(scores, reverse=True)[: len(best)]


def test_of_equal_scores_the_smaller_class_comes_first() -> None:
    assert top_classes(np.array([[0.2, 0.4, 0.4]]), 3) == [1, 2, 0]


def test_a_class_goes_by_the_first_of_its_names() -> None:
    assert class_name(1, ["x", "tench, Tinca tinca"]) == "tench"
    assert class_name(7, ["x"]) == class_name(7, None) == "class 7"


@given(st.text(alphabet="0123456789 ", max_size=12), st.data())
def test_greedy_ctc_reads_back_any_text_however_it_is_drawn_out(text: str, data: st.DataObject) -> None:
    path: list[int] = []
    for before, character in itertools.pairwise(" " + text):
        index = CHARACTERS.index(character) if character != " " else len(CHARACTERS) - 1
        is_repeat = path and before == character
        path += [0] * data.draw(st.integers(1 if is_repeat else 0, 2))
        path += [index] * data.draw(st.integers(1, 3))
    path += [0] * data.draw(st.integers(0 if path else 1, 2))
    assert ctc_text(_scores(path), CHARACTERS) == text


def test_repeats_are_merged_unless_a_blank_parts_them() -> None:
    assert ctc_text(_scores([1, 1, 2, 0, 2]), CHARACTERS) == "011"


def test_more_scores_than_characters_are_refused() -> None:
    with pytest.raises(ValueError, match="12 scores, but 2 characters"):
        ctc_text(_scores([1]), ("", "a"))


def test_a_decision_lies_above_the_threshold_and_nan_decides_nothing() -> None:
    assert decisions(np.array([[0.4], [0.5], [0.6], [np.nan]]), 0.5) == [0, 0, 1, 0]
