"""quick_init: objects are made as dataclasses makes them, with the same errors, and stay frozen."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from crossfarm.util.quick_init import quick_init


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain:
    name: str
    count: int = 3
    items: list[int] = dataclasses.field(default_factory=list)


@quick_init
@dataclasses.dataclass(frozen=True, kw_only=True)
class Quick:
    name: str
    count: int = 3
    items: list[int] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize("given", [{"name": "a"}, {"name": "a", "count": 5}, {"name": "a", "items": [1], "count": 0}])
def test_fields_are_what_dataclasses_would_make_them(given: dict[str, object]) -> None:
    assert dataclasses.asdict(Quick(**given)) == dataclasses.asdict(Plain(**given))  # type: ignore[arg-type]
    assert Quick(**given) == Quick(**given)  # type: ignore[arg-type]


def test_the_signature_has_the_same_names_and_all_are_keywords() -> None:
    quick, plain = inspect.signature(Quick).parameters, inspect.signature(Plain).parameters
    assert list(quick) == list(plain)
    assert {parameter.kind for parameter in quick.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_each_gets_a_list_of_its_own_and_may_be_replaced_in_part() -> None:
    one, two = Quick(name="a"), Quick(name="b")
    one.items.append(1)
    assert two.items == []
    assert dataclasses.replace(one, name="c") == Quick(name="c", items=[1])


@pytest.mark.parametrize("given", [{}, {"name": "a", "other": 1}])
def test_a_missing_or_unknown_field_is_an_error(given: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Quick(**given)  # type: ignore[arg-type]


def test_it_stays_frozen() -> None:
    made = Quick(name="a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]
