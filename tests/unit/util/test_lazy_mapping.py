"""A mapping whose values are made when they are asked for: once each, in the order of the keys, and no others."""

from __future__ import annotations

import pytest

from crossfarm.util.lazy_mapping import LazyMapping


def test_a_value_is_made_when_it_is_first_asked_for_and_only_then() -> None:
    asked: list[str] = []
    mapping = LazyMapping(("b", "a"), lambda name: asked.append(name) or name.upper())
    assert (list(mapping), len(mapping), asked) == (["b", "a"], 2, [])
    assert (mapping["a"], mapping["a"], asked) == ("A", "A", ["a"])


def test_a_name_that_is_not_there_makes_nothing() -> None:
    mapping = LazyMapping((), lambda name: pytest.fail(f"{name} was made"))
    with pytest.raises(KeyError):
        mapping["a"]
