"""Bundles: which cases belong to a sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfarm.bundles.contents import sequences_of


def test_cases_that_continue_are_a_sequence_with_the_one_before_them() -> None:
    found = sequences_of([False, False, True, True, False, False, True])
    assert [(one.first, one.cases) for one in found] == [(1, 3), (5, 2)]


@given(st.lists(st.booleans()))
def test_sequences_say_of_every_case_whether_it_continues(continues: list[bool]) -> None:
    inside = {one.first + k for one in sequences_of(continues) for k in range(1, one.cases)}
    assert inside == {number for number, goes_on in enumerate(continues) if goes_on and number}
